"""Measures a service, every figure beside its baseline in the same minute, and prints rows."""

import json
import random
import signal
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields, replace
from functools import partial
from time import perf_counter, process_time, sleep
from typing import Any

from loadtest.bench.inprocess import back_to_back, in_process
from loadtest.bench.openloop import open_loop
from loadtest.connection import Answer, Connection, closed_loop, get, post
from loadtest.payloads import QUESTION, passage_of
from loadtest.process import LoadTestError, cpu_seconds, resident_mb
from loadtest.routes import Route
from models.tasks.base import TaskName
from models.tasks.build import SPECS, build_task
from models.tasks.bundle import Bundle
from models.tasks.remote.client import key_headers, refusal

LOADED: TaskName = "qa"
"""The task of `load`, `overload` and the long requests of `fairness`, on whose route our figures are."""

BLOCK, WARM_UP = 25, 3  # calls in a block, after some that are not counted, so that it runs with its own caches warm
SHORT_QUESTION, LEAST_TOKENS = "Who?", 16  # of an input whose question is the usual one; shorter ones ask less
PROBE_S = 0.05
QUEUE_FULL, RETRY_S = 503, 0.1  # on a slow machine the mixed requests of sameness fill the queue
MINUTE_S = 60.0
SIGTERM_AFTER_S, SIGTERM_LOAD_S = 3.0, 6.0  # of the load at whose middle SIGTERM comes
WINDOW_TOKENS = 384


@dataclass(frozen=True, slots=True)
class Subject:
    """Describes a running service, with the bundles that it serves and its routes to them."""

    url: str
    key: str | None
    process: subprocess.Popen[str]
    bundles: Mapping[TaskName, Bundle]
    routes: Sequence[Route]
    threads: int
    workers: int

    def request(self, route: Route, content: object) -> bytes:
        return post(route.path, content, **key_headers(self.key))


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def work_of(subject: Subject, task: TaskName, tokens: int) -> tuple[Any, bytes]:
    """Make an input of the task that takes so many tokens, and the request for it."""
    [work] = works_of(subject, task, [tokens])
    return work


def works_of(subject: Subject, task: TaskName, lengths: Iterable[int]) -> list[tuple[Any, bytes]]:
    """Make inputs of these numbers of tokens, and the requests for them.

    The texts of an input are its fields without a default; a route's example has as many, in the same order, of which
    the last may be a list. The last is as long as that takes, and one before it is a question.
    """
    spec = SPECS[task]
    names = [field.name for field in fields(spec.warm_up) if field.default is MISSING]
    route = next(route for route in subject.routes if route.task == task and _takes_texts(route, len(names)))
    tokenizer = build_task(subject.bundles[task], spec.graph_outputs).tokenizer
    works = []
    for tokens in lengths:
        questions = [QUESTION if tokens >= LEAST_TOKENS else SHORT_QUESTION] * (len(names) - 1)
        texts = [*questions, passage_of(tokens, tokenizer, *questions)]
        item = replace(spec.warm_up, **dict(zip(names, texts, strict=True)))
        works.append((item, subject.request(route, _body(route, texts))))
    return works


def _body(route: Route, texts: Sequence[str], times: int = 1) -> dict[str, object]:
    """Fill the fields of a route's example; one that is a list gets its text so many times."""
    body: dict[str, object] = dict(route.choice)
    for (name, value), text in zip(route.example.items(), texts, strict=True):
        body[name] = [text] * times if isinstance(value, list) else text
    return body


def _takes_texts(route: Route, count: int) -> bool:
    return len(route.example) == count and all(isinstance(value, str) for value in list(route.example.values())[:-1])


def checked(answer: Answer) -> Answer:
    if answer.status != 200:
        raise LoadTestError(f"the service answered {refusal(answer.status, answer.body)}")
    return answer


