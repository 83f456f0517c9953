"""KServe's and Triton's own clients, in an environment of their own: they pin much."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.server import ROOT, serve

pytestmark = pytest.mark.system

CONSTRAINTS = Path(__file__).with_name("inference_clients.txt")
INSTALL_S, RUN_S = 600, 120
QUESTIONS = ["Who repaired the lamp?", "When did the keeper leave?"]
CONTEXTS = ["The storm put out the lamp. Maria Jensen repaired it.", "The last keeper left the tower in 1968."]
EXPECTED = ["Maria Jensen", "1968"]
KSERVE = """
import asyncio, json, sys
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
url, questions, contexts, key, binary = json.loads(sys.argv[1])

def tensor(name, texts):
    made = InferInput(name, [len(texts)], "BYTES")
    made.set_data_from_numpy(np.array([text.encode() for text in texts], np.object_), binary_data=binary)
    return made

async def ask():
    headers = {"Authorization": f"Bearer {key}"}
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
        told = {"live": await client.is_server_live(url), "ready": await client.is_server_ready(url)}
        told["model"] = await client.is_model_ready(url, "qa", headers=headers)
        told["nobody"] = await client.is_model_ready(url, "nobody", headers=headers)
        inputs = [tensor("question", questions), tensor("context", contexts)]
        request = InferRequest("qa", inputs, request_id="mine", parameters={"top_k": 1})
        answer = await client.infer(url, request, model_name="qa", headers=dict(headers))
        told["id"] = answer.id
        told["answers"] = [json.loads(text) for text in next(o for o in answer.outputs if o.name == "answers").data]
        try:
            await client.infer(url, InferRequest("qa", inputs[:1]), model_name="qa", headers=dict(headers))
        except Exception as error:
            told["error"] = str(error)
    print(json.dumps(told))

asyncio.run(ask())
"""
TRITON = """
import json, sys
import numpy as np
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException
url, questions, contexts, key, binary = json.loads(sys.argv[1])
headers = {"Authorization": f"Bearer {key}"}

def tensor(name, texts):
    made = InferInput(name, list(np.shape(texts)), "BYTES")
    made.set_data_from_numpy(np.array(texts, dtype=np.object_), binary_data=binary)
    return made

client = InferenceServerClient(url.removeprefix("http://"))
metadata = client.get_model_metadata("qa", headers=headers)
[version] = metadata["versions"]
told = {"live": client.is_server_live(), "ready": client.is_server_ready()}
told["model"] = client.is_model_ready("qa", version, headers=headers)
told["nobody"] = client.is_model_ready("nobody", headers=headers)
told["server"] = client.get_server_metadata(headers=headers)["name"]
told["inputs"] = [tensor["name"] for tensor in metadata["inputs"] if not tensor["optional"]]
inputs = [tensor("question", questions), tensor("context", contexts)]
outputs = [InferRequestedOutput("answers", binary_data=False)] if not binary else None
options = {"headers": headers, "request_id": "mine", "parameters": {"top_k": 1}, "outputs": outputs}
compression = "gzip" if binary else None
answer = client.infer("qa", inputs, model_version=version, request_compression_algorithm=compression,
                      **(options | {"headers": dict(headers)}))
told["id"] = answer.get_response()["id"]
told["answers"] = [json.loads(text) for text in answer.as_numpy("answers")]
vectors = client.infer("embed", [tensor("inputs", [questions, contexts])], headers=dict(headers)).as_numpy("embeddings")
told["lengths"] = np.linalg.norm(vectors, axis=2).round(5).tolist()
try:
    client.infer("qa", inputs[:1], headers=dict(headers))
except InferenceServerException as error:
    told["error"] = f"{error.message()}, {error.status()}"
print(json.dumps(told))
"""

# KServe's and Kubernetes' classes are made of the schemas of their APIs, and list the fields of each object.
UNKNOWN_FIELDS = r"""
import json, re, sys, yaml
import kserve.models, kubernetes.client

def unknown(value, kind, place):
    if within := re.fullmatch(r"(?i)(?:list\[|dict[\[(]str, ?)(.+)[\])]", kind):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        return [field for key, part in parts for field in unknown(part, within[1], f"{place}.{key}")]
    model = getattr(kserve.models, kind, None) or getattr(kubernetes.client, kind, None)
    if model is None:
        return [] if kind in ("str", "int", "bool", "float", "object") else [f"{place} is of the unknown {kind}"]
    if kind == "IntOrString" or not hasattr(model, "attribute_map"):
        return []
    names = {written: name for name, written in model.attribute_map.items()}
    found = [f"{place}.{key}" for key in value if key not in names]
    for key in value.keys() & names.keys():
        found += unknown(value[key], model.openapi_types[names[key]], f"{place}.{key}")
    return found

written = yaml.safe_load(open(sys.argv[1]))
wrong = json.loads(json.dumps(written))
wrong["spec"]["predictor"]["containers"][0]["startupProbe"]["httpGet"]["paths"] = "/"
kind = "V1beta1InferenceService"
print(json.dumps([written, unknown(written, kind, ""), unknown(wrong, kind, "")]))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with both clients and nothing of ours."""
    directory = tmp_path_factory.mktemp("clients")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True)
    path = directory / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(path)]
    install = [*pip, "install", "--quiet", "--no-compile", "-c", str(CONSTRAINTS), "kserve", "tritonclient[http]"]
    subprocess.run(install, check=True, timeout=INSTALL_S)
    subprocess.run([*pip, "check"], check=True)
    return path


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with serve(ROOT / "bundles", tmp_path_factory.mktemp("log") / "log", API_KEYS="secret") as (_, url):
        yield url


def told(python: Path, script: str, url: str, *, binary: bool) -> dict[str, Any]:
    arguments = json.dumps([url, QUESTIONS, CONTEXTS, "secret", binary])
    command = [str(python), "-c", script, arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=RUN_S)
    assert done.returncode == 0, done.stderr
    content: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return content


@pytest.mark.parametrize("binary", [True, False], ids=["binary form", "JSON"])
@pytest.mark.parametrize("script", [KSERVE, TRITON], ids=["KServe", "Triton"])
def test_a_client_of_the_protocol_works_as_it_is(python: Path, url: str, script: str, binary: bool) -> None:
    content = told(python, script, url, binary=binary)
    assert (content["live"], content["ready"], content["model"], content["nobody"]) == (True, True, True, False)
    assert content["id"] == "mine"
    assert [answers[0]["text"] for answers in content["answers"]] == EXPECTED
    assert "context: is required" in content["error"]
    assert "422" in content["error"]
    if script == TRITON:
        assert (content["server"], content["inputs"]) == ("halfdepth", ["question", "context"])
        assert content["lengths"] == [[1.0, 1.0], [1.0, 1.0]]


def test_the_example_for_kserve_has_only_fields_that_its_api_has(python: Path) -> None:
    command = [str(python), "-c", UNKNOWN_FIELDS, str(ROOT / "deploy" / "kserve" / "inference-service.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=RUN_S)
    assert done.returncode == 0, done.stderr
    written, unknown, unknown_in_a_wrong_one = json.loads(done.stdout)
    assert unknown == []
    assert unknown_in_a_wrong_one == [".spec.predictor.containers.0.startupProbe.httpGet.paths"]
    [container] = written["spec"]["predictor"]["containers"]
    probed = {probe["httpGet"]["path"] for name, probe in container.items() if name.endswith("Probe")}
    assert probed == {"/v2/health/live", "/v2/health/ready"}
