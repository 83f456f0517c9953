"""Serves embeddings by FastAPI over sentence-transformers' OpenVINO backend with static int8.

Settings: the checkpoint is exported and quantized at the first start, as its guide does
(`export_static_quantized_openvino_model`: NNCF, calibrated here on the texts below, since its own set lies on the Hub);
one process for all cores with OpenVINO's hint for latency, its default.
Source: https://sbert.net/docs/sentence_transformer/usage/efficiency.html (OpenVINO, quantization)
"""

import shutil
from pathlib import Path
from typing import Any

import uvicorn
from optimum.intel import OVQuantizationConfig, OVQuantizer
from sentence_transformers import SentenceTransformer

from loadtest.payloads import SENTENCES
from loadtest.peers.servers.assignment import HOST, read_assignment
from loadtest.peers.servers.embedder import create_app

FILE = "openvino_model_qint8_quantized.xml"


def quantized(model: Path, scratch: Path) -> Path:
    """Write the int8 model beside the checkpoint, once. Returns: its directory."""
    directory = model.parent / "openvino-int8"
    if not directory.exists():
        exported: Any = SentenceTransformer(str(model), backend="openvino", device="cpu")
        unfinished = scratch / "openvino-int8"
        exported.save_pretrained(str(unfinished))
        ov_model = exported[0].auto_model
        rows = [dict(exported.tokenizer(text)) for text in SENTENCES * 30]
        OVQuantizer.from_pretrained(ov_model).quantize(
            calibration_dataset=rows,
            save_directory=str(unfinished / "openvino"),
            ov_config=None,
            quantization_config=OVQuantizationConfig(),
        )
        shutil.move(unfinished, directory)
    return directory


if __name__ == "__main__":
    assignment = read_assignment()
    directory = quantized(assignment.model, assignment.scratch)
    model = SentenceTransformer(str(directory), backend="openvino", device="cpu")

    def embed(text: str) -> list[float]:
        return [float(value) for value in model.encode(text, normalize_embeddings=True, show_progress_bar=False)]

    uvicorn.run(create_app(embed), host=HOST, port=assignment.port, access_log=False, log_level="error")
