"""Serves questions by MLServer's Hugging Face runtime.

Settings: a worker for each core (`parallel_workers`), one thread each; with ONNX, optimum's model in the pipeline
(`optimum_model`). No metrics, no gRPC in use, no batching.
Source: https://docs.seldon.ai/mlserver/user-guide/parallel-inference
and https://docs.seldon.ai/mlserver/runtimes/huggingface
"""

import json
import os
import sys

from loadtest.peers.servers.assignment import HOST, read_assignment

NAME = "qa"
START = "from mlserver.cli import main; main()"

if __name__ == "__main__":
    assignment = read_assignment()
    is_onnx = (assignment.model / "onnx").is_dir()
    server = {
        "host": HOST,
        "http_port": assignment.port,
        "grpc_port": assignment.port + 1,
        "metrics_endpoint": None,
        "parallel_workers": assignment.cores,
        "debug": False,
    }
    model = {
        "name": NAME,
        "implementation": f"{__spec__.parent}.mlserver_runtime.Runtime",
        "parameters": {
            "extra": {
                "task": "question-answering",
                "pretrained_model": str(assignment.model),
                "pretrained_tokenizer": str(assignment.model),
                "optimum_model": is_onnx,
                "framework": "pt",
            }
        },
    }
    (assignment.scratch / "settings.json").write_text(json.dumps(server))
    (assignment.scratch / "model-settings.json").write_text(json.dumps(model))
    os.execv(sys.executable, [sys.executable, "-c", START, "start", str(assignment.scratch)])
