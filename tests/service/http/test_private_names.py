"""Names of other libraries that they do not document: while we use them, each library is held to one minor version."""

import ast
import dis
import inspect
import re
import tomllib
from types import ModuleType

import pytest
import uvicorn
from fastapi.routing import APIRoute
from packaging.requirements import Requirement
from packaging.version import Version
from starlette.middleware.cors import CORSMiddleware
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from service import routes
from service.http import middleware, protocol, server
from tests.server import ROOT

# By the class that has them; what we override counts too, for a base class that calls it otherwise would pass us by.
PRIVATE_NAMES: dict[type, set[str]] = {
    HttpToolsProtocol: {
        "config",
        "connection_made",
        "cycle",
        "data_received",
        "headers",
        "on_headers_complete",
        "on_message_complete",
        "on_response_complete",
        "parser",
        "pipeline",
        "scope",
        "send_400_response",
        "transport",
        "url",
    },
    RequestResponseCycle: {"more_body", "response_complete", "scope"},
    uvicorn.Server: {"config", "handle_exit", "main_loop", "on_tick", "server_state", "should_exit"},
    ServerState: {"connections"},
    APIRoute: {"app", "path"},
    CORSMiddleware: {"preflight_response"},
}
SUBCLASSES: list[tuple[ModuleType, str, type]] = [
    (protocol, "HttpProtocol", HttpToolsProtocol),
    (server, "Server", uvicorn.Server),
    (routes, "JsonRoute", APIRoute),
    (middleware, "Cors", CORSMiddleware),
]


def names_of(class_: type) -> set[str]:
    """What it defines, and what its methods assign."""
    methods = [method for base in class_.__mro__[:-1] for method in vars(base).values() if inspect.isfunction(method)]
    instructions = [instruction for method in methods for instruction in dis.get_instructions(method)]
    return set(dir(class_)) | {each.argval for each in instructions if each.opname == "STORE_ATTR"}


@pytest.mark.parametrize("class_", PRIVATE_NAMES, ids=lambda class_: class_.__name__)
def test_every_private_name_that_we_use_is_there(class_: type) -> None:
    assert PRIVATE_NAMES[class_] - names_of(class_) == set()


@pytest.mark.parametrize(("module", "name", "base"), SUBCLASSES, ids=lambda part: getattr(part, "__name__", part))
def test_every_inherited_name_that_a_subclass_of_ours_uses_is_listed(module: ModuleType, name: str, base: type) -> None:
    tree = ast.parse(inspect.getsource(module))
    [definition] = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
    attributes = [node for node in ast.walk(definition) if isinstance(node, ast.Attribute)]
    used = {node.attr for node in attributes if isinstance(node.value, ast.Name) and node.value.id == "self"}
    used |= {node.name for node in definition.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    inherited = {attribute for attribute in used & names_of(base) if not attribute.startswith("__")}
    assert inherited - PRIVATE_NAMES[base] == set()


@pytest.mark.parametrize("library", ["fastapi", "starlette", "uvicorn"])
def test_a_library_whose_private_names_we_use_is_held_to_one_minor_version(library: str) -> None:
    lines = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    [requirement] = [each for each in map(Requirement, lines) if each.name == library]
    pin = re.search(rf"^{library}==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pin
    tested = Version(pin[1])
    assert str(tested) in requirement.specifier
    assert f"{tested.major}.{tested.minor + 1}.0" not in requirement.specifier
    if tested.minor:
        assert f"{tested.major}.{tested.minor - 1}.99" not in requirement.specifier
