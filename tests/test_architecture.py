"""The rules of the layout that no linter knows (`make map` says what each module is for)."""

import ast
import re
import sys
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from loadtest.peers.registry import PEERS, Peer

ROOT = Path(__file__).parents[1]
PACKAGES = ("models", "export", "service", "loadtest")
COMMAND = Path("halfdepth.py")
SOURCES = [COMMAND, *sorted(path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))]
TESTS = sorted(path.relative_to(ROOT) for path in (ROOT / "tests").rglob("*.py"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

# The folder of a file: what it may import of ours, and the extras whose libraries it may use beside the base.
ARROWS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "halfdepth.py": (("models.tasks",), ()),  # commands are imported by their names, once they are asked for
    "models/tasks": (("models.tasks",), ()),
    "models": (("models",), ("train",)),
    "export": (("export", "models"), ("train",)),
    "service/ray_app.py": (("service", "models.tasks"), ("ray",)),
    "service/batch/ray_data.py": (("service", "models.tasks"), ("ray",)),
    "service": (("service", "models.tasks"), ("otel",)),  # imported once traces are asked for
    "loadtest": (("loadtest", "models.tasks"), ("loadtest",)),  # the kernel in process is what HTTP is held against
}
KERNEL_LIBRARIES = {"numpy", "tokenizers", "pydantic"}
# Servers of other people's libraries run in environments of their own, whose contents the table of peers names.
PEER_SERVERS = Path("loadtest/peers/servers")


def folder_of(path: Path) -> str:
    return next(folder for folder in ARROWS if path.is_relative_to(folder))


def imports(source: str) -> set[str]:
    """Dotted names that a module imports, `from a import b` as a.b; relative imports are refused."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def misdirected(path: Path, source: str) -> set[str]:
    """Imports of our own packages that the arrows forbid."""
    allowed, _ = ARROWS[folder_of(path)]
    ours = {name for name in imports(source) if name.split(".")[0] in PACKAGES}
    return {name for name in ours if not any(f"{name}.".startswith(f"{prefix}.") for prefix in allowed)}


@cache
def installed() -> Mapping[str, list[str]]:
    """The distributions that bring each importable name."""
    return packages_distributions()


def declared(extras: tuple[str, ...]) -> set[str]:
    """Distributions that pyproject.toml names for the base and for these extras."""
    project = PYPROJECT["project"]
    lines = project["dependencies"] + [line for extra in extras for line in project["optional-dependencies"][extra]]
    return {canonicalize_name(Requirement(line).name) for line in lines}


def libraries(source: str) -> set[str]:
    tops = {name.split(".")[0] for name in imports(source)}
    return tops - sys.stdlib_module_names - {*PACKAGES, COMMAND.stem, "docs", "scripts", "tests"}


def undeclared(source: str, extras: tuple[str, ...]) -> set[str]:
    """Imported libraries that none of their distributions declares: they came along with another one."""
    known = declared(extras)
    return {
        top
        for top in libraries(source)
        # One that is not installed here, as the extra `ray`, is known by its own name.
        if not known & {canonicalize_name(name) for name in installed().get(top, [top])}
    }


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_imports_go_one_way(path: Path) -> None:
    backward = misdirected(path, (ROOT / path).read_text())
    assert backward == set()


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("service/engine/engine.py", "from models.student import init_student"),
        ("service/engine/engine.py", "from models import student"),
        ("service/engine/engine.py", "import export.verify"),
        ("models/tasks/qa.py", "def f():\n    from models.losses import soft_target_loss"),
        ("models/data.py", "import export"),
        ("export/verify.py", "from service.engine.engine import Engine"),
        ("loadtest/bench/plain.py", "from service.app import create_app"),
    ],
)
def test_a_backward_import_is_noticed(path: str, line: str) -> None:
    assert misdirected(Path(path), line)


@pytest.mark.parametrize("path", [path for path in SOURCES if path.parent != PEER_SERVERS], ids=str)
def test_every_imported_library_is_declared_for_its_package(path: Path) -> None:
    _, extras = ARROWS[folder_of(path)]
    missing = undeclared((ROOT / path).read_text(), extras)
    assert missing == set()


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_every_library_of_a_peers_server_is_among_what_its_environment_gets(peer: Peer) -> None:
    named = {canonicalize_name(Requirement(line).name) for line in peer.requirements}
    modules = reached(Path(f"{peer.module.replace('.', '/')}.py"))
    needed = set().union(*(libraries((ROOT / module).read_text()) for module in modules))
    # They bring one another: numpy comes with onnxruntime, tokenizers with transformers, starlette with ray[serve].
    brought = {"numpy", "pydantic", "starlette", "tokenizers"}
    extra = {"optimum"} if named & {"optimum-onnx", "optimum-intel"} else set()
    assert {canonicalize_name(name) for name in needed} - named - brought - extra == set()


def test_export_needs_no_library_but_optimum_beyond_its_extra() -> None:
    sources = [(ROOT / path).read_text() for path in reached(Path("export/__main__.py"))]
    assert set().union(*(undeclared(source, ("export",)) for source in sources)) == {"optimum"}


@pytest.mark.parametrize("path", TESTS, ids=str)
def test_every_library_of_a_test_is_declared(path: Path) -> None:
    missing = undeclared((ROOT / path).read_text(), ("train", "loadtest", "otel", "dev"))
    assert missing == set()


@pytest.mark.parametrize("library", ["torch", "transformers", "optimum", "onnx", "yaml"])
def test_the_service_can_declare_no_training_library(library: str) -> None:
    assert undeclared(f"import {library}", ()) == {library}


@pytest.mark.parametrize("path", [path for path in SOURCES if path.is_relative_to("models/tasks")], ids=str)
def test_the_kernel_uses_three_libraries_alone_and_opens_graphs_in_one_module(path: Path) -> None:
    runtime = {"onnxruntime"} if path == Path("models/tasks/session.py") else set()
    assert libraries((ROOT / path).read_text()) <= KERNEL_LIBRARIES | runtime


def reached(path: Path) -> set[Path]:
    """The module and all modules of ours that it imports, directly or through others."""
    found, new = set[Path](), {path}
    while new:
        found |= new
        names = set().union(*(imports((ROOT / module).read_text()) for module in new))
        # The last part of `a.b.c` may be a name in a module, or a module.
        modules = names | {name.rpartition(".")[0] for name in names}
        new = ({Path(f"{module.replace('.', '/')}.py") for module in modules} & set(SOURCES)) - found
    return found


@pytest.mark.parametrize("path", [path for path in SOURCES if path.is_relative_to("service/engine")], ids=str)
def test_the_engine_knows_no_http(path: Path) -> None:
    modules = reached(path)
    web = {"starlette", "fastapi", "uvicorn", "http", "service.errors", "service.http"}
    names = set().union(*(imports((ROOT / module).read_text()) for module in modules))
    assert {name for name in names if any(f"{name}.".startswith(f"{prefix}.") for prefix in web)} == set()


def test_what_a_module_reaches_is_seen_through_others() -> None:
    modules = reached(Path("service/http/gate.py"))
    assert {Path("service/errors.py"), Path("service/engine/errors.py")} <= modules
    assert Path("service/engine/queue.py") not in modules


@pytest.mark.parametrize("path", [path for path in SOURCES if folder_of(path) in ("service", "models/tasks")], ids=str)
def test_onnxruntime_is_imported_in_one_module(path: Path) -> None:
    assert "onnxruntime" not in libraries((ROOT / path).read_text()) or path == Path("models/tasks/session.py")


@pytest.mark.parametrize("path", [path for path in SOURCES if folder_of(path) in ("service", "models/tasks")], ids=str)
def test_the_service_unpickles_nothing(path: Path) -> None:
    source = (ROOT / path).read_text()
    tops = {name.split(".")[0] for name in imports(source)}
    assert not tops & {"pickle", "shelve", "marshal", "dill", "joblib", "cloudpickle"}
    assert not re.search(r"\b(np|numpy)\.load\b|\beval\(|\bexec\(", source)


def test_init_files_are_empty() -> None:
    assert [path for path in SOURCES + TESTS if path.name == "__init__.py" and (ROOT / path).read_text()] == []


def test_no_module_is_a_drawer_for_everything() -> None:
    assert [path for path in SOURCES + TESTS if re.search(r"(^|_)(utils?|commons?|helpers?)$", path.stem)] == []


def test_no_file_exceeds_the_wall_of_400_lines() -> None:
    assert [path for path in SOURCES + TESTS if len((ROOT / path).read_text().splitlines()) > 400] == []


@pytest.mark.parametrize("path", [path for path in SOURCES if path.name != "__init__.py"], ids=str)
def test_every_module_begins_with_a_line_that_says_what_it_is(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse((ROOT / path).read_text()))
    assert docstring
    assert len(docstring.partition("\n")[0]) <= 100


def test_the_version_is_the_changelogs_newest_release() -> None:
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased"
    before_the_first_release = "0.1.0"
    assert PYPROJECT["project"]["version"] == [*headings[1:], before_the_first_release][0]


def test_every_declared_dependency_is_constrained_to_one_public_version() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pins = [re.fullmatch(r"([\w.-]+)==([\w.!]+)", line) for line in lines]  # no `+cpu`, no URL
    assert all(pins), [line for line, pin in zip(lines, pins, strict=True) if not pin]
    names = {canonicalize_name(pin[1]) for pin in pins if pin}
    assert declared(("train", "loadtest", "otel", "dev")) - names == set()
