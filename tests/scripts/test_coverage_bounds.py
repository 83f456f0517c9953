"""The bounds of coverage hold for lines and for branches of each part."""

import json
from pathlib import Path
from typing import Any

import pytest

from scripts.coverage_bounds import main


def summary(lines: int, branches: int) -> Any:  # of a hundred, as coverage.py writes it
    counts = {"covered_lines": lines, "num_statements": 100, "covered_branches": branches, "num_branches": 100}
    return {"summary": counts | {"percent_covered": 100.0}}


def write(directory: Path, **files: Any) -> str:  # each as above
    path = directory / "report.json"
    path.write_text(json.dumps({"files": {name.replace("__", "/") + ".py": file for name, file in files.items()}}))
    return str(path)


def test_the_files_of_a_part_are_added_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = write(
        tmp_path, service__a=summary(90, 91), service__http__b=summary(100, 100), models__tasks__qa=summary(95, 99)
    )
    assert main([report]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "service: 190 of 200 lines (95.0%), 191 of 200 branches (95.5%)",
        "models/tasks: 95 of 100 lines (95.0%), 99 of 100 branches (99.0%)",
    ]


@pytest.mark.parametrize("part", ["service", "models__tasks"])
@pytest.mark.parametrize("counts", [(94, 100), (100, 94)])
def test_lines_or_branches_of_one_part_below_the_bound_fail(
    part: str, counts: tuple[int, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {"service__a": summary(100, 100), "models__tasks__a": summary(100, 100)} | {f"{part}__a": summary(*counts)}
    assert main([write(tmp_path, **files)]) == 1
    assert "94.0%" in capsys.readouterr().out


def test_a_part_without_any_file_fails(tmp_path: Path) -> None:
    assert main([write(tmp_path, service__a=summary(100, 100))]) == 1


def test_a_part_s_name_at_the_beginning_of_another_folder_s_is_not_that_part(tmp_path: Path) -> None:
    report = write(tmp_path, service__a=summary(96, 96), models__tasks__qa=summary(96, 96), services__b=summary(0, 0))
    assert main([report]) == 0
