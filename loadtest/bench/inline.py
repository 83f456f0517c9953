"""Answers questions by onnxruntime in the simplest way that anybody would write."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
from tokenizers import Tokenizer

LONGEST = 30  # tokens of an answer
Reply = dict[str, object]


def open_inline(bundle: Path, *, exact_products: bool = False) -> Callable[[str, str], Reply]:
    """Make the function from question and context to the best span: no windows, one thread.

    `exact_products`: as the service takes them on a CPU where this bundle's saturate, so that both do the same work.
    """
    tokenizer = Tokenizer.from_file(str(bundle / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(384, strategy="only_second")
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if exact_products:
        options.add_session_config_entry("session.x64quantprecision", "1")
    graph = next(path for name in ("model_quantized", "model") if (path := bundle / f"onnx/{name}.onnx").exists())
    # Without this fusion our graphs are faster (docs/log/graph.md); the service leaves it out too.
    session = ort.InferenceSession(
        str(graph), options, providers=["CPUExecutionProvider"], disabled_optimizers={"SkipLayerNormFusion"}
    )
    input_names = [node.name for node in session.get_inputs()]

    def answer(question: str, text: str) -> Reply:
        encoding = tokenizer.encode(question, text)
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
        return {"answer": text[begin:stop], "start": begin, "end": stop, "score": score}

    return answer
