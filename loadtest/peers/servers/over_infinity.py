"""Serves labels or embeddings by infinity-emb with its engine for CPU, optimum.

Settings: `--engine optimum --device cpu`, which prefers the quantized file and optimizes the graph by onnxruntime; its
own batching as it is. It writes the optimized graph beside the model, so it gets a copy of the directory.
Source: https://github.com/michaelfeil/infinity (README: "engine=optimum" for ONNX on CPU)
"""

import os
import shutil
import sys

from loadtest.peers.servers.assignment import HOST, read_assignment

if __name__ == "__main__":
    assignment = read_assignment()
    copy = assignment.scratch / "model"
    shutil.copytree(assignment.model, copy)
    flags = {
        "--model-id": ".",
        "--served-model-name": "peer",
        "--engine": "optimum",
        "--device": "cpu",
        "--pooling-method": "mean",
        "--host": HOST,
        "--port": str(assignment.port),
        "--log-level": "error",
    }
    arguments = [part for flag in flags.items() for part in flag]
    for graph in (copy / "onnx").glob("*.onnx"):
        graph.rename(copy / graph.name)
    os.chdir(copy)  # with today's optimum it finds the graph of a local model only beside its config, by relative path
    if assignment.task == "classify":  # its warm-up sends 512 tokens and two special ones, which it does not cut
        arguments.append("--no-model-warmup")
    os.execv(sys.executable, [sys.executable, "-m", "infinity_emb.cli", "v2", *arguments])
