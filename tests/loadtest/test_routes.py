from pathlib import Path

from loadtest.routes import Route, read_all_routes, read_routes
from models.tasks.remote.client import Client
from tests.server import ROOT, serve

BUNDLES = ROOT / "bundles"


def test_the_service_s_own_routes_are_read_with_an_example_for_each() -> None:
    with serve(BUNDLES) as (_, url):
        routes = {route.path: route for route in read_routes(Client(url))}
    assert list(routes) == ["/qa", "/classify", "/similarity", "/embed", "/rerank"]
    assert routes["/embed"] == Route("/embed", "similarity", {"inputs": "A man is playing a guitar."})


def test_a_model_s_routes_are_those_of_its_task_and_name_it(tmp_path: Path) -> None:
    for name in ("similarity", "qa"):
        (tmp_path / name).symlink_to(BUNDLES / name)
    with serve(tmp_path) as (_, url):
        for name in ("similarity", "minilm-l3-similarity"):
            routes = read_routes(Client(url), name)
            assert [(route.path, route.choice) for route in routes] == [
                ("/similarity", {"model": name}),
                ("/embed", {"model": name}),
            ]
        assert read_routes(Client(url), "unheard-of") == []
        assert [(route.path, route.choice) for route in read_all_routes(Client(url), "similarity")] == [
            ("/qa", {}),
            ("/similarity", {"model": "similarity"}),
            ("/embed", {"model": "similarity"}),
        ]


def test_routes_without_a_bundle_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "classify").symlink_to(BUNDLES / "classify")
    with serve(tmp_path) as (_, url):
        assert [route.path for route in read_routes(Client(url))] == ["/classify"]
