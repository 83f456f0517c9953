"""The dashboard and the alert rules: no metric or label is misspelt, and every alert has its page and its tests."""

import json
import math
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from models.tasks.build import SPECS
from service.responses import Timings
from tests.deploy.dashboard import JOB, RATE_INTERVAL, watched
from tests.deploy.manifests import DEPLOY, container, only, resources
from tests.deploy.panels import DASHBOARD, panels
from tests.deploy.promql import Exposed, asked, exposed
from tests.server import ROOT
from tests.test_docs import anchors

ALERTS = DEPLOY / "prometheus" / "alerts.yml"
CASES = Path(__file__).with_name("alerts_test.yml")
RULES = {rule["alert"]: rule for rule in yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]}
SECONDS = 24  # long enough for rates over RATE_INTERVAL
QUERIES = [query for panel in panels("halfdepth", "5m") for query in panel.queries.values()]
METRICS_SOURCE = (ROOT / "service" / "telemetry" / "metrics.py").read_text()
SCALER = only([resource for _, resource in resources(DEPLOY / "kubernetes" / "components")], "ScaledObject")
SCALED = [trigger["metadata"]["query"] for trigger in SCALER["spec"]["triggers"] if trigger["type"] == "prometheus"]
EXPRESSIONS = [*QUERIES, *(rule["expr"] for rule in RULES.values()), *SCALED]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Exposed:
    return exposed(tmp_path_factory.mktemp("bundles"))


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_expression_asks_for_what_the_service_exposes(expression: str, samples: Exposed) -> None:
    question = asked(expression)
    assert question.metrics
    assert question.misspelt(samples) == []


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_expression_looks_at_the_job_of_halfdepth_alone(expression: str) -> None:
    question = asked(expression)
    assert all("job" in labels for labels in question.labels.values())
    assert {value for name, value in question.values if name == "job"} == {"halfdepth"}


def test_stages_and_reasons_that_are_asked_for_exist() -> None:
    values = set().union(*(asked(expression).values for expression in EXPRESSIONS))
    assert {value for name, value in values if name == "stage"} <= set(Timings.model_fields)
    reasons = {value for name, value in values if name == "reason"}
    assert reasons
    assert all(f"{reason}," in METRICS_SOURCE or f"`{reason}`" in METRICS_SOURCE for reason in reasons)


@pytest.mark.parametrize(
    ("expression", "wrong"),
    [
        ('rate(halfdepth_request_total{job="halfdepth"}[5m])', ["halfdepth_request_total"]),
        ("sum by (tasks) (halfdepth_requests_total)", ["tasks"]),
        ('1 + max(halfdepth_queue_ms{task="qa"})', ["halfdepth_queue_ms{task}"]),
        (
            "histogram_quantile(0.5, sum by (le) (rate(halfdepth_in_flight_bucket[1m])))",
            ["halfdepth_in_flight_bucket", "le"],
        ),
        ("halfdepth_in_flight / on (model) halfdepth_queue_ms", ["model"]),
    ],
)
def test_a_misspelt_metric_or_label_is_noticed(expression: str, wrong: list[str], samples: Exposed) -> None:
    assert asked(expression).misspelt(samples) == wrong


def test_legends_name_labels_that_their_query_keeps() -> None:
    for panel in panels("halfdepth", "5m"):
        for legend, query in panel.queries.items():
            used = set(re.findall(r"\{\{(\w+)\}\}", legend))
            question = asked(query)
            assert used <= (question.grouped or {"instance"}), (panel.title, legend)


def test_panels_neither_overlap_nor_repeat_a_title() -> None:
    cells = [
        (column, row)
        for x, y, width, height in (panel.place for panel in panels("halfdepth", "5m"))
        for column in range(x, x + width)
        for row in range(y, y + height)
    ]
    assert len(cells) == len(set(cells))
    assert max(column for column, _ in cells) < 24
    titles = [panel.title for panel in panels("halfdepth", "5m")]
    assert len(titles) == len(set(titles))
    numbers = [panel["id"] for panel in json.loads(DASHBOARD.read_text())["panels"]]
    assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize("alert", RULES)
def test_every_alert_has_a_page_a_severity_and_a_sentence(alert: str) -> None:
    rule = RULES[alert]
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert anchor == alert.lower()
    assert anchor in anchors(ROOT / page)
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"]["summary"]


def test_the_manual_s_command_gives_every_alert_the_address_of_its_page() -> None:
    manual = (ROOT / "docs" / "operations.md").read_text()
    [script] = re.findall(r"```bash\n(repository=.*?) \| kubectl apply --filename -\n```", manual, re.DOTALL)
    done = subprocess.run(["bash", "-euc", script], cwd=ROOT, capture_output=True, text=True, check=True)
    resource = yaml.safe_load(done.stdout)
    assert resource["kind"] == "PrometheusRule"
    addresses = [rule["annotations"]["runbook_url"] for rule in resource["spec"]["groups"][0]["rules"]]
    repository = "https://github.com/you/halfdepth/blob/main"
    assert addresses == [f"{repository}/{rule['annotations']['runbook_url']}" for rule in RULES.values()]


def test_the_manual_has_no_alert_that_is_not_a_rule() -> None:
    headings = re.findall(r"^### (Halfdepth\w+)$", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)
    assert headings == list(RULES)


def test_every_alert_is_tried_where_it_fires_and_where_it_does_not() -> None:
    cases = [case for test in yaml.safe_load(CASES.read_text())["tests"] for case in test["alert_rule_test"]]
    assert [case["alertname"] for case in cases if case["exp_alerts"]] == list(RULES)
    assert [case["alertname"] for case in cases if not case["exp_alerts"]] == list(RULES)


def test_the_bounds_of_int8_are_those_of_the_service() -> None:
    bounds = {task: spec.max_drift for task, spec in SPECS.items()}
    [others, similarity] = re.findall(r"> ([\d.]+)", RULES["HalfdepthInt8Drift"]["expr"])
    assert float(similarity) == bounds.pop("similarity")
    assert {float(others)} == set(bounds.values())


def test_the_alert_for_memory_comes_before_the_limit() -> None:
    deployment = only([resource for _, resource in resources(DEPLOY / "kubernetes" / "base")], "Deployment")
    assert container(deployment)["resources"]["limits"]["memory"] == "1Gi"
    [bound] = re.findall(r"> (\d+e6)", RULES["HalfdepthMemory"]["expr"])
    assert 0.5 * 2**30 < float(bound) < 0.9 * 2**30


@pytest.mark.system
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "rules", str(ALERTS)),
        ("check", "config", str(DEPLOY / "prometheus" / "prometheus.yml")),
        ("test", "rules", str(CASES)),
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_promtool_accepts_the_rules_and_their_tests(arguments: tuple[str, ...]) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout


@pytest.mark.system
def test_every_panel_shows_data_of_services_under_load() -> None:
    with watched(SECONDS) as watch:
        for panel in panels(JOB, RATE_INTERVAL):
            for legend, series in watch.series(panel).items():
                assert series, (panel.title, legend)
                finite = [value for points in series.values() for _, value in points if math.isfinite(value)]
                assert finite, (panel.title, legend)
