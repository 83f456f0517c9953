"""The pages that people read: lines that a diff can show, links that lead somewhere, and a log in its own order."""

import re
from pathlib import Path

import pytest

from tests.server import ROOT

LOG = ROOT / "docs" / "log"
SUBJECTS = ("serving", "graph", "training")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
ENTRY = re.compile(r"^## (.+\?) (.+)\n\n(\d{4}-\d\d-\d\d), ", re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """GitHub's names of the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?://)([^)#\s]*)#?([^)\s]*)\)", page.read_text()):
        linked = (page.parent / target).resolve() if target else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), f"{target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_line_is_longer_than_120_characters(page: Path) -> None:
    assert [line for line in page.read_text().splitlines() if len(line) > 120] == []


@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_heading_of_the_log_is_a_question_with_its_verdict_and_its_day(subject: str) -> None:
    text = (LOG / f"{subject}.md").read_text()
    assert len(ENTRY.findall(text)) == len(re.findall(r"^## ", text, re.MULTILINE))


@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_log_is_newest_first(subject: str) -> None:
    days = [day for _, _, day in ENTRY.findall((LOG / f"{subject}.md").read_text())]
    assert days == sorted(days, reverse=True)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_index_of_the_log_has_every_entry_in_order(subject: str) -> None:
    [table] = re.findall(rf"\({subject}\.md\)\n\n.*\n.*\n((?:\|.*\n)+)", (LOG / "README.md").read_text())
    rows = [[cell.strip() for cell in row.split("|")[1:4]] for row in table.splitlines()]
    entries = ENTRY.findall((LOG / f"{subject}.md").read_text())
    assert rows == [[day, question, verdict] for question, verdict, day in entries]
