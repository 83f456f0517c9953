"""One tree of errors, as it is drawn, and the one line in which every command reports each of them."""

import ast
import builtins
import importlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

import halfdepth
from models.tasks import errors
from models.tasks.errors import OURS, HalfdepthError, first_line, run_command
from tests.server import ROOT

MODULES = [command.module for command in halfdepth.COMMANDS.values()]
MODULES += ["export.bench.__main__", "loadtest.ceiling", "loadtest.slow", "models.speed"]


def classes() -> Iterator[tuple[str, str, str]]:
    """Every class of ours: the module that defines it, its name, and its first base."""
    for package in OURS:
        for path in (ROOT / package).rglob("*.py"):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef) and node.bases:
                    yield module, node.name, ast.unparse(node.bases[0]).rpartition(".")[2]


def is_exception(name: str) -> bool:
    builtin = getattr(builtins, name, None)
    return isinstance(builtin, type) and issubclass(builtin, BaseException)


def our_errors() -> dict[tuple[str, str], str]:
    """The module of every exception class of ours, by the names of its base and of itself."""
    found: dict[tuple[str, str], str] = {}
    while True:
        ours = {name for _, name in found}
        more = {(base, name): module for module, name, base in classes() if base in ours or is_exception(base)}
        if more == found:
            return found
        found = more


def drawing() -> dict[tuple[str, str], int | None]:
    """The exit status that is drawn, if any, by the same names."""
    drawn: dict[tuple[str, str], int | None] = {}
    branch = ["Exception"]
    for spaces, name, status in re.findall(r"^( *)[*-] (\w+) *(\d*)$", errors.__doc__ or "", re.MULTILINE):
        depth = len(spaces) // 2
        branch[depth + 1 :] = [name]
        drawn[branch[depth], name] = int(status) if status else None
    return drawn


def test_the_drawing_shows_every_error_of_ours_in_its_place() -> None:
    assert set(drawing()) == set(our_errors())


def test_the_drawing_shows_the_exit_statuses() -> None:
    modules = our_errors()
    stated = {names: status for names, status in drawing().items() if status is not None}
    assert len(stated) >= 5
    for names, status in stated.items():
        error: type[HalfdepthError] = getattr(importlib.import_module(modules[names]), names[1])
        assert (names[1], error.exit_status) == (names[1], status)


def failing(error: Exception) -> Callable[..., int]:
    def fail(*_: object) -> int:
        raise error

    return fail


@pytest.fixture(scope="module")
def error_classes() -> list[type[HalfdepthError]]:
    return [getattr(importlib.import_module(module), name) for (_, name), module in our_errors().items()]


@pytest.mark.parametrize("name", MODULES)
def test_every_command_reports_each_error_in_one_line(
    name: str,
    error_classes: list[type[HalfdepthError]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    module: ModuleType = importlib.import_module(name)
    every_class: list[type[Exception]] = [*error_classes, PermissionError]
    for error_class in every_class:
        error = error_class.__new__(error_class, "this is wrong\nand here is advice")
        monkeypatch.setattr(module, "run", failing(error))
        status = module.main([], prog="halfdepth it")
        assert capsys.readouterr().err == "halfdepth it: this is wrong\n"
        assert status == getattr(error_class, "exit_status", 2) != 0


@pytest.mark.parametrize("name", MODULES)
def test_a_bug_of_ours_is_no_bad_input_of_any_command(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module: ModuleType = importlib.import_module(name)
    monkeypatch.setattr(module, "run", failing(ValueError("temperature must be above 0")))
    with pytest.raises(ValueError, match="temperature"):
        module.main([])


def test_a_command_without_a_status_ended_well() -> None:
    assert run_command("prog", lambda: None) == 0
    assert run_command("prog", lambda status: status, 7) == 7


def test_an_error_without_words_is_named() -> None:
    assert first_line(HalfdepthError()) == "HalfdepthError"


def of_system(call: Callable[[], object]) -> str:
    with pytest.raises(OSError, match="Errno") as caught:
        call()
    return first_line(caught.value)


def test_errors_of_the_operating_system_say_what_is_wrong_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("folder").mkdir()
    for call, text in (
        (Path("missing").read_text, "missing does not exist"),
        (Path("missing/deep/file").read_text, "missing/deep does not exist"),
        (Path("file/below/it").read_text, "file is not a directory"),
        (Path("file").rmdir, "file is not a directory"),
        (Path("folder").read_text, "folder is a directory, not a file"),
        (Path("folder").mkdir, "folder exists already"),
        (Path("n" * 300).read_text, f"{'n' * 300} cannot be used: File name too long"),
    ):
        assert of_system(call) == text
    assert first_line(FileNotFoundError(2, "No such file or directory", b"missing")) == "missing does not exist"
    assert first_line(OSError(28, "No space left on device")) == "No space left on device"
    assert first_line(OSError("a library's own\nwith advice")) == "a library's own"
