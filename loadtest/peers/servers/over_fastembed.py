"""Serves embeddings by FastAPI over FastEmbed.

Settings: one process for each core, one thread each (`threads=1`), called on the event loop; a custom model from a
local directory, mean pooling and unit length as the bundle has them.
Source: https://qdrant.github.io/fastembed/examples/Supported_Models/ and TextEmbedding.add_custom_model
"""

import uvicorn
from fastembed import TextEmbedding
from fastembed.common.model_description import ModelSource, PoolingType

from loadtest.peers.servers.assignment import HOST, read_assignment
from loadtest.peers.servers.embedder import create_app

NAME, SIZE = "halfdepth/peer", 384

if __name__ == "__main__":
    assignment = read_assignment()
    TextEmbedding.add_custom_model(
        model=NAME,
        pooling=PoolingType.MEAN,
        normalization=True,
        sources=ModelSource(hf=NAME),
        dim=SIZE,
        model_file="onnx/model_quantized.onnx",
    )
    model = TextEmbedding(
        NAME, threads=1, specific_model_path=str(assignment.model), providers=["CPUExecutionProvider"]
    )

    def embed(text: str) -> list[float]:
        [vector] = model.embed([text])
        return [float(value) for value in vector]

    uvicorn.run(create_app(embed), host=HOST, port=assignment.port, access_log=False, log_level="error")
