"""Tensors in binary form, as Triton's and KServe's clients write and read them."""

import json
import struct
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

TEXTS = {"question": ["where?", "who?"], "context": ["in Paris", "she lives in Österreich"]}


def elements(texts: list[str]) -> bytes:
    return b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in texts)


def body(**options: Any) -> tuple[dict[str, Any], bytes]:
    contents = [elements(texts) for texts in TEXTS.values()]
    tensors = [
        {"name": name, "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": len(content)}}
        for name, content in zip(TEXTS, contents, strict=True)
    ]
    return {"inputs": tensors} | options, b"".join(contents)


def send(client: TestClient, head: dict[str, Any], binary: bytes, length: str | None = None, name: str = "qa") -> Any:
    content = json.dumps(head).encode()
    headers = {"inference-header-content-length": length or str(len(content))}
    return client.post(f"/v2/models/{name}/infer", content=content + binary, headers=headers)  # of no type, as Triton's


def test_texts_in_binary_form_are_those_in_json(client: TestClient) -> None:
    response = send(client, *body())
    assert response.status_code == 200, response.text
    plain = [{"name": name, "datatype": "BYTES", "shape": [2], "data": texts} for name, texts in TEXTS.items()]
    expected = client.post("/v2/models/qa/infer", json={"inputs": plain})
    assert response.json()["outputs"][:3] == expected.json()["outputs"][:3]


@pytest.mark.parametrize(
    "options",
    [
        {"parameters": {"binary_data_output": True}},
        {"outputs": [{"name": "scores", "parameters": {"binary_data": True}}, {"name": "usage"}]},
    ],
    ids=["all", "one"],
)
def test_outputs_come_in_binary_form_where_that_is_asked_for(client: TestClient, options: dict[str, Any]) -> None:
    texts = [("source", [1], ["Oslo"]), ("targets", [1, 2], ["in Oslo", "in Paris"])]
    tensors = [{"name": name, "datatype": "BYTES", "shape": shape, "data": data} for name, shape, data in texts]
    plain = client.post("/v2/models/similarity/infer", json={"inputs": tensors}).json()["outputs"]
    response = client.post("/v2/models/similarity/infer", json={"inputs": tensors} | options)
    assert response.headers["content-type"] == "application/octet-stream"
    length = int(response.headers["inference-header-content-length"])
    outputs, binary = json.loads(response.content[:length])["outputs"], response.content[length:]
    scores = outputs[0]
    assert "data" not in scores
    size = scores["parameters"]["binary_data_size"]
    assert np.frombuffer(binary[:size], "<f8").tolist() == plain[0]["data"]
    assert scores["shape"] == plain[0]["shape"] == [1, 2]
    usage, rest = outputs[1], binary[size:]
    if "outputs" in options:
        assert (usage["data"], rest) == (plain[1]["data"], b"")
    else:
        assert rest.startswith(elements(plain[1]["data"]))


@pytest.mark.parametrize(
    ("cut", "length", "sentence"),
    [
        (0, "99999", "Inference-Header-Content-Length: must be the length of the JSON"),
        (0, "-1", "Inference-Header-Content-Length: must be the length of the JSON"),
        (0, "9" * 30, "Inference-Header-Content-Length: must be the length of the JSON"),
        (1, None, "inputs[1].parameters.binary_data_size: is not what stands behind the JSON"),
        (-1, None, "inputs: claim 1 bytes less than stand behind the JSON"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(client: TestClient, cut: int, length: str | None, sentence: str) -> None:
    head, binary = body()
    response = send(client, head, binary[:-cut] if cut > 0 else binary + b"x" * -cut, length)
    assert response.status_code == 422
    assert response.json()["error"].startswith(sentence)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"\x01\x00", "inputs[0]: ends within an element"),
        (struct.pack("<I", 7) + b"short", "inputs[0]: ends within an element"),
        (struct.pack("<I", 2**32 - 1) + b"short", "inputs[0]: ends within an element"),
        (struct.pack("<I", 1) + b"\xff", "inputs[0]: element 0 is not UTF-8"),
        (b"", "inputs[0].data: has 0 elements where its shape has 1"),
    ],
)
def test_elements_that_cannot_be_read_are_refused(client: TestClient, content: bytes, sentence: str) -> None:
    parameters = {"binary_data_size": len(content)}
    head = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "parameters": parameters}]}
    response = send(client, head, content, name="classify")
    assert response.status_code == 422
    assert response.json()["error"].startswith(sentence)


def of_json(**fields: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["in Oslo"]} | fields]}


@pytest.mark.parametrize(
    ("head", "sentence"),
    [
        (
            of_json(parameters={"shared_memory_region": "a"}),
            "inputs[0].parameters: must have nothing but binary_data_size",
        ),
        (of_json(parameters={"content_type": "base64"}), "inputs[0].parameters.content_type: must be str"),
        (of_json(parameters={"binary_data_size": 0}), "inputs[0].data: and binary_data_size are both given"),
        (of_json() | {"parameters": {"binary_data_output": 1}}, "parameters.binary_data_output: must be true or false"),
        (of_json() | {"parameters": {"top_k": [1]}}, "parameters.top_k: must be a text, a number or a boolean"),
        (
            of_json() | {"outputs": [{"name": "labels", "parameters": {"binary_data": "true"}}]},
            "outputs[0].parameters.binary_data: must be true or false",
        ),
        (
            of_json() | {"outputs": [{"name": "labels", "parameters": {"classification": 2}}]},
            "outputs[0].parameters: must have nothing but binary_data",
        ),
    ],
)
def test_a_parameter_that_would_be_passed_over_is_refused(
    client: TestClient, head: dict[str, Any], sentence: str
) -> None:
    response = client.post("/v2/models/classify/infer", json=head)
    assert response.status_code == 422
    assert response.json()["error"].startswith(sentence)


def test_null_is_no_parameter_and_texts_may_be_declared_as_texts(client: TestClient) -> None:
    head = of_json(parameters={"content_type": "str", "binary_data_size": None})
    head |= {
        "parameters": {"top_k": None, "on_overflow": None, "binary_data_output": None},
        "outputs": [{"name": "labels", "parameters": {"binary_data": None}}],
    }
    response = client.post("/v2/models/classify/infer", json=head)
    assert response.status_code == 200, response.text
    plain = client.post("/v2/models/classify/infer", json=of_json() | {"outputs": [{"name": "labels"}]})
    assert response.json()["outputs"] == plain.json()["outputs"]
