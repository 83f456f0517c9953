"""Makes records as the commands write them, with invented figures of a plausible size."""

from collections.abc import Iterator

from loadtest.record import Record, Row, record

BUNDLES = {
    "qa": ("minilm-l6-qa", 0.055),
    "classify": ("minilm-l3-classify", 0.02),
    "rerank": ("minilm-l3-rerank", 0.022),
}
LENGTHS = (8, 16, 32, 64, 128, 256, 384, 512)
INFINITY = (248, 212, 150, 97, 55, 27, 17, 12)


def records() -> list[Record]:
    return [
        record("grid", list(grid())),
        record("throughput", list(throughput())),
        record("peers", list(peers())),
        record("infinity", list(infinity())),
        record("table3", list(table3())),
    ]


def grid() -> Iterator[Row]:
    for task, (bundle, slope) in BUNDLES.items():
        for precision, times in (("int8", 1.0), ("fp32", 1.7)):
            for threads, share in ((1, 1.0), (2, 0.7)):
                for tokens in LENGTHS:
                    inference = (0.2 + slope * tokens + 0.00003 * tokens**2) * times * share
                    tokenization, rest = 0.05 + 0.002 * tokens, 0.35 + 0.0005 * tokens
                    median = tokenization + inference + rest
                    yield {
                        "task": task,
                        "bundle": bundle,
                        "precision": precision,
                        "threads": threads,
                        "tokens": tokens,
                        "repeats": 200,
                        "tokenization_p50_ms": tokenization,
                        "inference_p50_ms": inference,
                        "end_to_end_p50_ms": median,
                        "end_to_end_p95_ms": median * 1.2,
                        "end_to_end_p99_ms": median * 1.5,
                        "end_to_end_ci_low_ms": median * 0.99,
                        "end_to_end_ci_high_ms": median * 1.01,
                    }


def throughput() -> Iterator[Row]:
    for task, (bundle, slope) in BUNDLES.items():
        most = 2000 / (slope * 71 + 0.8)
        for concurrency in (1, 2, 4, 8, 16, 32):
            rate = most * concurrency / (concurrency + 0.8)
            p50 = concurrency / rate * 1000
            yield {
                "task": task,
                "bundle": bundle,
                "precision": "int8",
                "threads": 2,
                "tokens": 71,
                "concurrency": concurrency,
                "requests_per_s": rate,
                "requests_per_s_rounds": [rate * 0.97, rate, rate * 1.03],
                "p50_ms": p50,
                "p50_ms_rounds": [p50 * 0.97, p50, p50 * 1.03],
                "p95_ms": p50 * 1.3,
                "p99_ms": p50 * 1.6,
            }


PEERS = (
    ("halfdepth", "our bundle", 1.0, 1.0),
    ("halfdepth", "stock int8", 0.85, 0.85),
    ("FastAPI, inline", "our bundle", 0.8, 1.04),
    ("FastAPI, pipeline", "fp32", 0.2, 0.12),
    ("LitServe", "our bundle", 0.55, 0.5),
    ("BentoML", "our bundle", 0.6, 0.55),
    ("BentoML", "stock int8", 0.5, 0.45),
    ("Ray Serve", "our bundle", 0.3, 0.2),
)


def peers() -> Iterator[Row]:
    for task in ("qa", "classify"):
        for concurrency in (1, 8, 32):
            for peer, model, alone, loaded in PEERS:
                rate = 250 * (alone if concurrency == 1 else loaded)
                yield {
                    "peer": peer,
                    "task": task,
                    "model": model,
                    "settings": "one process for each core, 1 thread",
                    "concurrency": concurrency,
                    "requests_per_s": rate,
                    "p50_ms": concurrency / rate * 1000,
                    "p99_ms": concurrency / rate * 1700,
                    "memory_mb": 250.0 / alone,
                    "start_s": 2.0 / alone,
                    "idle_cpu_s": 0.05 / alone,
                    "five_rps_cpu_s": 0.3 / loaded,
                    "reason": None,
                    "client_limit_rps": 21000.0,
                }
    yield {
        "peer": "MLServer",
        "task": "qa",
        "model": "fp32",
        "reason": "it did not answer within 120 s",
        "p50_ms": None,
    }


def infinity() -> Iterator[Row]:
    for tokens, published in zip(LENGTHS, INFINITY, strict=True):
        ours = 1000 / (1.2 + 0.14 * tokens)
        yield {"tokens": tokens, "requests_per_s": ours, "infinity_requests_per_s": published}


def table3() -> Iterator[Row]:
    for model, backend, parameters, seconds, paper in (
        ("ELMo", "PyTorch fp32", 180.0, 130.0, 895.0),
        ("BERT-base", "PyTorch fp32", 110.0, 92.0, 668.0),
        ("DistilBERT", "PyTorch fp32", 66.0, 47.0, 410.0),
        ("BERT-base", "onnxruntime fp32", 110.0, 75.0, 668.0),
        ("DistilBERT", "onnxruntime fp32", 66.0, 38.0, 410.0),
        ("our 6-layer student", "onnxruntime int8", 22.7, 3.6, None),
        ("our 3-layer student", "onnxruntime int8", 17.4, 1.9, None),
    ):
        yield {
            "model": model,
            "backend": backend,
            "parameters_m": parameters,
            "seconds": seconds,
            "paper_seconds": paper,
            "weights": "random",
        }
