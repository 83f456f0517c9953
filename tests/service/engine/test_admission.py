import asyncio
from typing import Any

import pytest

from service.engine.admission import ALIKE_MS, STRETCH, Admission
from service.errors import DeadlineExceededError, QueueFullError, ServiceError
from tests.service.engine.jobs import Calls

CORES = 2
MAX_QUEUE_MS = 100.0


def admission_with(*costs_ms: float) -> Admission:
    """One job for each cost, all of them submitted at 0 ns."""
    admission = Admission(CORES, MAX_QUEUE_MS)

    async def admit() -> None:
        for cost in costs_ms:
            job = Calls(lambda: None, cost_ms=cost)
            job.submitted = 0
            admission.admit(job)

    asyncio.run(admit())
    return admission


def refusal(admission: Admission, cost_ms: float, *, at_ms: float = 0.0, deadline_ms: float | None = None) -> Any:
    """Of a job that comes so many milliseconds after the others."""

    async def ask() -> ServiceError | None:
        job = Calls(lambda: None, cost_ms=cost_ms, deadline=None if deadline_ms is None else int(deadline_ms * 1e6))
        job.submitted = int(at_ms * 1e6)
        return admission.refusal(job)

    return asyncio.run(ask())


def test_the_queue_is_what_all_cores_need_for_what_is_left() -> None:
    admission = admission_with(10.0, 30.0)
    assert admission.queue_ms == 20.0
    short, long = sorted(admission.jobs, key=lambda job: job.estimate_ms)
    admission.discharge(long, 20.0)
    assert admission.queue_ms == 10.0
    admission.expect(long, 50.0)  # its windows are known now, and are more than was thought
    assert admission.queue_ms == 30.0
    admission.expect(long, 1.0)  # less than the estimate has no say
    assert admission.queue_ms == 30.0
    for job in (short, long):
        job.over = True
        admission.discharge(job, 0.0)
        admission.discharge(job, 5.0)  # a unit that ends after its job was dropped
    assert (admission.queue_ms, len(admission.jobs)) == (0.0, 0)


def test_one_like_the_others_waits_for_all_of_them_and_a_shorter_one_for_little() -> None:
    admission = admission_with(*[20.0] * 15)
    full = refusal(admission, 20.0)
    assert isinstance(full, QueueFullError)
    assert "150 ms of work" in full.detail
    assert isinstance(refusal(admission, 20.0 - ALIKE_MS), QueueFullError)
    assert refusal(admission, 1.0) is None  # 1 ms of each other job is due before its end
    assert isinstance(refusal(admission, 1.0, at_ms=20 * STRETCH), QueueFullError)  # they have waited too long


def test_a_time_to_retry_is_when_there_will_be_room() -> None:
    full = refusal(admission_with(CORES * 3_200.0), 6_400.0)
    assert full.headers == {"Retry-After": "4"}


@pytest.mark.parametrize(("deadline_ms", "met"), [(99.0, False), (101.0, True)])
def test_a_deadline_leaves_time_for_what_is_due_before_and_for_the_job_itself(deadline_ms: float, *, met: bool) -> None:
    late = refusal(admission_with(100.0), 100.0, deadline_ms=deadline_ms)
    assert late is None if met else isinstance(late, DeadlineExceededError)


def test_work_that_turns_out_longer_lets_shorter_jobs_pass() -> None:
    admission = admission_with(1.0)
    [job] = admission.jobs
    admission.expect(job, 1_000.0)
    assert refusal(admission, 10.0) is None


def test_what_a_long_job_has_done_puts_its_rest_behind_a_newcomer() -> None:
    admission = admission_with(1_000.0)
    [job] = admission.jobs
    admission.discharge(job, 500.0)
    assert refusal(admission, 100.0, deadline_ms=60.0) is None


def test_no_more_than_is_left_of_a_job_lies_ahead() -> None:
    assert "250 ms of work" in refusal(admission_with(1_000.0, *[10.0] * 30), 200.0).detail


def test_an_empty_queue_takes_no_time_at_all() -> None:
    admission = admission_with(0.1, 0.2, 0.3)
    for job in tuple(admission.jobs):
        job.over = True
        admission.discharge(job, 0.0)
    assert admission.queue_ms == 0.0
