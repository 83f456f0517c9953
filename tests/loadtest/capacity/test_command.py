"""`halfdepth loadtest capacity`: from costs in a file, from a service, and its check; and wrong arguments."""

import json
from pathlib import Path

import pytest

from loadtest.__main__ import main
from loadtest.record import read_record, record
from tests.server import ROOT, serve

MIX = {"/qa": {"share": 1, "tokens": {"24": 1, "40": 1}}}
BRIEFLY = ["--seconds", "0.6", "--rounds", "1", "--cores-per-replica", "1"]
MEASURED = {"windows": 1, "lone_ms": 8.0, "busy_ms": 9.0, "overhead_ms": 0.3, "ratios": [0.9, 1.0, 1.0, 1.3]}


@pytest.fixture
def mix(tmp_path: Path) -> str:
    (tmp_path / "mix.json").write_text(json.dumps(MIX))
    return str(tmp_path / "mix.json")


@pytest.fixture
def costs(tmp_path: Path) -> str:
    rows = [{"route": "/qa", "tokens": tokens, "items": 1, "cores": 1} | MEASURED for tokens in (16, 64)]
    record("costs", rows).write(tmp_path / "costs.json")
    return str(tmp_path / "costs.json")


@pytest.fixture
def bundles(tmp_path: Path) -> Path:
    (tmp_path / "bundles").mkdir()
    (tmp_path / "bundles" / "qa").symlink_to(ROOT / "bundles" / "qa-small")
    return tmp_path / "bundles"


def test_costs_and_a_price_give_replicas_and_money(
    mix: str, costs: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--rps", "1000", "--p99", "40", "--mix", mix, "--costs", costs, "--price", "0.04"]
    assert main(["capacity", *arguments, "--cores-per-replica", "1", "4", "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    assert "costs were not measured on 4 cores" in told
    assert "an hour" in told
    one, four = read_record(tmp_path / "out" / "capacity.json").rows
    assert (one["cores"], four["cores"]) == (1, 4)
    for row in (one, four):
        assert row["p99_ms"] <= 40
        assert row["utilization"] == pytest.approx(1000 * 0.009 / row["total_cores"])
        assert row["price_per_hour"] == pytest.approx(0.04 * row["total_cores"])
        assert row["price_per_million_requests"] == pytest.approx(row["price_per_hour"] / 3.6)


def test_a_service_is_started_and_measured(mix: str, bundles: Path, tmp_path: Path) -> None:
    arguments = ["--rps", "500", "--p99", "5000", "--mix", mix, "--bundles", str(bundles), *BRIEFLY]
    assert main(["capacity", *arguments, "--out", str(tmp_path / "out")]) == 0
    rows = read_record(tmp_path / "out" / "costs.json").rows
    assert [(row["route"], row["tokens"], row["cores"]) for row in rows] == [("/qa", 24, 1), ("/qa", 40, 1)]
    assert all(row["busy_ms"] > 0 and row["lone_ms"] > 0 and row["ratios"] for row in rows)


def test_a_running_service_is_measured_or_asked_for_its_own_estimate(
    mix: str, bundles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"/classify": {"share": 1, "tokens": {"16": 1}}}')
    listed = tmp_path / "listed.json"
    listed.write_text('{"/qa": {"share": 1, "items": 3, "tokens": {"24": 1}}}')
    need = ["capacity", "--rps", "500", "--p99", "5000", *BRIEFLY, "--out", str(tmp_path / "out")]
    with serve(bundles) as (_, url):
        assert main([*need, "--mix", mix, "--url", url, "--info"]) == 0
        assert main([*need, "--mix", mix, "--url", url]) == 0
        capsys.readouterr()
        for file, told in ((wrong, "the service has no /classify"), (listed, "/qa takes no list of texts")):
            assert main([*need, "--mix", str(file), "--url", url]) == 2
            error = capsys.readouterr().err
            assert told in error
            assert error.count("\n") == 1


def test_the_check_shows_what_was_measured_beside_what_was_simulated(
    mix: str, bundles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--check", "--mix", mix, "--bundles", str(bundles), *BRIEFLY, "--loads", "0.2", "0.4"]
    status = main(["capacity", *arguments, "--check-seconds", "0.5", "--out", str(tmp_path / "out")])
    rows = read_record(tmp_path / "out" / "check.json").rows
    assert [row["load"] for row in rows] == [0.2, 0.4]
    assert rows[1]["rate"] == pytest.approx(2 * rows[0]["rate"])
    assert status == (0 if all(row["agrees"] for row in rows) else 1)
    assert "simulated" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "give --rps, --p99 and --mix, or --check"),
        (["--rps", "5"], "give --rps, --p99 and --mix, or --check"),
        (["--rps", "2000000", "--p99", "30", "--mix", "mix.json"], "--rps must be a million at most"),
        (["--check", "--costs", "c.json"], "--costs measures nothing"),
        (["--check", "--cores-per-replica", "1", "4"], "of one number of --cores-per-replica"),
        (["--check", "--info"], "--info needs --url"),
        (["--check", "--loads", "1.5"], "--loads must be above 0 and below 1, not 1.5"),
        (["--rps", "5", "--p99", "30", "--mix", "nowhere.json"], "nowhere.json cannot be read as JSON"),
        (["--check", "--cores-per-replica", "4000"], "this machine has"),
    ],
)
def test_wrong_arguments_are_told_in_one_line(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["capacity", *arguments]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_a_bound_that_no_size_keeps_is_told(mix: str, costs: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["capacity", "--rps", "1000", "--p99", "3", "--mix", mix, "--costs", costs]) == 2
    assert "keeps p99 within 3 ms" in capsys.readouterr().err
