"""Models that are named as on the Hugging Face Hub, from a stand-in for it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import onnx
import pytest
from huggingface_hub.utils._http import reset_sessions
from starlette.testclient import TestClient

from loadtest.process import python_environment, spawn
from models.tasks.bundle import load_bundle
from models.tasks.directory.files import BundleError
from service.app import create_app
from service.settings import Settings
from service.startup.hub import load_from_hub
from service.startup.loading import load_engine
from tests.models.tasks.test_bundle import manifest_of
from tests.server import serve
from tests.service.conftest import tiny_qa_graph, write_bundle
from tests.service.startup.standin import Hub
from tests.service.startup.standin import hub as standing_in

ITEM = {"question": "where?", "context": "in Oslo or Paris"}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """What HF_ENDPOINT and HF_HUB_CACHE would set, had the library not been imported before."""
    with standing_in() as server:
        for name, value in (
            ("constants.ENDPOINT", server.url),
            ("file_download.HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"),
            ("constants.HF_HUB_CACHE", str(cache)),
            ("constants.HF_HUB_OFFLINE", False),
            ("constants.DOWNLOAD_CHUNK_SIZE", 1024),
            ("hf_api.api.endpoint", server.url),
        ):
            monkeypatch.setattr(f"huggingface_hub.{name}", value)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        reset_sessions()
        yield server


def go_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    reset_sessions()  # they were made for the mode that was


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A bundle without a manifest, as somebody else would put it on the Hub."""
    write_bundle(tmp_path / "foreign")
    return tmp_path / "foreign"


@pytest.fixture
def bundle(foreign: Path) -> Path:
    """The same with a manifest."""
    (foreign / "manifest.json").write_text(json.dumps(manifest_of(foreign) | {"golden": []}))
    return foreign


