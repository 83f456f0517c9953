"""Serves questions in the simplest way that anybody would write, to be compared with the service.

FastAPI, and an endpoint that tokenizes, runs the graph and takes the best span on the event loop. It checks two
strings and nothing else: no windows, no queue, no timings, no log. One process for each core is its best form.
"""

import os
from pathlib import Path

import numpy as np
import onnxruntime as ort
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from tokenizers import Tokenizer

from models.tasks.remote.address import DEFAULT_HOST

BUNDLE = Path(os.environ.get("PLAIN_BUNDLE", "bundles/qa"))
LONGEST = 30  # tokens of an answer


class Question(BaseModel):
    question: str
    context: str


def create_app() -> FastAPI:
    tokenizer = Tokenizer.from_file(str(BUNDLE / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(384, strategy="only_second")
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    graph = next(path for name in ("model_quantized", "model") if (path := BUNDLE / f"onnx/{name}.onnx").exists())
    # Without this fusion our graphs are faster (docs/log/graph.md); the service leaves it out too.
    session = ort.InferenceSession(
        str(graph), options, providers=["CPUExecutionProvider"], disabled_optimizers={"SkipLayerNormFusion"}
    )
    input_names = [node.name for node in session.get_inputs()]
    app = FastAPI()

    @app.post("/qa")
    async def answer(body: Question) -> dict[str, object]:
        encoding = tokenizer.encode(body.question, body.context)
        ids = np.array([encoding.ids], dtype=np.int64)
        feed = {
            "input_ids": ids,
            "attention_mask": np.ones_like(ids),
            "token_type_ids": np.array([encoding.type_ids], dtype=np.int64),
        }
        start_logits, end_logits = session.run(
            ["start_logits", "end_logits"], {name: feed[name] for name in input_names}
        )
        context = np.array([sequence == 1 for sequence in encoding.sequence_ids])
        start = np.where(context, start_logits[0], -np.inf)
        end = np.where(context, end_logits[0], -np.inf)
        first = int(start.argmax())
        last = first + int(end[first : first + LONGEST].argmax())
        begin, stop = encoding.offsets[first][0], encoding.offsets[last][1]
        score = float(np.exp(start[first] + end[last] - np.logaddexp.reduce(start) - np.logaddexp.reduce(end)))
        return {"answer": body.context[begin:stop], "start": begin, "end": stop, "score": score}

    @app.get("/health/ready")
    async def ready() -> dict[str, str]:
        return {"status": "ok"}

    return app


if __name__ == "__main__":
    port = int(os.environ["PLAIN_PORT"])
    uvicorn.run(create_app(), host=DEFAULT_HOST, port=port, access_log=False, log_level="error")
