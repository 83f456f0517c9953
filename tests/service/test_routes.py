import gzip
import json
import logging
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from models.tasks.base import Features, Outputs
from models.tasks.bundle import load_bundle
from models.tasks.qa import QAInput
from models.tasks.qa import build as qa_task
from service.app import create_app
from service.engine.costs import LoneRuns
from service.engine.engine import Engine
from service.engine.model import Model
from service.routes import ROUTES, answer_questions
from service.schemas import QAItem
from service.settings import Settings
from service.startup.loading import load_engine
from tests.service.conftest import FakeSession, tiny_tokenizer, write_bundle

ITEM = {"question": "where?", "context": "she lives in Paris."}
STAGES = ["queue", "tokenization", "inference", "inference_wall", "postprocess", "total"]


def ask(client: TestClient, **fields: object) -> dict[str, Any]:
    response = client.post("/qa", json=ITEM | fields)
    assert response.status_code == 200, response.text
    content: dict[str, Any] = response.json()
    return content


def test_a_question_is_answered(client: TestClient) -> None:
    content = ask(client)
    (answer,) = content["answers"]
    assert (answer["text"], answer["start"], answer["end"]) == ("Paris", 13, 18)
    assert 0.99 < answer["score"] <= 1.0
    assert content["no_answer_score"] < 0.01
    assert content["usage"] == {
        "tokens_in": 10,
        "tokens_used": 10,
        "windows": 1,
        "truncated": False,
        "unknown_tokens": 0,
    }
    assert set(content) == {"answers", "no_answer_score", "usage", "timings_ms", "model"}


def test_the_model_is_named(client: TestClient, bundles: Path) -> None:
    bundle = load_bundle(bundles / "qa")
    assert ask(client)["model"] == {"name": "qa", "revision": bundle.revision, "precision": "fp32"}


def test_offsets_count_code_points(client: TestClient) -> None:
    context = "é 🙂 in Paris"
    (answer,) = ask(client, context=context)["answers"]
    assert context[answer["start"] : answer["end"]] == "Paris"


def test_top_k_gives_the_best_first(client: TestClient) -> None:
    answers = ask(client, context="in Oslo or Paris", top_k=2)["answers"]
    assert [answer["text"] for answer in answers] == ["Paris", "Oslo"]
    assert answers[0]["score"] > answers[1]["score"]


def test_no_answer_is_given_where_it_is_allowed(client: TestClient) -> None:
    refused = ask(client, context="she lives", allow_no_answer=True)
    assert refused["answers"] == []
    assert refused["no_answer_score"] > 0.99
    assert ask(client, context="she lives")["answers"]


def test_a_long_context_is_read_to_its_end(client: TestClient) -> None:
    content = ask(client, context="a " * 60 + "in Paris", doc_stride=4)
    assert content["usage"]["windows"] > 1
    assert content["answers"][0]["start"] == 123


def test_nul_characters_are_accepted(client: TestClient) -> None:
    assert ask(client, context="in Paris\x00")["answers"]


def test_timings_are_told_in_body_and_header_alike(client: TestClient) -> None:
    response = client.post("/qa", json=ITEM)
    timings = response.json()["timings_ms"]
    assert list(timings) == STAGES
    header = dict(part.split(";dur=") for part in response.headers["server-timing"].split(", "))
    assert {stage: float(duration) for stage, duration in header.items()} == timings
    parts = timings["queue"] + timings["tokenization"] + timings["inference_wall"] + timings["postprocess"]
    assert parts == pytest.approx(timings["total"], rel=0.05)


def test_a_list_is_answered_in_order_with_totals(client: TestClient) -> None:
    inputs = [ITEM, ITEM | {"context": "in Oslo"}, ITEM | {"context": "a " * 40}]
    content = client.post("/qa", json={"inputs": inputs}).json()
    assert set(content) == {"results", "usage", "timings_ms", "model"}
    assert [result["answers"][0]["text"] for result in content["results"][:2]] == ["Paris", "Oslo"]
    for result in content["results"]:
        assert set(result) == {"answers", "no_answer_score", "usage", "timings_ms"}
    for name in ("tokens_in", "tokens_used", "windows"):
        assert content["usage"][name] == sum(result["usage"][name] for result in content["results"])
    assert content["timings_ms"]["total"] >= max(result["timings_ms"]["total"] for result in content["results"])


