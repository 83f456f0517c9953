"""Question answering in the browser: the page of deploy/on-device in a real Chromium, beside the kernel."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from loadtest.device import main
from loadtest.pages import PAGE, Pages, serve_pages
from models.tasks.answers import QAResult
from models.tasks.base import Usage
from models.tasks.build import build_task
from models.tasks.bundle import Bundle, load_bundle
from models.tasks.qa import QAInput
from models.tasks.session import OnnxSession, graph_outputs, open_graph
from models.tasks.text import passages
from tests.browser import browse
from tests.server import ROOT
from tests.service.conftest import write_bundle

pytestmark = pytest.mark.system

WAIT_S, INSTALL_S = 120, 600
NAMES = ("qa", "qa-small")
QUESTIONS = (
    ("Who built the lighthouse?", passages.LIGHTHOUSE),
    ("How was the lamp lit before 1902?", passages.LIGHTHOUSE),
    ("Who opened the bakery in 1949?", passages.BAKERY),
    ("Who raised the tower?", "🗼🗼 The tower of Brå was raised in 1911 by Ïda Hölm, who had 🧱 burned its bricks."),
    ("How much did it cost?", "The bridge, which the CAFÉ's owner paid for, cost 1,250.75 crowns (in 1908)."),
    ("Who paid for the lighthouse?", "The bakery sells bread."),  # the best span all the same
    ("When did the last keeper leave the lighthouse?", passages.CHARTER + " " + passages.LIGHTHOUSE * 6),  # windows
)


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page with its library, beside which nothing of this checkout changes."""
    path = tmp_path_factory.mktemp("on_device") / "page"
    shutil.copytree(PAGE, path, ignore=shutil.ignore_patterns("node_modules"))
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    subprocess.run(command, cwd=path, check=True, timeout=INSTALL_S, env={**os.environ, "HOME": str(path.parent)})
    return path


