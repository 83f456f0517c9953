"""The page: what stands first, that it needs nothing from elsewhere, and pictures of rows that are whole or not."""

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from loadtest.record import Row, record
from loadtest.report.charts import DRAWN
from loadtest.report.document import report_of
from loadtest.report.findings import findings
from loadtest.report.page import page
from loadtest.report.peers import failures, ratios
from loadtest.report.readme import pictures
from loadtest.report.svg import Scale, even_ticks, log_ticks, short
from tests.loadtest.report.samples import grid, infinity, peers, records, table3, throughput

REPORT = report_of(records())


def test_a_page_needs_nothing_from_elsewhere_and_stays_small() -> None:
    text = page(REPORT)
    assert not re.search(r"(src|href)=\"(?!#)|url\(|@import|<script", text)
    assert len(text.encode()) < 500_000
    ElementTree.fromstring(  # noqa: S314 - our own page
        re.sub(r"<!doctype html>|<meta [^>]*>|(?<=<t[dh]) class=[nt]", "", text)
    )  # every element is closed


def test_what_was_measured_on_what_and_how_it_came_out_stands_first_then_pictures_then_tables() -> None:
    text = page(REPORT)
    machine = REPORT.records["grid"].machine
    places = [text.index(part) for part in ("<h1>", f"{machine.cores} cores of", 'class="cards"', "<svg", "<table")]
    assert places == sorted(places)
    for taken in REPORT.records.values():
        assert taken.commit in text
        assert f"onnxruntime {taken.versions['onnxruntime']}" in text


def test_what_is_missing_is_told_and_names_are_escaped() -> None:
    row = {**next(grid()), "bundle": "<b>mine</b>"}
    text = page(report_of([record("grid", [row])], {"peers": "exit status 2: <none> is installed"}))
    assert "Not measured: peers, exit status 2: &lt;none&gt; is installed" in text
    assert "<b>mine</b>" not in text
    assert "&lt;b&gt;mine&lt;/b&gt;" in text


def test_a_part_that_nobody_knows_is_shown_with_all_its_columns() -> None:
    text = page(report_of([record("load", [{"route": "/qa", "p50_ms": 3.25, "failures": 0}])]))
    for told in ("Load by Locust", "<th>route</th>", "<th class=n>p50 ms</th>", "3.25", "<th class=n>failures</th>"):
        assert told in text


@pytest.mark.parametrize("part", DRAWN)
def test_rows_without_figures_draw_nothing_and_break_nothing(part: str) -> None:
    empty: list[Row] = [{"task": "qa", "peer": "LitServe", "model": "fp32", "reason": "it does not start"}, {}]
    taken = record(part, empty)
    assert [panel for draw in DRAWN[part] for panel in draw(taken.rows)] == []
    assert "<table>" in page(report_of([taken]))


def test_each_picture_stands_alone_and_is_well_formed() -> None:
    drawn = pictures(REPORT)
    assert set(drawn) == {"grid.svg", "throughput.svg", "peers.svg", "infinity.svg", "table3.svg"}
    for picture in drawn.values():
        root = ElementTree.fromstring(picture)  # noqa: S314 - our own picture
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert "prefers-color-scheme" in picture


def test_the_stages_of_a_bar_add_up_to_the_whole_request() -> None:
    [row] = [
        row for row in grid() if (row["task"], row["precision"], row["threads"], row["tokens"]) == ("qa", "int8", 2, 8)
    ]
    [panel, *_] = [panel for draw in DRAWN["grid"][:1] for panel in draw([row])]
    stages = [float(value) for value in re.findall(r"<title>[^<]*: ([\d.]+)</title>", panel.svg())]
    assert sum(stages) == pytest.approx(row["end_to_end_p50_ms"], abs=2e-3)


def test_a_text_that_was_cut_is_marked() -> None:
    row = {**next(grid()), "truncated": True}
    assert "* cut to the model" in DRAWN["grid"][0]([row])[0].svg()
    assert "cut to the limit</th>" in page(report_of([record("grid", [row])]))
    assert "cut to the" not in page(report_of([record("grid", [{**row, "truncated": False}])]))


def test_a_peer_is_set_beside_ours_on_the_same_model_where_we_ran_it() -> None:
    found = {(ratio.peer, ratio.model, ratio.concurrency): ratio.times for ratio in ratios(list(peers()))}
    assert found["FastAPI, inline", "our bundle", 1] == pytest.approx(0.8)  # its p50 against ours: slower
    assert found["FastAPI, inline", "our bundle", 8] == pytest.approx(1.04)  # requests/s: ahead of us
    assert found["BentoML", "stock int8", 8] == pytest.approx(0.45 / 0.85)
    assert found["FastAPI, pipeline", "fp32", 32] == pytest.approx(0.12)  # we did not run that model: our bundle
    assert not any(peer == "halfdepth" for peer, _, _ in found)
    assert failures(list(peers())) == {"MLServer": "it did not answer within 120 s"}


def test_a_peer_is_set_beside_our_rounds_of_the_same_minutes_where_they_were_noted() -> None:
    [ours, *_, peer] = [row for row in peers() if row.get("concurrency") == 8][:3]
    [ratio] = ratios([ours, {**peer, "ours_requests_per_s": peer["requests_per_s"] * 2}])
    assert ratio.times == pytest.approx(0.5)


def test_the_table_of_peers_tells_the_ratio() -> None:
    text = page(report_of([record("peers", list(peers()))]))
    assert "times as fast as ours</th>" in text
    assert "<td class=n>1.04</td>" in text


def test_findings_say_where_we_lose_too() -> None:
    told = {finding.text: finding.value for finding in findings(report_of([record("peers", list(peers()))]))}
    [(text, value)] = [item for item in told.items() if "requests/s at 8 connections" in item[0]]
    assert value == "6 of 8"
    assert "ahead of us: FastAPI, inline on qa 1.04 times" in text
    assert any("could not be measured" in text and "MLServer" in text for text in told)


def test_findings_compare_with_the_published_tables() -> None:
    rows = list(table3())
    told = [f"{finding.value} {finding.text}" for finding in findings(report_of([record("table3", rows)]))]
    assert told[0] == "1.96 times DistilBERT over BERT-base, PyTorch fp32, STS-B at batch 1; the paper has 1.63"
    assert any(line.startswith("48 times our 3-layer student (onnxruntime int8) over BERT-base") for line in told)
    [finding] = findings(report_of([record("infinity", list(infinity()))]))
    assert finding.value == f"{sum(row['requests_per_s'] >= row['infinity_requests_per_s'] for row in infinity())} of 8"


def test_of_several_records_of_a_part_the_newest_counts() -> None:
    older, newer = record("throughput", list(throughput())), record("throughput", list(throughput())[:3])
    newest = report_of([replace(newer, date="2031-01-01"), replace(older, date="2030-01-01")]).records["throughput"]
    assert len(newest.rows) == 3


def test_scales_and_ticks_are_round() -> None:
    assert Scale(0, 10, 100, 0)(2.5) == 75
    assert Scale(1, 100, 0, 200, is_log=True)(10) == pytest.approx(100)
    assert even_ticks(27) == [0, 10, 20]
    assert log_ticks(0.9, 21) == [1, 2, 5, 10, 20]
    assert [short(value) for value in (0.868, 3.0, 12.44, 512, 1250, 21000)] == [
        "0.87",
        "3",
        "12.4",
        "512",
        "1.2k",
        "21k",
    ]