def test_a_list_of_one_is_still_a_list(client: TestClient) -> None:
    assert len(client.post("/qa", json={"inputs": [ITEM]}).json()["results"]) == 1


def test_what_the_access_log_says_holds_no_text(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    ask(client, question="canary?", context="canary in Paris")
    (line,) = [record for record in caplog.records if record.name == "service.access"]
    data = line.__dict__["data"]
    assert (data["method"], data["route"], data["status"], data["task"]) == ("POST", "/qa", 200, "qa")
    assert data["windows"] == 1
    assert data["total_ms"] > 0
    assert "canary" not in str([record.__dict__ for record in caplog.records])


def test_the_defaults_are_those_of_the_kernel() -> None:
    body = QAItem(question="where?", context="in Paris.")
    assert answer_questions(body).items == {"": QAInput("where?", "in Paris.")}


def test_every_field_reaches_the_kernel() -> None:
    body = ITEM | {"top_k": 2, "max_answer_tokens": 3, "doc_stride": 4, "allow_no_answer": True}
    (item,) = answer_questions(QAItem.model_validate(body)).items.values()
    assert isinstance(item, QAInput)
    assert asdict(item) == body | {"align_to_words": True}


def test_every_path_stands_once_in_the_table() -> None:
    paths = [row.path for row in ROUTES]
    assert len(set(paths)) == len(paths)


PROBLEMS = [
    (b"{", 400, "malformed_json"),
    (b'{"question": NaN}', 400, "malformed_json"),
    (b'{"question": "\xff"}', 400, "malformed_json"),
    (b"[" * 9_000, 400, "malformed_json"),
    (b"x" * 10_001, 413, "body_too_large"),
    (b"null", 422, "invalid_request"),
    (b"[]", 422, "invalid_request"),
    (b"{}", 422, "invalid_request"),
    (b'{"question": " ", "context": "in Paris"}', 422, "invalid_request"),
    (b'{"question": "where?", "context": ""}', 422, "invalid_request"),
    (b'{"question": "\\ud800", "context": "in Paris"}', 422, "invalid_request"),
    (b'{"question": "where?", "context": "in Paris", "top_k": 0}', 422, "invalid_request"),
    (b'{"question": "where?", "context": "in Paris", "top_k": 10000}', 422, "invalid_request"),
    (b'{"inputs": [1, 2, 3, 4, 5, 6]}', 422, "invalid_request"),
    (b'{"question": "%s", "context": "in Paris"}' % (b"a " * 30), 422, "input_too_long"),
    (b'{"question": "where?", "context": "%s"}' % (b"a " * 500), 422, "input_too_long"),
]


@pytest.mark.parametrize(("body", "status", "code"), PROBLEMS)
def test_a_wrong_body_is_told_what_is_wrong(client: TestClient, body: bytes, status: int, code: str) -> None:
    response = client.post("/qa", content=body, headers={"Content-Type": "application/json"})
    problem = response.json()
    assert (response.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["request_id"] == response.headers["x-request-id"]
    assert bool(problem.get("errors")) == (code == "invalid_request")


def test_a_body_of_unknown_length_is_cut_off_too(client: TestClient) -> None:
    chunks = (b"x" * 1_000 for _ in range(11))
    response = client.post("/qa", content=chunks, headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")


def test_a_body_that_is_not_declared_as_json_is_refused(client: TestClient) -> None:
    response = client.post("/qa", content=b"{}", headers={"Content-Type": "text/plain"})
    assert (response.status_code, response.json()["code"]) == (415, "unsupported_media_type")


def test_a_bad_item_is_named_by_its_index(client: TestClient) -> None:
    response = client.post("/qa", json={"inputs": [ITEM, ITEM | {"top_k": 0}]})
    assert [error["field"] for error in response.json()["errors"]] == ["inputs[1].top_k"]


def test_an_unknown_route_is_not_found(client: TestClient) -> None:
    for path in ("/nowhere", "/qa/", "/embeddings"):
        response = client.post(path, json=ITEM)
        assert (response.status_code, response.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/qa/", "/qa"),
        ("//qa", "/qa"),
        ("/QA", "/qa"),
        ("/v1/qa", "/qa"),
        ("/embeddings", "/v1/embeddings"),
        ("/v1//embeddings", "/v1/embeddings"),
        ("/api/v1/embeddings", "/v1/embeddings"),
        ("/v1/v1/rerank", "/v1/rerank"),
        ("/question-answering", "/hf/question-answering"),
        ("/health/ready/", "/health/ready"),
        ("/models", "/v1/models"),
    ],
)
def test_a_path_that_is_nearly_one_is_told_which(client: TestClient, path: str, meant: str) -> None:
    response = client.post(f"http://testserver{path}", json=ITEM)
    assert response.status_code == 404
    assert f"there is no such route; did you mean {meant}? /docs lists all" in response.text


@pytest.mark.parametrize("path", ["/nowhere", "/a", "/%2e", "//", "/v1", "/v1/chat/completions", "/%ff", "/metrics-x"])
def test_a_path_that_is_like_none_is_told_where_all_are(client: TestClient, path: str) -> None:
    assert "there is no such route; /docs lists them" in client.post(f"http://testserver{path}").text


def test_a_wrong_method_is_told_the_right_one(client: TestClient) -> None:
    response = client.get("/qa")
    assert (response.status_code, response.json()["code"]) == (405, "method_not_allowed")
    assert response.headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/qa", ITEM),
        ("/qa", {"inputs": [ITEM]}),
        ("/classify", {"text": "in Paris"}),
        ("/similarity", {"source": "in Paris", "targets": ["in Oslo"]}),
        ("/embed", {"inputs": "in Paris"}),
    ],
)
def test_a_task_without_a_bundle_is_not_loaded(settings: Settings, path: str, body: object) -> None:
    response = TestClient(create_app(settings, Engine([]))).post(path, json=body)
    assert (response.status_code, response.json()["code"]) == (404, "model_not_loaded")


