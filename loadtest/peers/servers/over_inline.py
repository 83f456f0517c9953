"""Serves questions by FastAPI and onnxruntime inline; one process for each core is its best form."""

import uvicorn

from loadtest.bench.plain import create_app
from loadtest.peers.servers.assignment import HOST, read_assignment

if __name__ == "__main__":
    assignment = read_assignment()
    uvicorn.run(create_app(assignment.model), host=HOST, port=assignment.port, access_log=False, log_level="error")