@pytest.fixture(scope="module")
def pages(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    """Our bundles, one of another task, and one whose tokenizer splits at spaces alone."""
    write_bundle(tmp_path_factory.mktemp("tiny") / "tiny")
    tiny = next(tmp_path_factory.getbasetemp().glob("tiny*/tiny"))
    (tiny / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    bundles = {name: ROOT / "bundles" / name for name in (*NAMES, "classify")} | {"tiny": tiny}
    with serve_pages(bundles, page) as pages:
        yield pages


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with browse(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


def exactly(bundle: Bundle) -> Callable[[QAInput], tuple[Usage, QAResult]]:
    """Answer by exact products, as a browser does: a service on a CPU without VNNI may take others."""
    graph = open_graph(bundle, threads=1, exact_products=True)
    task = build_task(bundle, graph_outputs(graph))
    session = OnnxSession(bundle, graph, task.output_names)

    def answer(item: QAInput) -> tuple[Usage, QAResult]:
        encoding = task.encode(item)
        return encoding.usage, task.decode(encoding, list(map(session.run, encoding.windows)))

    return answer


def show(driver: Chrome, url: str) -> str:
    """Open a page and wait until it has loaded its bundle or has said why not. Returns: what it said, if anything."""
    driver.get(url)
    script = "return !document.querySelector('button').disabled || !document.querySelector('#problem').hidden"
    WebDriverWait(driver, WAIT_S).until(lambda driver: driver.execute_script(script))
    return driver.find_element(By.ID, "problem").text


def ask(driver: Chrome, question: str, context: str) -> dict[str, Any]:  # the page's own values
    for name, text in (("question", question), ("context", context)):
        driver.execute_script("document.querySelector(`[name=${arguments[0]}]`).value = arguments[1]", name, text)
    driver.find_element(By.TAG_NAME, "button").click()
    script = "return !document.querySelector('#result').hidden || !document.querySelector('#problem').hidden"
    WebDriverWait(driver, WAIT_S).until(lambda driver: driver.execute_script(script))
    return dict(driver.execute_script("return {...document.querySelector('#result').dataset}"))


@pytest.mark.parametrize("name", NAMES)
def test_its_answers_are_the_kernel_s_and_nothing_leaves_this_machine(driver: Chrome, pages: Pages, name: str) -> None:
    assert show(driver, f"{pages.url}/?bundle=/bundles/{name}") == ""
    assert driver.find_element(By.ID, "threads").text == "one thread"
    answer = exactly(load_bundle(ROOT / "bundles" / name))
    for question, context in QUESTIONS:
        shown = ask(driver, question, context)
        usage, result = answer(QAInput(question, context))
        expected = result.answers[0]
        assert (int(shown["start"]), int(shown["end"])) == (expected.start, expected.end), question
        assert shown["text"] == expected.text == driver.find_element(By.CSS_SELECTOR, "#passage mark").text
        assert float(shown["score"]) == pytest.approx(expected.score, abs=0.02)  # another library sums
        assert float(shown["noAnswerScore"]) == pytest.approx(result.no_answer_score, abs=0.02)
        for stage in ("tokenization", "inference"):
            assert driver.find_element(By.ID, stage).text.endswith(" ms")
        size = driver.find_element(By.ID, "size").text
        assert size.startswith(f"{usage.tokens_used} tokens in {usage.windows} window")
    asked = driver.execute_script("return performance.getEntries().map(({name}) => name)")
    addresses = {address for address in asked if "://" in address}
    assert any("onnx/model_quantized.onnx" in address for address in addresses)
    assert {address for address in addresses if not address.startswith(f"{pages.url}/")} == set()
    complaints = [str(entry["message"]) for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
    optional = ("/halfdepth.json", "/measured.json")
    assert [complaint for complaint in complaints if not any(name in complaint for name in optional)] == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing", "holds no config.json; name a bundle of qa by ?bundle="),
        ("classify", "is not for question answering"),
        ("tiny", "This page reads BERT's tokenizers alone"),
    ],
)
def test_a_bundle_that_it_cannot_use_is_told_in_words(driver: Chrome, pages: Pages, name: str, words: str) -> None:
    assert words in show(driver, f"{pages.url}/?bundle=/bundles/{name}")
    assert not driver.find_element(By.TAG_NAME, "button").is_enabled()


def test_a_question_that_leaves_no_room_is_told_in_words(driver: Chrome, pages: Pages) -> None:
    assert show(driver, f"{pages.url}/?bundle=/bundles/qa-small") == ""
    ask(driver, "why " * 400, "Nobody knows.")
    assert driver.find_element(By.ID, "problem").text.startswith("The question takes 402 of the model's 384 tokens")


def test_a_measurement_is_a_record_with_tokenization_and_inference_apart(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("loadtest.pages.MODULES", page / "node_modules")
    monkeypatch.setattr("loadtest.device.MODULES", page / "node_modules")
    monkeypatch.setattr("loadtest.device.serve_pages", lambda bundles: serve_pages(bundles, page))
    bundles = [str(ROOT / "bundles" / name) for name in NAMES]
    file = tmp_path / "device.json"
    command = ["--bundles", *bundles, "--baseline", "qa", "--tokens", "16", "64", "--runs", "2", "--out", str(file)]
    assert main(command, prog="halfdepth loadtest device") == 0, capsys.readouterr().err
    taken = json.loads(file.read_text())
    assert taken["part"] == "device"
    assert taken["command"].startswith("halfdepth loadtest device --bundles ")
    assert {"chromium", "onnxruntime-web", "@huggingface/transformers"} <= taken["versions"].keys()
    assert [(row["model"], row["tokens"]) for row in taken["rows"]] == [
        ("qa", 16), ("qa", 64), ("qa-small", 16), ("qa-small", 64)
    ]  # fmt: skip
    for row in taken["rows"]:
        assert row["inference_ms"] > 0
        assert row["tokenization_ms"] >= 0
        assert row["megabytes"] > 18
        assert row["precision"] == "int8"
    assert taken["rows"][0]["speedup_over_bert"] == 1.0


def test_what_was_measured_is_shown_where_it_lies_beside_the_page(page: Path, tmp_path: Path, driver: Chrome) -> None:
    copy = shutil.copytree(page, tmp_path / "copy", symlinks=True, ignore=shutil.ignore_patterns("node_modules"))
    (copy / "node_modules").symlink_to(page / "node_modules")
    row = {"model": "qa", "megabytes": 23.8, "tokens": 16, "tokenization_ms": 0.25, "inference_ms": 12.34}
    measured = {"rows": [row], "machine": {"processor": "Model X"}, "date": "2026-01-02T03:04:05+00:00"}
    (copy / "measured.json").write_text(json.dumps(measured | {"versions": {"chromium": "1.2"}}))
    with serve_pages({}, copy) as pages:
        assert "holds no config.json" in show(driver, f"{pages.url}/?bundle=/bundles/qa")
        WebDriverWait(driver, WAIT_S).until(lambda driver: driver.find_element(By.ID, "measured").is_displayed())
        assert driver.find_element(By.CSS_SELECTOR, "#measured tbody").text == "qa 23.8 16 0.25 12.3"
        caption = driver.find_element(By.CSS_SELECTOR, "#measured caption").text
    assert caption == "One thread of Model X, a server, in headless Chromium 1.2, 2026-01-02"
