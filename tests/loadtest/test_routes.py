from pathlib import Path

from loadtest.routes import Route, read_all_routes, read_routes
from models.tasks.remote.client import Client
from tests.server import ROOT, serve
from tests.service.conftest import write_bundle

BUNDLES = ROOT / "bundles"


def test_the_service_s_own_routes_are_read_with_an_example_for_each(tmp_path: Path) -> None:
    for task in ("qa", "classify", "similarity", "rerank"):
        write_bundle(tmp_path / task, task)
    with serve(tmp_path) as (_, url):
        routes = {route.path: route for route in read_routes(Client(url))}
    assert list(routes) == ["/qa", "/classify", "/similarity", "/embed", "/rerank"]
    assert routes["/embed"] == Route("/embed", "similarity", {"inputs": "A man is playing a guitar."})


def test_a_model_s_routes_are_those_of_its_task_and_name_it(tmp_path: Path) -> None:
    (tmp_path / "similarity").symlink_to(BUNDLES / "similarity")
    write_bundle(tmp_path / "qa")
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
    write_bundle(tmp_path / "classify", "classify")
    with serve(tmp_path) as (_, url):
        assert [route.path for route in read_routes(Client(url))] == ["/classify"]
