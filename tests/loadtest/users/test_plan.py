"""The plan that Locust's processes get: the same on the other side, and what each user sends."""

from itertools import islice

from loadtest.routes import Route
from loadtest.users.plan import Plan, read_plan

ROUTES = (Route("/qa", "qa", {"question": "Who?", "context": "Anna"}), Route("/embed", "similarity", {"inputs": "a"}))
PAYLOADS = (("/qa?x", {"a": 1}), ("/qa", {"a": 2}), ("/embed", {"a": 3}))


def test_it_is_read_as_it_was_written() -> None:
    plan = Plan(routes=ROUTES, payloads=PAYLOADS, shape="spike", rate=5.0, workers=2)
    assert read_plan(plan.text()) == plan


def test_users_take_the_routes_in_turn_and_an_open_loop_all_of_them() -> None:
    plan = Plan(routes=ROUTES)
    assert [next(plan.requests_of_user(number))[0] for number in range(3)] == ["/qa", "/embed", "/qa"]
    assert [path for path, _ in islice(plan.requests_of_all(0), 4)] == ["/qa", "/embed", "/qa", "/embed"]
    assert plan.paths == ["/qa", "/embed"]


def test_each_payload_is_sent_as_often_as_any_other() -> None:
    plan = Plan(routes=ROUTES, payloads=PAYLOADS)
    for requests in (plan.requests_of_user(1), plan.requests_of_all(1)):
        sent = [body["a"] for _, body in islice(requests, 6)]
        assert sorted(sent) == [1, 1, 2, 2, 3, 3]
    assert plan.paths == ["/qa", "/embed"]
