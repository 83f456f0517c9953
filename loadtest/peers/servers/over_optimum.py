"""Serves questions by FastAPI over transformers' pipeline with optimum's ORTModel in it.

Settings: one process of one thread for each core (`intra_op_num_threads`), called on the event loop, as with PyTorch.
Source: https://huggingface.co/docs/optimum-onnx/onnxruntime/usage_guides/models (ORTModel in a pipeline)
and https://onnxruntime.ai/docs/performance/tune-performance/threading.html
"""

import onnxruntime as ort
import uvicorn
from optimum.onnxruntime import ORTModelForQuestionAnswering
from transformers import AutoTokenizer, pipeline

from loadtest.peers.servers.assignment import HOST, read_assignment
from loadtest.peers.servers.over_pipeline import create_app

if __name__ == "__main__":
    assignment = read_assignment()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    model = ORTModelForQuestionAnswering.from_pretrained(
        assignment.model, subfolder="onnx", file_name="model_quantized.onnx", session_options=options
    )
    answer = pipeline("question-answering", model=model, tokenizer=AutoTokenizer.from_pretrained(assignment.model))
    uvicorn.run(create_app(answer), host=HOST, port=assignment.port, access_log=False, log_level="error")
