"""Does a fault to a service under load, and says what did not hold."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from time import monotonic, sleep

from loadtest.record import Row
from loadtest.torture.load import OK, Load, Tally
from loadtest.torture.questions import Question, alone
from loadtest.torture.state import Holdings, by_status, metrics, requests_counted
from loadtest.torture.target import POLL_S, Scene, Target, until

CONNECTIONS = 6
RIGHT_BEFORE = 200  # answers that warm it up
RIGHT_AFTER = 10  # answers after the fault that show that the service is well again
SETTLE_S = 20.0
POOL = (os.cpu_count() or 1) + 4  # threads that asyncio's own pool begins by and by, at most, and keeps
SLACK_MB = 25.0
CLIENT_GONE = 499
INFERENCE_FAILED = frozenset({500})


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is done to the service while it is under load.

    `allowed`: statuses that it explains, beside 503 and 504, which a service may always answer. `closes`: it explains
    connections that are closed without an answer. `restarts`: the process is another one afterwards. `changes_answers`:
    afterwards the right answers are others; those during the fault are of the one or the other kind. `asks`: it sends
    long texts of its own, which the metrics count too, and for which memory grows once.
    """

    name: str
    do: Callable[[Scene], None]
    allowed: frozenset[int] = frozenset()
    closes: bool = False
    restarts: bool = False
    changes_answers: bool = False
    asks: bool = False


@dataclass(slots=True)
class Outcome:
    """Sums up a fault that was done several times."""

    name: str
    times: int = 0
    sent: int = 0
    right: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    closed: int = 0
    wrong: int = 0
    hung: int = 0
    notes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def add(self, tally: Tally, wrong_answers: int) -> None:
        """`wrong_answers`: how many of those that differ are not explained by another right answer."""
        self.times += 1
        self.sent += tally.sent
        self.right += tally.right + len(tally.differing) - wrong_answers
        self.refused += tally.refused
        self.closed += tally.closed
        self.wrong += wrong_answers + len(tally.undocumented)
        self.hung += tally.hung

    def row(self) -> Row:
        lists = {"refused": dict(self.refused), "notes": dict(self.notes)}
        return {field.name: getattr(self, field.name) for field in fields(self)} | lists


def do(
    fault: Fault,
    target: Target,
    asked: Sequence[Question],
    outcome: Outcome,
    *,
    before: Holdings,
    number: int,
    seconds: float,
) -> Sequence[Question]:
    """Do a fault once, with load for so many seconds before and after it, and add what came of it to the outcome.

    `before`: what the service held before the first fault of its kind, so that small leaks add up.
    Returns: the questions with the right answers from now on. Raises: LoadTestError if the fault cannot be done, or the
    service does not recover.
    """
    pid = target.pid
    counted_before = requests_counted(metrics(target.url))
    load = Load(target.url, asked, connections=CONNECTIONS, seed=number, allowed=fault.allowed)
    with load:
        sleep(seconds)
        fault.do(Scene(target, load, number, outcome.notes))
        right = load.tally.right + len(load.tally.differing)
        until(
            lambda: load.tally.right + len(load.tally.differing) >= right + RIGHT_AFTER,
            f"{fault.name}: the service does not answer any more",
        )
        sleep(seconds)
    tally = load.tally
    counted = by_status(requests_counted(metrics(target.url)) - counted_before)
    later = alone(target.url, asked) if fault.changes_answers else asked
    right_later = {question.request: question.answer for question in later}
    wrong = [question.route for question, body in tally.differing if right_later[question.request] != body]
    outcome.add(tally, len(wrong))
    checks = {
        f"wrong answers to {', '.join(sorted(set(wrong)))}": not wrong,
        f"undocumented: {'; '.join(tally.undocumented[:3])}": not tally.undocumented,
        f"{tally.hung} requests hang": not tally.hung,
        f"{tally.missing} requests are in no count": not tally.missing,
        f"{tally.closed} connections were closed": fault.closes or not tally.closed,
        "it is another process": fault.restarts or target.pid == pid,
        "it is not ready": target.is_ready(),
    }
    if target.pid == pid and not fault.asks:  # else nobody could ask the process that has ended
        del counted[CLIENT_GONE]
        checks[f"the metrics count {dict(counted)}, the client {dict(tally.of_tasks)}"] = counted == tally.of_tasks
    checks |= _leaks(before, settled(target, before), is_same=target.pid == pid and not fault.asks)
    outcome.failures += [f"{fault.name}, number {number}: {text}" for text, holds in checks.items() if not holds]
    return later


def settled(target: Target, before: Holdings) -> Holdings:
    """Wait a while for threads and descriptors to be no more than they were. Returns: what they are in the end."""
    end = monotonic() + SETTLE_S
    while True:
        now = target.holdings()
        if all(_leaks(before, now, is_same=False).values()) or monotonic() > end:
            return now
        sleep(POLL_S)


def _leaks(before: Holdings, after: Holdings, *, is_same: bool) -> dict[str, bool]:
    return {
        f"threads were {before.threads} and are {after.threads}": after.threads <= before.threads + POOL,
        f"descriptors were {before.descriptors} and are {after.descriptors}": after.descriptors <= before.descriptors,
        f"resident memory was {before.resident_mb:.0f} MB and is {after.resident_mb:.0f}": not is_same
        or after.resident_mb <= 1.05 * before.resident_mb + SLACK_MB,
    }


def answered(tally: Tally, status: int) -> int:
    """Count the answers with a status until now."""
    return sum(number for (_, of_answer), number in list(tally.statuses.items()) if of_answer == status)


def warm_up(target: Target, asked: Sequence[Question]) -> None:
    """Let the service begin every thread that it begins when it first needs it."""
    with Load(target.url, asked, connections=CONNECTIONS, seed=0) as load:
        until(lambda: answered(load.tally, OK) >= RIGHT_BEFORE, "the service does not answer")
