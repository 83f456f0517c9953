"""Serves questions by LitServe over onnxruntime.

Settings: a worker for each core (`workers_per_device`), each with a session of one thread, and as many API servers,
which is LitServe's default; `fast_queue`, its queue for many requests. No batches: they gain nothing for int8 on a CPU.
Source: https://lightning.ai/docs/litserve/api-reference/litserver
"""

from collections.abc import Callable

import litserve

from loadtest.bench.inline import Reply, open_inline
from loadtest.peers.servers.assignment import HOST, Assignment, read_assignment


class Questions(litserve.LitAPI):
    """Answers one question at a time in each worker."""

    def __init__(self, assignment: Assignment) -> None:
        super().__init__(api_path="/qa")
        self.assignment = assignment
        self.answer: Callable[[str, str], Reply]

    def setup(self, device: str) -> None:  # noqa: ARG002  # LitServe's signature
        self.answer = open_inline(self.assignment.model)

    def decode_request(self, request: dict[str, str]) -> tuple[str, str]:
        return request["question"], request["context"]

    def predict(self, texts: tuple[str, str]) -> Reply:
        return self.answer(*texts)

    def encode_response(self, reply: Reply) -> Reply:
        return reply


if __name__ == "__main__":
    assignment = read_assignment()
    server = litserve.LitServer(
        Questions(assignment), accelerator="cpu", devices=1, workers_per_device=assignment.cores, fast_queue=True
    )
    server.run(host=HOST, port=assignment.port, log_level="error", generate_client_file=False)
