"""A task is named in its homes alone: its kernel, its recipe, its rows in the table of routes."""

import ast
from collections.abc import Iterable
from pathlib import Path

import pytest

from models.tasks.build import SPECS

ROOT = Path(__file__).parents[1]
ROUTES = Path("service/routes.py")
HOMES = {
    *(
        Path("models", folder, f"{module}.py")
        for folder in ("tasks", "finetune")
        for module in ("qa", "classification", "similarity")
    ),
    ROUTES,
}


def mentions(source: str, names: Iterable[str]) -> list[tuple[int, str]]:
    """Line and name of each string or identifier that is a task's name. A module's name in an import is neither."""
    wanted, found = set(names), list[tuple[int, str]]()
    for node in ast.walk(ast.parse(source)):
        match node:
            case (
                ast.Constant(value=str(name))
                | ast.Name(id=name)
                | ast.arg(arg=name)
                | ast.FunctionDef(name=name)
                | ast.keyword(arg=str(name))
            ) if name in wanted:
                found.append((node.lineno, name))
    return sorted(found)


def strays(package: str, homes: Iterable[Path] = HOMES) -> list[str]:
    """Where code under a package names a task outside its homes."""
    allowed = {ROOT / home for home in homes}
    return [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in sorted((ROOT / package).rglob("*.py"))
        if path not in allowed
        for line, name in mentions(path.read_text(), SPECS)
    ]


@pytest.mark.parametrize("package", ["models", "export", "service"])
def test_tasks_are_named_in_their_homes_alone(package: str) -> None:
    assert strays(package) == []


def test_every_home_is_lived_in() -> None:
    homes = [ROUTES, *(home for home in HOMES if home.parent.name == "tasks")]
    assert all(mentions((ROOT / home).read_text(), SPECS) for home in homes)


@pytest.mark.parametrize(
    "line", ['task = "qa"', "def classify(): ...", "def ask(similarity): ...", "ask(qa=1)", '{"classify": 1}']
)
def test_a_task_s_name_is_noticed(line: str) -> None:
    assert mentions(line, SPECS)


def test_modules_flags_and_routes_are_not_names_of_tasks() -> None:
    assert mentions('from models.tasks.qa import SPEC\nadd("--classify")\npost("/qa")', SPECS) == []
