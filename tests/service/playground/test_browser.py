"""The playground in a real Chromium, over a real server."""

import json
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from tests.browser import browse
from tests.server import ROOT, serve
from tests.service.conftest import write_bundle

pytestmark = pytest.mark.system

PASSAGE = "🗼🗼 The tower of Brå was raised in 1911 by Ida Holm, who had 🧱 burned its bricks herself."
WAIT_S = 30


class Page:
    """What a person does on the page, and sees."""

    def __init__(self, driver: Chrome, url: str) -> None:
        self.driver = driver
        driver.get(url)
        self.until("return document.readyState === 'complete'")

    def until(self, script: str) -> object:
        """What the script returns, once that is anything."""
        return WebDriverWait(self.driver, WAIT_S).until(lambda driver: driver.execute_script(script))

    def find(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        return [each.text for each in self.driver.find_elements(By.CSS_SELECTOR, selector)]

    def write(self, selector: str, text: str) -> None:
        # chromedriver's own keys know nothing beyond the Basic Multilingual Plane
        self.driver.execute_script("arguments[0].value = arguments[1]", self.find(selector), text)

    def ask(self, task: str) -> None:
        self.find(f"#{task} [type=submit]").click()
        self.until(f"return document.querySelector('#{task} .output').childElementCount")

    def complaints(self) -> list[str]:
        """Of the browser: a policy that was broken, a file that was missing, an error of the script."""
        entries = self.driver.get_log("browser")
        return [str(entry["message"]) for entry in entries if entry["level"] in {"WARNING", "SEVERE"}]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with browse(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture(scope="module")
def default_url() -> Iterator[str]:
    with serve(ROOT / "bundles") as (_, url):
        yield url


@pytest.fixture(scope="module")
def tiny_url(bundles: Path) -> Iterator[str]:
    """Every task, by bundles that know Oslo and Paris alone."""
    with serve(bundles) as (_, url):
        yield url


def test_a_click_answers_and_marks_the_answer_in_its_passage(driver: Chrome, default_url: str) -> None:
    page = Page(driver, default_url)
    page.write("#qa [name=question]", "Who raised the tower?")
    page.write("#qa [name=context]", PASSAGE)
    page.ask("qa")
    best = page.texts("#qa .row .label")[0]
    assert best == "Ida Holm"
    assert page.texts("#qa mark.chosen") == ["Ida Holm"]  # two emoji stand before it
    assert page.find("#qa .passage").text == PASSAGE
    assert page.texts("#qa .legend dt") == [
        "queue",
        "tokenization",
        "inference",
        "postprocess",
        "total in the service",
        "seen by this page",
    ]
    assert page.complaints() == []


def test_answers_are_chosen_by_a_click_and_counted_by_top_k(driver: Chrome, default_url: str) -> None:
    page = Page(driver, default_url)
    page.ask("qa")
    labels = page.texts("#qa .row .label")
    assert len(labels) == len(page.texts("#qa mark")) == 3
    page.find("#qa .row:nth-child(2)").click()
    assert page.texts("#qa mark.chosen") == [labels[1]]


def test_a_passage_without_the_answer_says_so(driver: Chrome, default_url: str) -> None:
    page = Page(driver, default_url)
    page.find("#qa .examples button:last-child").click()
    page.until("return document.querySelector('#qa .none')")
    assert page.find("#qa [name=allow_no_answer]").is_selected()
    assert page.texts("#qa mark") == []


def test_tabs_obey_arrow_keys_and_ctrl_enter_asks(driver: Chrome, default_url: str) -> None:
    page = Page(driver, default_url)
    page.find("#tab-qa").send_keys(Keys.ARROW_LEFT)
    assert driver.switch_to.active_element.get_attribute("id") == "tab-entities"
    driver.switch_to.active_element.send_keys(Keys.ARROW_LEFT)
    assert driver.switch_to.active_element.get_attribute("id") == "tab-similarity"
    assert [tab.get_attribute("aria-selected") for tab in driver.find_elements(By.CSS_SELECTOR, "[role=tab]")] == [
        "false",
        "false",
        "false",
        "true",
        "false",
    ]
    page.find("#similarity [name=targets]").click()
    ActionChains(driver).key_down(Keys.CONTROL).send_keys(Keys.ENTER).key_up(Keys.CONTROL).perform()
    page.until("return document.querySelector('#similarity .row')")
    assert page.texts("#similarity .row .label")[-1] == "The stock market fell on Monday."


def test_every_task_works_where_its_bundle_is_loaded(driver: Chrome, tiny_url: str) -> None:
    page = Page(driver, tiny_url)
    for tab, fields, best in (
        ("classify", {"text": "she lives in Paris."}, "paris"),
        ("rerank", {"query": "where?", "documents": "in Oslo\n\nin Paris"}, "in Paris"),
        ("similarity", {"source": "oslo", "targets": "paris\n\noslo"}, "oslo"),
        ("entities", {"text": "🙂 she lives in Oslo or Paris"}, "Oslo · LOC"),
        ("qa", {"question": "where?", "context": "Oslo or Paris"}, "Paris"),
    ):
        page.find(f"#tab-{tab}").click()
        for name, text in fields.items():
            page.write(f"#{tab} [name={name}]", text)
        page.ask(tab)
        assert page.texts(f"#{tab} .row .label")[0] == best
    assert page.complaints() == []


def test_a_task_without_a_bundle_says_so_and_the_others_work(driver: Chrome, bundles: Path, tmp_path: Path) -> None:
    (tmp_path / "similarity").symlink_to(bundles / "similarity")
    with serve(tmp_path) as (_, url):
        page = Page(driver, url)
        page.until("return document.querySelector('#tab-similarity').ariaSelected === 'true'")
        page.ask("similarity")
        page.find("#tab-qa").click()
        assert page.find("#qa .notice").text.startswith("No bundle for this task is loaded")
        assert not page.find("#qa [type=submit]").is_enabled()


def test_a_task_with_several_models_offers_them_and_an_example_keeps_the_choice(
    driver: Chrome, bundles: Path, tmp_path: Path
) -> None:
    (tmp_path / "qa").symlink_to(bundles / "qa")
    (tmp_path / "similarity").symlink_to(bundles / "similarity")
    write_bundle(tmp_path / "qa-small")
    with serve(tmp_path) as (_, url):
        page = Page(driver, url)
        page.until("return document.querySelector('#qa .models')")
        assert page.texts("#qa .models option") == ["qa", "qa-small"]
        page.ask("qa")
        assert "qa @ " in page.texts("#qa .output .aside")[-1]
        page.find("#qa .models option:last-child").click()
        page.find("#qa .examples button").click()
        page.until("return document.querySelector('#qa .output').textContent.includes('qa-small @ ')")
        assert page.driver.execute_script("return document.querySelectorAll('#similarity .models').length") == 0
        assert page.complaints() == []


def test_an_error_is_shown_with_its_code_detail_and_request_id(driver: Chrome, default_url: str) -> None:
    page = Page(driver, default_url)
    page.write("#qa [name=question]", " ")
    page.ask("qa")
    problem = page.find("#qa .problem").text
    assert "422 invalid_request" in problem
    assert "question: must not be blank" in problem
    assert "request " in problem


def test_a_server_that_wants_a_key_gets_the_one_that_is_typed(driver: Chrome, default_url: str) -> None:
    page = Page(driver, default_url)
    driver.execute_script("""
        window.fetch = async (_, { headers }) => {
            window.bearer = headers.authorization;
            const problem = { code: "unauthorized", detail: "send a key", request_id: "1" };
            return new Response(JSON.stringify(problem), { status: 401 });
        };
    """)
    assert not page.find("#key").is_displayed()
    page.ask("qa")
    assert "401 unauthorized" in page.find("#qa .problem").text
    page.find("#key input").send_keys("secret", Keys.ENTER)
    assert page.until("return window.bearer") == "Bearer secret"


def test_a_server_that_is_gone_is_told(driver: Chrome, bundles: Path) -> None:
    with serve(bundles) as (_, url):
        page = Page(driver, url)
    page.ask("qa")
    assert "could not be reached" in page.find("#qa .problem").text


def test_what_is_copied_as_curl_gives_the_same_answer(driver: Chrome, default_url: str) -> None:
    page = Page(driver, default_url)
    page.write("#qa [name=question]", "Who's the last keeper?")
    page.ask("qa")
    page.find("#qa summary").click()
    command, response = page.texts("#qa pre")
    reply = subprocess.run(shlex.split(command), capture_output=True, check=True).stdout
    assert json.loads(reply)["answers"] == json.loads(response)["answers"]
    page.find("#qa .copy").click()
    page.until("return document.querySelector('#qa .copy').textContent !== 'Copy as curl'")