def cost(subject: Subject, lengths: Sequence[int], rounds: int) -> None:
    """Ask one request at a time, and print what HTTP and the engine add to the same work in this process.

    A block over HTTP is compared with the block in this process just before it: the machine's speed changes less from
    one to the next than over a run.
    """
    say(f"\none at a time, {subject.threads} threads, {rounds} pairs of blocks of {BLOCK}, milliseconds")
    say("task        tokens   in process p50   over HTTP p50   cost at p50   p99 / p50")
    for name, bundle in subject.bundles.items():
        in_process_answer = in_process(bundle, subject.threads)
        with Connection(subject.url) as connection:
            for tokens in lengths:
                item, request = work_of(subject, name, tokens)
                in_process_ms: list[float] = []
                http_ms: list[float] = []
                added_ms: list[float] = []
                for _ in range(rounds):
                    in_process_block = _block(partial(in_process_answer, item))
                    http_block = _block(partial(_ask, connection, request))
                    added_ms.append(statistics.median(http_block) - statistics.median(in_process_block))
                    in_process_ms += in_process_block
                    http_ms += http_block
                p50, baseline = statistics.median(http_ms), statistics.median(in_process_ms)
                say(
                    f"{name:<10} {tokens:7} {baseline:16.3f} {p50:15.3f} {statistics.median(added_ms):13.3f} "
                    f"{percentile(http_ms, 99) / p50:11.2f}"
                )