def failing(bundles: Path, act: Callable[[Features], Outputs]) -> Engine:
    bundle = load_bundle(bundles / "qa")
    model = Model(bundle, qa_task(bundle), FakeSession(act))
    return Engine([model])


def test_a_failed_run_is_logged_and_its_text_kept_back(
    settings: Settings, bundles: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Features) -> Outputs:
        raise RuntimeError("secret")

    response = TestClient(create_app(settings, failing(bundles, fail))).post("/qa", json=ITEM)
    assert (response.status_code, response.json()["code"]) == (500, "inference_failed")
    assert "secret" not in response.text
    assert "RuntimeError: secret" in caplog.text


def test_health_is_told(client: TestClient) -> None:
    for path in ("/health/live", "/health/ready"):
        response = client.get(path)
        assert (response.status_code, response.json()) == (200, {"status": "ok"})
        assert response.headers["x-request-id"]


def test_a_service_that_has_shut_down_is_alive_but_not_ready(settings: Settings) -> None:
    client = TestClient(create_app(settings))
    with client:
        assert client.get("/health/ready").status_code == 200
    assert client.get("/health/live").status_code == 200
    response = client.get("/health/ready")
    assert (response.status_code, response.json()["code"]) == (503, "not_ready")
    assert int(response.headers["retry-after"]) >= 1


def test_info_tells_versions_bundles_and_threads(client: TestClient, bundles: Path) -> None:
    info = client.get("/info").json()
    assert set(info["versions"]) == {"halfdepth", "onnxruntime", "tokenizers", "python"}
    assert (info["threads"], info["workers"]) == (1, 1)
    now = datetime.now(UTC)
    loaded = [datetime.fromisoformat(bundle.pop("loaded_at")) for bundle in info["bundles"]]
    assert all(now - timedelta(hours=1) < moment <= now for moment in loaded)
    assert info["bundles"] == [
        {
            "task": task,
            "directory": task,
            "hub": None,
            "default": True,
            "name": task,
            "revision": load_bundle(bundles / task).revision,
            "precision": "fp32",
            "file": "onnx/model.onnx",
            "no_answer": no_answer,
            "cost": {"fixed_ms": 0.3, "ms_per_token": 0.035},
            "lone_runs": [],
        }
        for task, no_answer in (
            ("classify", None),
            ("entities", None),
            ("qa", True),
            ("rerank", None),
            ("similarity", None),
        )
    ]


