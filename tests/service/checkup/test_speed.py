from collections.abc import Callable

import pytest

from service.checkup import speed
from service.checkup.finding import NOTHING, Finding

Milliseconds = Callable[[str, int, int], float]
Takes = Callable[[Milliseconds], None]


@pytest.fixture
def takes(monkeypatch: pytest.MonkeyPatch) -> Takes:
    """Lets runs take what a function of precision, threads and tokens says, in milliseconds."""

    def take(milliseconds: Milliseconds) -> None:
        def time(opened: tuple[str, int], tokens: int, **_how: bool) -> float:
            precision, threads = opened
            return milliseconds(precision, threads, tokens)

        monkeypatch.setattr(speed, "open_encoder", lambda precision, threads: (precision, threads))
        monkeypatch.setattr(speed, "milliseconds", time)

    return take


def test_what_int8_gains_is_told_at_three_lengths(takes: Takes) -> None:
    takes(lambda precision, _threads, tokens: tokens * (3.0 if precision == "fp32" else 1.0))
    finding = speed.int8_gain(is_busy=False)
    assert finding.text.startswith("3.0 times at 16, 3.0 times at 128 and 3.0 times at 384 tokens")
    assert (finding.status, finding.advice) == ("ok", NOTHING)
    assert finding.values["gain"] == [3.0, 3.0, 3.0]
    assert finding.values["fp32_ms"] == [48.0, 384.0, 1152.0]


def test_where_int8_gains_nothing_fp32_is_to_be_served(takes: Takes) -> None:
    takes(lambda _precision, _threads, tokens: float(tokens))
    finding = speed.int8_gain(is_busy=False)
    assert finding.status == "act"
    assert "onnx/model.onnx" in finding.advice


def test_on_a_busy_machine_no_timing_asks_for_anything(takes: Takes) -> None:
    takes(lambda _precision, _threads, tokens: float(tokens))
    findings: list[Finding] = [speed.int8_gain(is_busy=True), speed.threads_that_pay(4, "auto", is_busy=True)]
    assert {finding.status for finding in findings} == {"note"}
    assert all("worthless" in finding.advice for finding in findings)


@pytest.mark.parametrize(
    ("by_threads", "cores", "best", "measured"),
    [
        ({1: 8.0}, 1, 1, [1]),
        ({1: 8.0, 2: 7.9}, 8, 1, [1, 2]),  # not worth it, so four are not tried
        ({1: 8.0, 2: 4.5, 4: 3.0, 8: 2.9}, 8, 4, [1, 2, 4, 8]),
        ({1: 8.0, 2: 4.5, 3: 3.5}, 3, 3, [1, 2, 3]),
    ],
)
def test_threads_are_doubled_for_as_long_as_that_pays(
    takes: Takes, by_threads: dict[int, float], cores: int, best: int, measured: list[int]
) -> None:
    takes(lambda _precision, threads, _tokens: by_threads[threads])
    finding = speed.threads_that_pay(cores, "auto", is_busy=False)
    assert (finding.status, finding.values["best"], finding.values["threads"]) == ("ok", best, measured)


def test_a_number_of_threads_that_was_set_is_told(takes: Takes) -> None:
    takes(lambda _precision, _threads, _tokens: 1.0)
    finding = speed.threads_that_pay(1, 1, is_busy=False)
    assert finding.status == "note"
    assert "HALFDEPTH_THREADS=1" in finding.advice