def lists(subject: Subject, rounds: int, count: int = 100, tokens: int = 64) -> None:
    """Ask for a list of texts at a time, where a task's inputs have a text in common, and print what that takes beside
    the same work in this process, by as many threads as the service has workers.
    """
    say(f"\n{count} texts of {tokens} tokens in one request, {rounds} pairs, milliseconds")
    say("task        in process p50   over HTTP p50   ratio at p50")
    for route in subject.routes:
        [*_, last] = route.example.values()
        names = [field.name for field in fields(SPECS[route.task].warm_up) if field.default is MISSING]
        if len(names) < 2 or not isinstance(last, list) or not _takes_texts(route, len(names)):
            continue
        bundle = subject.bundles[route.task]
        item, _ = work_of(subject, route.task, tokens)
        request = subject.request(route, _body(route, [getattr(item, name) for name in names], count))
        answers = [in_process(bundle, 1) for _ in range(subject.workers)]
        in_process_ms, http_ms = list[float](), list[float]()
        with Connection(subject.url) as connection, ThreadPoolExecutor(len(answers)) as pool:
            for _ in range(rounds + 1):
                began = perf_counter()
                list(pool.map(partial(_repeat, item=item, count=-(-count // len(answers))), answers))
                in_process_ms.append((perf_counter() - began) * 1e3)
                http_ms.append(_ask(connection, request).milliseconds)
        baseline, p50 = statistics.median(in_process_ms[1:]), statistics.median(http_ms[1:])
        say(f"{route.task:<10} {baseline:15.1f} {p50:15.1f} {p50 / baseline:14.3f}")


def _repeat(answer: Callable[[Any], Any], item: Any, count: int) -> None:  # as `in_process` makes it
    for _ in range(count):
        answer(item)


def load(subject: Subject, concurrencies: Sequence[int], seconds: float, tokens: int = 128) -> float:
    """Ask many requests at a time, against threads without HTTP. Returns: the best rate, answers a second."""
    say(f"\nmany at a time, /qa of {tokens} tokens, {seconds:g} s each")
    say("concurrency   requests/s   in process   ratio   p50 ms   p99 / p50   load's share   /health/live, worst ms")
    bundle, best_rate = subject.bundles[LOADED], 0.0
    item, request = work_of(subject, LOADED, tokens)
    for concurrency in concurrencies:
        earlier_ceiling = back_to_back(bundle, item, subject.workers, seconds / 2)
        with probed(subject.url) as probes:
            began, cpu_began = perf_counter(), process_time()
            answers = closed_loop(subject.url, [request], concurrency, seconds)
            share = (process_time() - cpu_began) / (perf_counter() - began) / subject.workers
        later_ceiling = back_to_back(bundle, item, subject.workers, seconds / 2)
        times = [checked(answer).milliseconds for answer in answers]
        rate, ceiling = len(times) / seconds, (earlier_ceiling + later_ceiling) / 2
        best_rate = max(best_rate, rate)
        say(
            f"{concurrency:11} {rate:12.0f} {ceiling:12.0f} {rate / ceiling:7.2f} {statistics.median(times):8.2f} "
            f"{percentile(times, 99) / statistics.median(times):11.2f} {share:14.3f} {max(probes):24.1f}"
        )
    return best_rate


def fairness(subject: Subject, seconds: float) -> None:
    """Time short requests while long ones keep coming."""
    name = next(task for task in subject.bundles if task != LOADED)
    _, short_request = work_of(subject, name, 16)
    _, long_request = work_of(subject, LOADED, 100 * (WINDOW_TOKENS - 128 - 20))
    with Connection(subject.url) as connection:
        windows = checked(connection.ask(long_request)).json()["usage"]["windows"]
        say(f"\n{name} of 16 tokens while two questions of {windows} windows are always asked, {seconds:g} s")
        long_answers: list[Answer] = []
        thread = threading.Thread(
            target=lambda: long_answers.extend(closed_loop(subject.url, [long_request], 2, seconds))
        )
        thread.start()
        end, times = perf_counter() + seconds, list[float]()
        while perf_counter() < end:
            times.append(checked(connection.ask(short_request)).milliseconds)
            sleep(0.005)
        thread.join()
    say(f"p50 {statistics.median(times):.2f} ms, p99 {percentile(times, 99):.2f} ms of {len(times)}")
    answer_ms = [answer.milliseconds for answer in long_answers if answer.status == 200]
    median = f", median {statistics.median(answer_ms):.0f} ms" if answer_ms else ""
    refusals = sum(answer.status == 503 for answer in long_answers)
    other_answers = len(long_answers) - len(answer_ms) - refusals
    say(f"long ones that were answered: {len(answer_ms)}{median}; refused: {refusals}; other answers: {other_answers}")


def sameness(subject: Subject, count: int, concurrency: int = 16) -> None:
    """Compare the answers to mixed requests, many at a time, with those one by one: every byte but the timings."""
    lengths = range(8, WINDOW_TOKENS, 7)
    requests = [request for task in subject.bundles for _, request in works_of(subject, task, lengths)]
    with Connection(subject.url) as connection:
        expected = [untimed(checked(connection.ask(request)).body) for request in requests]
    differences, answer_count = 0, 0
    threads = []
    lock = threading.Lock()

    def ask(indices: Sequence[int]) -> None:
        nonlocal differences, answer_count
        with Connection(subject.url) as connection:
            for index in indices:
                while (answer := connection.ask(requests[index])).status == QUEUE_FULL:
                    sleep(RETRY_S)
                is_same = untimed(checked(answer).body) == expected[index]
                with lock:
                    answer_count, differences = answer_count + 1, differences + (not is_same)

    for number in range(concurrency):
        indices = [index % len(requests) for index in range(number, count, concurrency)]
        threads.append(threading.Thread(target=ask, args=(indices,)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    say(
        f"\n{answer_count} mixed requests at concurrency {concurrency}, against the same one by one: "
        f"{differences} differ"
    )


def overload(subject: Subject, best_rate: float, seconds: float, tokens: int = 128) -> None:
    """Send twice what the service can answer, then SIGTERM under that load. The service ends."""
    _, request = work_of(subject, LOADED, tokens)
    resident_before_mb = resident_mb(subject.process.pid)
    cpu_before, load_before = cpu_seconds(subject.process.pid), process_time()
    began = perf_counter()
    arrivals = open_loop(subject.url, [request], 2 * best_rate, seconds, patience_s=10)
    elapsed_s = perf_counter() - began  # with what was still queued at the end
    share = (process_time() - load_before) / elapsed_s / subject.workers
    answer_ms = [answer.milliseconds for answer in arrivals.answers if answer.status == 200]
    refusal_ms = [answer.milliseconds for answer in arrivals.answers if answer.status == 503]
    other_answers = len(arrivals.answers) - len(answer_ms) - len(refusal_ms)
    rate = len(answer_ms) / elapsed_s
    say(f"\ntwice the load: {2 * best_rate:.0f} requests/s for {seconds:g} s ({arrivals.unsent} could not be sent)")
    say(f"goodput {rate:.0f}/s, {rate / best_rate:.2f} of the best; p99 {percentile(answer_ms, 99):.0f} ms")
    if refusal_ms:
        p50, p99 = statistics.median(refusal_ms), percentile(refusal_ms, 99)
        say(f"refused {len(refusal_ms)}: p50 {p50:.1f} ms, p99 {p99:.1f} ms")
    cpu_s = cpu_seconds(subject.process.pid) - cpu_before
    say(
        f"other answers {other_answers}, lost {arrivals.lost}; CPU {cpu_s:.0f} s of {elapsed_s:.0f}; "
        f"load's share {share:.3f}"
    )
    say(f"resident memory {resident_before_mb:.0f} MB before, {resident_mb(subject.process.pid):.0f} MB after")
    timer = threading.Timer(SIGTERM_AFTER_S, subject.process.send_signal, [signal.SIGTERM])
    timer.start()
    arrivals = open_loop(subject.url, [request], best_rate, SIGTERM_LOAD_S, patience_s=20)
    counts = {status: sum(answer.status == status for answer in arrivals.answers) for status in (200, 503)}
    code = subject.process.wait(30)
    say(f"SIGTERM under load: sent {arrivals.sent}, answered {counts}, without an answer {arrivals.lost}; exit {code}")


def memory(subject: Subject, minutes: int, per_second: float = 4.0) -> None:
    """Print the memory that the service keeps while lengths change: a few requests a second, in random order."""
    chance = random.Random(0)
    requests: list[bytes] = []
    for task in subject.bundles:
        longest = 3 * WINDOW_TOKENS if task == LOADED else WINDOW_TOKENS
        lengths = [chance.randint(8, longest) for _ in range(200)]
        requests += [request for _, request in works_of(subject, task, lengths)]
    say(f"\n{per_second:g} requests/s of changing lengths, MB resident after each minute")
    for minute in range(minutes):
        chance.shuffle(requests)
        arrivals = open_loop(subject.url, requests, per_second, MINUTE_S, patience_s=10)
        answer_count = sum(answer.status == 200 for answer in arrivals.answers)
        say(f"{minute + 1:6} {resident_mb(subject.process.pid):6.0f}   {answer_count} of {arrivals.sent} answered")


@contextmanager
def probed(url: str) -> Iterator[list[float]]:
    """Request /health/live on a separate connection for as long as the block lasts. Yields: the milliseconds."""
    times: list[float] = []
    ended = threading.Event()

    def probe() -> None:
        with Connection(url) as connection:
            while not ended.wait(PROBE_S):
                times.append(checked(connection.ask(get("/health/live"))).milliseconds)

    thread = threading.Thread(target=probe)
    thread.start()
    try:
        yield times
    finally:
        ended.set()
        thread.join()


def percentile(times: Sequence[float], percent: int) -> float:
    return sorted(times)[min(percent * len(times) // 100, len(times) - 1)]


def untimed(body: bytes) -> object:
    """Parse a response without its timings, which may differ."""
    content = json.loads(body)
    del content["timings_ms"]
    return content


def _ask(connection: Connection, request: bytes) -> Answer:
    return checked(connection.ask(request))


def _block(call: Callable[[], object]) -> list[float]:
    times = []
    for _ in range(BLOCK + WARM_UP):
        began = perf_counter()
        call()
        times.append((perf_counter() - began) * 1e3)
    return times[WARM_UP:]
