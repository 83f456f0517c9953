"""The benchmark's table; no test asserts on time."""

from pathlib import Path

import pytest

from export.bench import main


def test_a_checkpoint_is_measured_at_each_length_with_and_without_the_fusion(
    tiny_qa: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tiny_qa["bert"]), "--tokens", "4", "8", "--rounds", "2", "--stock"]) == 0
    title, lengths, without, with_fusion = capsys.readouterr().out.splitlines()
    assert title == "1 thread(s), median milliseconds of 2 runs"
    assert lengths.split() == ["4", "8", "tokens"]
    assert all(float(number) > 0 for number in without.split()[:2] + with_fusion.split()[:2])
    assert with_fusion.endswith(", all fusions")


def test_a_path_that_is_no_model_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "absent.onnx")]) == 2
    assert "neither an ONNX file nor a checkpoint" in capsys.readouterr().err
