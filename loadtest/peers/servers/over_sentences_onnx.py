"""Serves embeddings by FastAPI over sentence-transformers' ONNX backend.

Settings: one process for each core, one thread each, called on the event loop; the int8 file of the directory
(`file_name`), as its guide advises for CPU.
Source: https://sbert.net/docs/sentence_transformer/usage/efficiency.html (ONNX, quantization)
"""

import onnxruntime as ort
import uvicorn
from sentence_transformers import SentenceTransformer

from loadtest.peers.servers.assignment import HOST, read_assignment
from loadtest.peers.servers.embedder import create_app

if __name__ == "__main__":
    assignment = read_assignment()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    model = SentenceTransformer(
        str(assignment.model),
        backend="onnx",
        device="cpu",
        model_kwargs={
            "subfolder": "onnx",
            "file_name": "model_quantized.onnx",
            "provider": "CPUExecutionProvider",
            "session_options": options,
        },
    )

    def embed(text: str) -> list[float]:
        return [float(value) for value in model.encode(text, normalize_embeddings=True, show_progress_bar=False)]

    uvicorn.run(create_app(embed), host=HOST, port=assignment.port, access_log=False, log_level="error")