def refusal(name: str) -> str:
    with pytest.raises(BundleError) as caught:
        load_from_hub(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_served_is_downloaded_and_nothing_else(hub: Hub, foreign: Path) -> None:
    for extra in ("model.safetensors", "README.md", "handler.py", "onnx/model_fp16.onnx", "onnx/model_q4.onnx"):
        (foreign / extra).write_bytes(b"much")
    (foreign / "extra").mkdir()
    (foreign / "extra" / "config.json").write_text("{}")
    commit = hub.commit("org/name", foreign)
    bundle = load_from_hub("org/name")
    assert sorted(hub.downloads()) == ["config.json", "extra/config.json", "onnx/model.onnx", "tokenizer.json"]
    assert (bundle.name, bundle.directory, bundle.revision) == ("org/name", "name", load_bundle(foreign).revision)
    assert bundle.origin is not None
    assert (bundle.origin.repository, bundle.origin.revision, bundle.origin.commit) == ("org/name", "main", commit)


def test_a_second_start_downloads_nothing(hub: Hub, foreign: Path) -> None:
    hub.commit("org/name", foreign)
    first = load_from_hub("org/name")
    hub.requests.clear()
    assert load_from_hub("org/name") == first
    assert hub.downloads() == []


def test_the_graph_that_halfdepth_json_names_is_downloaded_with_its_weights(hub: Hub, foreign: Path) -> None:
    (foreign / "halfdepth.json").write_text('{"file": "onnx/model_large.onnx"}')
    onnx.save(
        tiny_qa_graph(),
        str(foreign / "onnx" / "model_large.onnx"),
        save_as_external_data=True,
        location="weights-1.bin",
        size_threshold=64,
    )
    hub.commit("org/name", foreign)
    engine = load_engine(Settings(models=("org/name",), threads=1))
    assert engine.model("qa").bundle.file == "onnx/model_large.onnx"
    assert {"onnx/model_large.onnx", "onnx/weights-1.bin"} <= set(hub.downloads())
    assert "onnx/model.onnx" not in hub.downloads()


def test_with_a_manifest_every_file_of_it_is_downloaded_and_checked(hub: Hub, bundle: Path) -> None:
    (bundle / "pytorch_model.bin").write_bytes(b"much")
    hub.commit("org/name", bundle)
    assert load_from_hub("org/name").name == "tiny"
    assert sorted(hub.downloads()) == ["config.json", "manifest.json", "onnx/model.onnx", "tokenizer.json"]


@pytest.mark.parametrize("file", ["config.json", "onnx/model.onnx"])
def test_a_file_that_is_not_the_manifest_s_is_refused(hub: Hub, bundle: Path, file: str) -> None:
    content = (bundle / file).read_bytes()
    (bundle / file).write_bytes(content[:-2] + content[:-3:-1])
    hub.commit("org/name", bundle)
    assert f"{file} was altered: its SHA-256 is not the manifest's" in refusal("org/name")


def test_a_file_that_the_manifest_lists_and_the_repository_lacks_is_told(hub: Hub, bundle: Path) -> None:
    (bundle / "onnx" / "model.onnx").unlink()
    hub.commit("org/name", bundle)
    assert "onnx/model.onnx is missing" in refusal("org/name")


def test_an_interrupted_download_continues_where_it_stopped(hub: Hub, bundle: Path) -> None:
    graph = bundle / "onnx" / "model.onnx"
    model = onnx.load(graph)
    model.doc_string = "x" * 100_000
    onnx.save(model, graph)
    (bundle / "manifest.json").unlink()
    (bundle / "manifest.json").write_text(json.dumps(manifest_of(bundle) | {"golden": []}))
    hub.commit("org/name", bundle)
    hub.cut["onnx/model.onnx"] = 50_000
    assert "could not be downloaded" in refusal("org/name")
    hub.requests.clear()
    assert load_from_hub("org/name").model_path.read_bytes() == graph.read_bytes()
    [request] = [request for request in hub.requests if request.startswith("GET /org/")]
    resumed_from = int(request.partition(" bytes=")[2].rstrip("-"))
    assert 0 < resumed_from <= 50_000


def test_a_revision_is_pinned_and_a_branch_moves(hub: Hub, foreign: Path) -> None:
    old = hub.commit("org/name", foreign, "main", "v1", "refs/pr/1")
    (foreign / "halfdepth.json").write_text('{"no_answer_threshold": 1}')
    new = hub.commit("org/name", foreign)
    for name, commit in (("", new), ("@main", new), ("@v1", old), (f"@{old}", old), ("@refs/pr/1", old)):
        origin = load_from_hub(f"org/name{name}").origin
        assert origin is not None
        assert origin.commit == commit


def test_offline_mode_serves_the_cache(hub: Hub, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.commit("org/name", bundle)
    online = load_from_hub("org/name")
    hub.requests.clear()
    go_offline(monkeypatch)
    assert load_from_hub("org/name") == online
    assert hub.requests == []


def test_without_a_network_the_cache_is_served_with_a_warning(
    hub: Hub, bundle: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    commit = hub.commit("org/name", bundle)
    online = load_from_hub("org/name")
    for name in ("constants.ENDPOINT", "hf_api.api.endpoint"):
        monkeypatch.setattr(f"huggingface_hub.{name}", "http://127.0.0.1:9")
    assert load_from_hub("org/name") == online
    assert f"commit {commit} is served from the cache" in caplog.text


@pytest.mark.parametrize("missing", ["tokenizer.json", "onnx/model.onnx"])
@pytest.mark.parametrize("has_manifest", [True, False])
def test_a_part_of_a_commit_in_the_cache_is_not_served_offline(
    hub: Hub, bundle: Path, monkeypatch: pytest.MonkeyPatch, *, missing: str, has_manifest: bool
) -> None:
    if not has_manifest:
        (bundle / "manifest.json").unlink()
    hub.commit("org/name", bundle)
    (load_from_hub("org/name").path / missing).unlink()
    go_offline(monkeypatch)
    assert "org/name is not complete in the cache" in refusal("org/name")


def test_what_is_not_in_the_cache_is_told_offline(hub: Hub, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    go_offline(monkeypatch)
    assert refusal("org/name") == (
        f"org/name is neither a directory nor in the cache {cache}, and HF_HUB_OFFLINE is set; correct the name, or "
        "start once with access to the Hub"
    )
    assert hub.requests == []


def test_a_hub_that_does_not_answer_is_told(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert "and http://127.0.0.1:9 does not answer; correct the name, or start once with" in refusal("org/name")
    assert hub.requests == []


def test_a_repository_that_is_not_there_or_private_is_told(hub: Hub) -> None:
    assert refusal("org/nothing") == (
        f"org/nothing is not a directory, and {hub.url} has no such repository, or a private one; correct the name, "
        "or set HF_TOKEN to a token that may read it"
    )


def test_a_revision_that_is_not_there_is_told(hub: Hub, foreign: Path) -> None:
    hub.commit("org/name", foreign)
    assert refusal("org/name@v9") == (
        "org/name@v9: the repository has no such revision; name a branch, a tag or the whole hash of a commit"
    )


def test_a_gated_repository_needs_a_token(hub: Hub, foreign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.commit("org/name", foreign)
    hub.gated.add("org/name")
    assert refusal("org/name") == (f"org/name is gated: accept its terms at {hub.url}, and set HF_TOKEN to your token")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert "hf_secret" not in refusal("org/name")
    hub.tokens.add("Bearer hf_secret")
    assert load_from_hub("org/name").name == "org/name"


def test_a_repository_without_onnx_is_to_be_exported(hub: Hub, foreign: Path) -> None:
    (foreign / "onnx" / "model.onnx").rename(foreign / "model.safetensors")
    hub.commit("org/name", foreign)
    assert refusal("org/name") == (
        "org/name holds no model (onnx/model.onnx or another graph); export it with halfdepth export"
    )
    assert "model.safetensors" not in hub.downloads()


def test_a_cache_that_cannot_be_written_is_told(hub: Hub, foreign: Path, cache: Path) -> None:
    hub.commit("org/name", foreign)
    cache.write_text("a file")
    assert "set HF_HOME to a directory that has room and may be written" in refusal("org/name")


def test_a_name_that_the_hub_does_not_allow_is_told(hub: Hub) -> None:
    assert "org/a..b is not a name on the Hugging Face Hub" in refusal("org/a..b")
    assert hub.requests == []


@pytest.mark.parametrize("name", ["name", "./org/name", "/org/name", "org/name/more", "org/name@"])
def test_what_is_neither_a_directory_nor_a_name_is_told(hub: Hub, name: str) -> None:
    with pytest.raises(BundleError, match="is neither a directory nor a name on the Hugging Face Hub"):
        load_engine(Settings(models=(name,)))
    assert hub.requests == []


def test_a_directory_goes_before_a_name(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bundle(tmp_path / "org" / "name")
    monkeypatch.chdir(tmp_path)
    assert load_engine(Settings(models=("org/name",), threads=1)).model("qa").bundle.origin is None
    assert hub.requests == []


def test_the_first_model_of_a_task_that_is_named_is_its_default(hub: Hub, bundles: Path, foreign: Path) -> None:
    hub.commit("org/name", foreign)
    for models, default in ((("org/name", str(bundles)), "org/name"), ((str(bundles), "org/name"), "qa")):
        engine = load_engine(Settings(models=models, threads=1))
        assert engine.model("qa").id == default
        assert engine.model("classify").id == "classify"


def test_models_by_name_take_the_place_of_bundles(bundles: Path, tmp_path: Path) -> None:
    write_bundle(tmp_path / "mine")
    engine = load_engine(Settings(bundles=bundles, models=(str(tmp_path / "mine"),), threads=1))
    assert [model.id for model in engine.models] == ["mine"]


def test_a_request_names_it_by_repository_name_or_revision_and_leads_to_no_download(
    hub: Hub, foreign: Path, bundles: Path
) -> None:
    commit = hub.commit("org/name", foreign, "v1")
    with TestClient(create_app(Settings(models=(str(bundles), "org/name@v1"), threads=1))) as client:
        hub.requests.clear()
        [info] = [info for info in client.get("/info").json()["bundles"] if info["name"] == "org/name"]
        assert info["hub"] == {"repository": "org/name", "revision": "v1", "commit": commit}
        revisions = ("", "@v1", f"@{commit}", f"@{info['revision']}")
        for name in [name + revision for name in ("org/name", "name") for revision in revisions]:
            response = client.post("/qa", json=ITEM | {"model": name})
            assert (response.status_code, response.json()["model"]["name"]) == (200, "org/name")
        assert client.post("/qa", json=ITEM).json()["model"]["name"] == "qa"
        for name in ("org/name@main", "org/other", "org/name@v2"):
            assert client.post("/qa", json=ITEM | {"model": name}).json()["code"] == "model_not_loaded"
            assert client.post("/v1/embeddings", json={"input": "a", "model": name}).status_code == 200
        assert "org/name" in [model["id"] for model in client.get("/v1/models").json()["data"]]
    assert hub.requests == []


def test_the_command_downloads_by_the_library_s_own_variables_and_serves_offline(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    log = tmp_path / "log"
    with standing_in() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        commit = hub.commit("org/name", bundle)
        with serve(tmp_path, log, MODELS="org/name") as (_, url):
            assert httpx.post(f"{url}/qa", json=ITEM | {"model": "org/name"}).json()["answers"][0]["text"] == "Paris"
        lines = [json.loads(line) for line in log.read_text().splitlines()]  # and no progress bar between them
        [loaded] = [line for line in lines if line["message"] == "loaded"]
        assert (loaded["repository"], loaded["commit"]) == ("org/name", commit)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    process = spawn("org/name", "org/other", THREADS="1")
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "org/other is neither a directory nor in the cache" in stderr.splitlines()[-1]
    with serve(tmp_path, log, MODELS="org/name") as (_, url):
        assert httpx.get(f"{url}/info").json()["bundles"][0]["hub"]["commit"] == commit


def test_directories_alone_do_not_import_the_library(bundles: Path) -> None:
    source = """
import sys
from service.app import create_app
from service.settings import Settings
create_app(Settings(threads=1))
assert "huggingface_hub" not in sys.modules
"""
    environment = python_environment(HALFDEPTH_MODELS=str(bundles))
    child = subprocess.run([sys.executable, "-c", source], env=environment, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr
