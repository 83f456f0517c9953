"""What README and docs say of the committed report: it agrees with its JSON, and the pictures are those of it."""

from pathlib import Path

import pytest

from loadtest.record import RecordError
from loadtest.report.command import quoting_pages, write
from loadtest.report.document import read_report, report_of
from loadtest.report.readme import BLOCK, BLOCKS, quoted
from tests.loadtest.report.samples import records
from tests.server import ROOT

REPORT = ROOT / "docs" / "report"
PAGES = [page for page in quoting_pages(ROOT) if BLOCK.search(page.read_text())]
MOST_BYTES = 2_000_000


def test_readme_quotes_the_report() -> None:
    assert ROOT / "README.md" in PAGES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_quotes_is_what_the_report_says(page: Path) -> None:
    """Before the first report is committed the marks hold nothing."""
    report = read_report(REPORT / "report.json") if REPORT.exists() else None
    text = page.read_text()
    assert quoted(text, page, report, REPORT) == text


def test_the_committed_page_and_pictures_are_those_of_its_json(tmp_path: Path) -> None:
    made = tmp_path / "made"
    if REPORT.exists():
        write(read_report(REPORT / "report.json"), made)
        committed = {path.name: path.read_bytes() for path in REPORT.iterdir()}
    else:
        write(report_of(records()), made)
        write(read_report(made / "report.json"), tmp_path / "again")
        committed = {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()}
    assert {path.name: path.read_bytes() for path in made.iterdir()} == committed
    assert sum(map(len, committed.values())) < MOST_BYTES


@pytest.mark.parametrize("block", BLOCKS)
def test_a_figure_that_is_changed_by_hand_is_noticed_and_written_anew(block: str, tmp_path: Path) -> None:
    report = report_of(records())
    page = tmp_path / "docs" / "load.md"
    empty = f"# Load\n\n<!-- from the report: {block} -->\n<!-- end of the report -->\n\nMore.\n"
    text = quoted(empty, page, report, tmp_path / "docs" / "report")
    assert "- **6.13 ms**: qa, 128 tokens, minilm-l6-qa (int8)" in text
    assert "](report/grid.svg)" in text
    assert text.startswith("# Load\n")
    assert text.endswith("\nMore.\n")
    assert [line for line in text.splitlines() if len(line) > 120] == []
    altered = text.replace("6.13", "6.03")
    assert altered != text
    assert quoted(altered, page, report, tmp_path / "docs" / "report") == text
    assert quoted(text, page, None, tmp_path / "docs" / "report") == empty


def test_a_mark_that_asks_for_something_else_is_told(tmp_path: Path) -> None:
    text = "<!-- from the report: nothing -->\n<!-- end of the report -->\n"
    with pytest.raises(RecordError, match=r"asks for nothing of the report; there are summary, whole"):
        quoted(text, tmp_path / "page.md", report_of(records()), tmp_path)