def test_info_and_metrics_tell_what_lone_runs_have_taught(settings: Settings) -> None:
    engine = load_engine(settings)
    model = replace(engine.model("qa"), lone=LoneRuns(2, learns=True, wide_share=1.5))
    client = TestClient(create_app(settings, Engine([model], cores=2, threads=2)))
    assert client.post("/qa", json={"question": "where?", "context": "in Paris."}).status_code == 200
    [bundle] = client.get("/info").json()["bundles"]
    assert bundle["lone_runs"] == [{"up_to_tokens": 15, "threads": 1, "runs": 1, "changed": None}]
    for _ in range(50):
        model.lone.learn(10, 2, 0.01)
    [lengths] = client.get("/info").json()["bundles"][0]["lone_runs"]
    assert (lengths["threads"], lengths["runs"], lengths["changed"][:2]) == (2, 51, "20")
    metric = 'halfdepth_lone_run_threads{model="qa",task="qa",up_to_tokens="15"} 2.0'
    assert metric in client.get("/metrics").text.splitlines()


def test_a_body_in_gzip_or_behind_a_byte_order_mark_is_answered_as_it_is_without(client: TestClient) -> None:
    body = json.dumps({"question": "where?", "context": "in Paris."}).encode()
    as_json = {"Content-Type": "application/json"}
    for content, headers in [
        (gzip.compress(body), {"Content-Encoding": "gzip"}),
        (b"\xef\xbb\xbf" + body, {}),
        (gzip.compress(b"\xef\xbb\xbf" + body), {"Content-Encoding": "gzip"}),
    ]:
        response = client.post("/qa", content=content, headers=as_json | headers)
        assert response.json()["answers"][0]["text"] == "Paris"


@pytest.mark.parametrize("path", [row.path for row in ROUTES])
def test_every_route_refuses_codings_that_it_does_not_read(client: TestClient, path: str) -> None:
    response = client.post(path, content=b"{}", headers={"Content-Type": "application/json", "Content-Encoding": "br"})
    assert (response.status_code, response.headers["accept-encoding"]) == (415, "gzip, identity")


@pytest.mark.parametrize(
    ("path", "body", "place"),
    [
        ("/qa", ITEM | {"allow_no_answer": True}, ""),
        ("/qa", {"inputs": [ITEM, ITEM | {"allow_no_answer": True}]}, "inputs[1]: "),
        ("/hf/question-answering", {"inputs": ITEM, "parameters": {"handle_impossible_answer": True}}, ""),
    ],
)
def test_a_model_without_a_threshold_cannot_be_asked_whether_there_is_an_answer(
    tmp_path: Path, settings: Settings, path: str, body: dict[str, object], place: str
) -> None:
    write_bundle(tmp_path / "qa")
    config = json.loads((tmp_path / "qa" / "config.json").read_text())
    del config["no_answer_threshold"]
    (tmp_path / "qa" / "config.json").write_text(json.dumps(config))
    with TestClient(create_app(settings.model_copy(update={"bundles": tmp_path}))) as client:
        response = client.post(path, json=body)
        assert client.get("/info").json()["bundles"][0]["no_answer"] is False
    content = response.json()
    assert (response.status_code, content.get("code") or content["error_type"]) == (422, "invalid_request")
    sentence = content.get("detail") or content["error"]
    assert sentence.startswith(f"{place}this model has no threshold for 'no answer': set no_answer_threshold")
    assert "config.json or halfdepth.json" in sentence
    (tmp_path / "qa" / "halfdepth.json").write_text('{"no_answer_threshold": 0}')
    with TestClient(create_app(settings.model_copy(update={"bundles": tmp_path}))) as client:
        assert client.post(path, json=body).status_code == 200
        assert client.get("/info").json()["bundles"][0]["no_answer"] is True


def test_a_word_that_only_the_tokenizer_knows_is_refused_and_others_are_answered(
    settings: Settings, tmp_path: Path
) -> None:
    write_bundle(tmp_path / "qa")
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["zanzibar"])
    tokenizer.save(str(tmp_path / "qa" / "tokenizer.json"))
    with TestClient(create_app(settings.model_copy(update={"bundles": tmp_path}))) as client:
        known = {"question": "where?", "context": "in Paris"}
        unknown = known | {"context": "in zanzibar"}
        refused = client.post("/qa", json=unknown)
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
        assert refused.json()["detail"].startswith("the model has no embedding for one of the text's tokens")
        listed = client.post("/qa", json={"inputs": [known, unknown]})
        assert listed.status_code == 422
        assert listed.json()["detail"].startswith("inputs[1]: the model has no embedding")
        assert client.post("/qa", json=known).status_code == 200
