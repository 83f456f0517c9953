"""What is logged can be read back, gone on with and drawn."""

from pathlib import Path

from models.pretrain.loss_log import PLOT, LossLog


def log_of(directory: Path, steps: int, *, since: int = 0) -> LossLog:
    log = LossLog(directory, since=since)
    for step in range(since + 1, steps + 1):
        log.write("train", {"step": step, "tokens": 10 * step, "seconds": step / 3}, {"total": 3.0 / step, "mlm": 0.5})
    return log


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    log = log_of(tmp_path, 2)
    first, second = log.rows()
    assert (first["step"], first["tokens"], first["seconds"], first["split"]) == ("1", "10", "0.3", "train")
    assert (second["total"], second["mlm"], second["soft"]) == ("1.5", "0.5", "")


def test_a_run_that_goes_on_drops_what_the_killed_one_had_logged_after_its_checkpoint(tmp_path: Path) -> None:
    whole = log_of(tmp_path, 5).rows()
    assert log_of(tmp_path, 5, since=3).rows() == whole


def test_a_run_that_begins_anew_has_a_log_of_its_own(tmp_path: Path) -> None:
    log_of(tmp_path, 5)
    assert len(log_of(tmp_path, 2).rows()) == 2


def test_the_picture_has_a_panel_for_each_loss_that_was_on(tmp_path: Path) -> None:
    log = log_of(tmp_path, 4)
    log.write("dev", {"step": 4, "tokens": 40, "seconds": 2.0}, {"total": 0.8, "mlm": 0.6})
    log.plot()
    content = (tmp_path / PLOT).read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert int.from_bytes(content[16:20], "big") == round(2 * 3.2 * 120)  # two panels wide
