"""Lists the peers: what each installs, starts and serves. Another peer is another entry."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from loadtest.peers.forms import INFINITY, OPEN_INFERENCE, PLAIN, Form
from models.tasks.base import TaskName

Model = Literal["our bundle", "stock int8", "fp32"]
BUNDLE: Model = "our bundle"
INT8: tuple[Model, ...] = ("our bundle", "stock int8")
SERVERS = "loadtest.peers.servers"

WEB = ("fastapi==0.165.0", "uvicorn==0.54.0", "uvloop", "httptools")
RUNTIME = ("onnxruntime==1.32.0", "tokenizers")
TORCH = ("torch==2.13.0",)  # no other version: an installer might take several GB of CUDA libraries with it
TRANSFORMERS = (*TORCH, "transformers==4.57.6")


@dataclass(frozen=True, slots=True)
class Peer:
    """Describes another server. `settings`: the best that its documentation names for a CPU, in short; the module of
    the server names the source. `each_core`: it is started once for each core, and connections are dealt evenly.
    """

    name: str
    module: str
    requirements: tuple[str, ...]
    forms: Mapping[TaskName, Form]
    models: tuple[Model, ...]
    settings: str
    each_core: bool = False
    variables: Mapping[str, str] = field(default_factory=dict)


OFFLINE = {"HF_HUB_OFFLINE": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0"}
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
RAY = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "OMP_NUM_THREADS": "1",
}

PEERS = (
    Peer(
        "plain-fastapi",
        f"{SERVERS}.over_inline",
        (*WEB, *RUNTIME, "pydantic"),
        {"qa": PLAIN["qa"]},
        INT8,
        "onnxruntime inline on the event loop; one process of one thread per core",
        each_core=True,
    ),
    Peer(
        "fastapi-transformers",
        f"{SERVERS}.over_pipeline",
        (*WEB, *TRANSFORMERS),
        {"qa": PLAIN["qa"]},
        ("fp32",),
        "transformers' pipeline, PyTorch; one process of one thread per core",
        each_core=True,
    ),
    Peer(
        "fastapi-optimum",
        f"{SERVERS}.over_optimum",
        (*WEB, *TRANSFORMERS, "optimum-onnx==0.1.0", "onnxruntime==1.32.0"),
        {"qa": PLAIN["qa"]},
        INT8,
        "optimum's ORTModel in the pipeline; one process of one thread per core",
        each_core=True,
    ),
    Peer(
        "litserve",
        f"{SERVERS}.over_litserve",
        ("litserve==0.2.19", *RUNTIME),
        {"qa": PLAIN["qa"]},
        INT8,
        "a worker of one thread per core, fast_queue",
    ),
    Peer(
        "bentoml",
        f"{SERVERS}.over_bentoml",
        ("bentoml==1.4.40", *RUNTIME),
        {"qa": PLAIN["qa"]},
        INT8,
        "a worker of one thread per core, access log and metrics off",
    ),
    Peer(
        "ray-serve",
        f"{SERVERS}.over_ray",
        ("ray[serve]==2.60.0", *RUNTIME),
        {"qa": PLAIN["qa"]},
        INT8,
        "a replica of one thread per core, HAProxy, options for throughput",
        variables=RAY,
    ),
    Peer(
        "mlserver",
        f"{SERVERS}.over_mlserver",
        ("mlserver==1.7.1", "mlserver-huggingface==1.7.1", "transformers==4.41.2", "uvloop==0.21.0", *TORCH),
        OPEN_INFERENCE,
        INT8,
        "Hugging Face runtime, a parallel worker of one thread per core",
        variables=ONE_THREAD,
    ),
    Peer(
        "infinity-emb",
        f"{SERVERS}.over_infinity",
        ("infinity-emb[server,torch,optimum]==0.0.78", *TORCH),
        INFINITY,
        INT8,
        "engine optimum on CPU, its own batching",
        variables=OFFLINE,
    ),
    Peer(
        "fastembed",
        f"{SERVERS}.over_fastembed",
        (*WEB, "fastembed==0.9.1"),
        {"similarity": PLAIN["similarity"]},
        INT8,
        "FastAPI around it; one process of one thread per core",
        each_core=True,
        variables=OFFLINE,
    ),
    Peer(
        "sentence-transformers-onnx",
        f"{SERVERS}.over_sentences_onnx",
        (*WEB, *TRANSFORMERS, "sentence-transformers[onnx]==5.7.0", "onnxruntime==1.32.0"),
        {"similarity": PLAIN["similarity"]},
        INT8,
        "FastAPI around it; one process of one thread per core",
        each_core=True,
        variables=OFFLINE,
    ),
    Peer(
        "sentence-transformers-openvino",
        f"{SERVERS}.over_sentences_openvino",
        (*WEB, *TORCH, "sentence-transformers==6.2.0", "optimum-intel==2.2.0", "openvino==2026.4.1", "nncf==3.4.0"),
        {"similarity": PLAIN["similarity"]},
        ("fp32",),
        "static int8 by NNCF from the fp32 weights; FastAPI around it, one process over all cores",
        variables=OFFLINE,
    ),
)
