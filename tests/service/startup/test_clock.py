from itertools import count
from pathlib import Path

import pytest

from service.startup import clock
from service.startup.clock import StartClock, process_age


def test_a_part_within_another_stops_its_clock_and_all_parts_make_up_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = count(100.0)
    monkeypatch.setattr(clock, "perf_counter", lambda: next(ticks))
    start = StartClock(5.0)  # two ticks: its own birth, and the end of the imports
    with start.part("tuning"), start.part("graphs"):
        pass
    seconds = start.stop()
    assert seconds == {"imports": 6.0, "other": 2.0, "tuning": 2.0, "graphs": 1.0}
    assert sum(seconds.values()) == 5.0 + next(ticks) - 101.0 + 0.0


def test_the_age_of_the_process_is_the_kernel_s(tmp_path: Path) -> None:
    assert 0.0 < process_age() < 86_400
    assert process_age(tmp_path / "missing") == 0.0
    (tmp_path / "stat").write_text("1 (a name) S 1")
    assert process_age(tmp_path / "stat") == 0.0
