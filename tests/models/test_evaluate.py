"""The command over its three sources."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from models.evaluate import main


@pytest.mark.parametrize("source", ["--bundle", "--checkpoint", "--url"])
def test_what_cannot_be_measured_ends_with_status_2_and_one_line(
    source: str, squad_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = "http://127.0.0.1:9" if source == "--url" else str(tmp_path / "absent")
    assert main(["--task", "qa", "--dev", str(squad_file), source, where]) == 2
    assert "python -m models.evaluate: " in capsys.readouterr().err


def test_a_checkpoint_is_measured_by_the_command(
    tiny_qa: dict[str, Path], squad_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--task", "qa", "--dev", str(squad_file), "--checkpoint", str(tiny_qa["roberta"])]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 12


@pytest.mark.parametrize("sources", [[], ["--bundle", "a", "--url", "b"]])
def test_what_is_measured_must_be_clear(sources: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--task", "qa", "--dev", "d", *sources]) == 2
    assert capsys.readouterr().err == (
        "python -m models.evaluate: give exactly one of --checkpoint, --bundle and --url\n"
    )


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--multi-label"], "--multi-label does nothing without --url: problem_type in config.json tells; remove it"),
        (["--api-key", "k"], "--api-key does nothing without --url; remove it"),
    ],
)
def test_flags_of_a_server_are_refused_without_one(
    flags: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--task", "classify", "--dev", "d", "--checkpoint", "c", *flags]) == 2
    assert capsys.readouterr().err == f"python -m models.evaluate: {line}\n"


class Classifier(BaseHTTPRequestHandler):
    """Answers every text with the same two labels, and counts the texts."""

    texts = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        Classifier.texts += 1
        body = json.dumps({"labels": [{"label": "yes", "score": 0.9}, {"label": "no", "score": 0.1}]}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def classifier() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Classifier)
    Classifier.texts = 0
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_labels_that_a_server_does_not_have_end_with_status_2_after_one_request(
    classifier: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dev = tmp_path / "dev.tsv"
    dev.write_text("text\tlabel\na\t1\nb\t0\nc\t1\n")
    assert main(["--task", "classify", "--dev", str(dev), "--url", classifier]) == 2
    assert "the model has no label '0', '1'; its labels are yes, no" in capsys.readouterr().err
    assert Classifier.texts == 1


def test_a_server_is_measured_by_the_command(
    classifier: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dev = tmp_path / "dev.tsv"
    dev.write_text("text\tlabel\na\tyes\nb\tno\n")
    assert main(["--task", "classify", "--dev", str(dev), "--url", classifier]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == 50.0


def test_the_normalization_of_another_language_is_said_in_the_output(
    tiny_qa: dict[str, Path], squad_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["--task", "qa", "--dev", str(squad_file), "--checkpoint", str(tiny_qa["bert"])]
    assert main(argv) == 0
    english = json.loads(capsys.readouterr().out)
    assert "language" not in english
    assert main([*argv, "--language", "zh"]) == 0
    chinese = json.loads(capsys.readouterr().out)
    assert chinese.pop("language") == "zh"
    assert chinese.keys() == english.keys()


def test_rows_that_were_left_out_are_counted_in_the_output(
    classifier: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dev = tmp_path / "dev.tsv"
    dev.write_text('text\tlabel\n"a\tyes\nb"\tno\nc\n')
    argv = ["--task", "classify", "--dev", str(dev), "--url", classifier]
    assert main(argv) == 2
    assert main([*argv, "--no-quoting"]) == 2
    capsys.readouterr()
    assert main([*argv, "--no-quoting", "--skip-bad"]) == 0
    output = capsys.readouterr()
    assert json.loads(output.out)["n"] == 2
    assert json.loads(output.out)["skipped"] == 1
    assert "dev.tsv: line 4: it has 1 column and the header has 2; left out" in output.err


def test_a_head_that_was_never_trained_is_not_measured(
    tiny_teacher: Path, squad_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--task", "qa", "--dev", str(squad_file), "--checkpoint", str(tiny_teacher)]) == 2
    output = capsys.readouterr()
    assert "has no trained head for the task qa" in output.err
    assert output.out == ""
