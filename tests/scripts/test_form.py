"""The form of the code: the measures themselves on small trees, and their bounds on this one."""

import ast
from pathlib import Path

import pytest

from models.tasks.build import SPECS
from scripts.form import (
    ROOT,
    TASK_HOMES,
    Form,
    cycles,
    form,
    imports,
    mentions,
    namespaces,
    task_names,
    upward_arrows,
    way_of_a_request,
)

MAX_MODULES, MAX_FILES, MAX_STAYS = 15, 14, 40


def write(root: Path, **sources: str) -> Path:
    for name, source in sources.items():
        path = root / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return root


def test_a_circle_of_imports_is_found_under_type_checking_too(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        service__a="from service import b",
        service__b="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from service.a import A",
    )
    [circle] = cycles(imports(root))
    assert set(circle.split(" -> ")) == {"service.a", "service.b"}


def test_a_folder_that_imports_what_imports_it_is_an_arrow_back_up(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        service__app="from service.engine.engine import Engine",
        service__errors="import service.app",
        service__engine__engine="import service.engine.job",
        service__engine__job="from service.errors import E",
    )
    assert len(upward_arrows(imports(root))) == 1
    root = write(tmp_path, service__errors="")
    assert upward_arrows(imports(root)) == []


def test_a_task_named_outside_its_homes_is_found(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        service__app='"""Serves dance."""\nif task == "dance": pass',
        service__routes='ROUTES = ["dance"]',
    )
    assert task_names(root, {"dance"}) == ["service/app.py:2 dance"]


def test_every_home_of_a_task_is_lived_in() -> None:
    homes = [ROOT / home for home in TASK_HOMES if not home.startswith("models/finetune/")]
    assert all(mentions(ast.parse(home.read_text()), SPECS) for home in homes)


@pytest.mark.parametrize(
    "line", ['task = "qa"', "def classify(): ...", "def ask(similarity): ...", "ask(qa=1)", '{"classify": 1}']
)
def test_a_task_s_name_is_noticed(line: str) -> None:
    assert mentions(ast.parse(line), SPECS)


def test_modules_flags_and_routes_are_not_names_of_tasks() -> None:
    source = 'from models.tasks.qa import SPEC\nadd("--classify")\npost("/qa")'
    assert mentions(ast.parse(source), SPECS) == []


def test_an_untyped_namespace_is_found(tmp_path: Path) -> None:
    root = write(tmp_path, models__ablate="def run(first: int, arguments: argparse.Namespace) -> None: ...")
    assert namespaces(root) == ["models/ablate.py:1 run"]


@pytest.fixture(scope="module")
def this_tree() -> Form:
    return form()


@pytest.mark.parametrize("rule", ["cycles", "upward_arrows", "task_names", "namespaces"])
def test_this_tree_breaks_no_rule(this_tree: Form, rule: str) -> None:
    assert getattr(this_tree, rule) == []


def test_no_folder_of_this_tree_holds_more_than_fifteen_modules(this_tree: Form) -> None:
    _, size = this_tree.largest_folder
    assert size <= MAX_MODULES


def test_a_question_visits_few_files_and_changes_file_seldom() -> None:
    way = way_of_a_request()
    assert way.files <= MAX_FILES, way.sequence
    assert way.stays <= MAX_STAYS, way.sequence
