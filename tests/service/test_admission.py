import asyncio

import pytest

from service.admission import ALIKE_MS, STRETCH, Admission
from service.errors import DeadlineExceededError, QueueFullError
from tests.service.jobs import Calls

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
    refusal = admission.refusal(20.0, 0)
    assert isinstance(refusal, QueueFullError)
    assert "150 ms of work" in refusal.detail
    assert isinstance(admission.refusal(20.0 - ALIKE_MS, 0), QueueFullError)
    assert admission.refusal(1.0, 0) is None  # 1 ms of each other job is due before its end
    assert isinstance(admission.refusal(1.0, int(20 * STRETCH * 1e6)), QueueFullError)  # they have waited too long


def test_a_time_to_retry_is_when_there_will_be_room() -> None:
    refusal = admission_with(CORES * 3_200.0).refusal(6_400.0, 0)
    assert refusal is not None
    assert refusal.headers == {"Retry-After": "4"}


@pytest.mark.parametrize(("deadline_ms", "met"), [(99.0, False), (101.0, True)])
def test_a_deadline_leaves_time_for_what_is_due_before_and_for_the_job_itself(deadline_ms: float, *, met: bool) -> None:
    refusal = admission_with(100.0).refusal(100.0, 0, int(deadline_ms * 1e6))
    assert refusal is None if met else isinstance(refusal, DeadlineExceededError)
