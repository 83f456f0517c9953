"""What is let in, what is next and where: without any thread."""

from typing import Any

import pytest

from service.engine.errors import (
    CallerGoneError,
    DeadlineExceededError,
    InferenceFailedError,
    InputTooLongError,
    NotReadyError,
    QueueFullError,
    ServiceError,
)
from service.engine.job import Job
from service.engine.policy import LONG_MS, SHORT_MS, SIMILAR_MS, STRETCH
from service.engine.queue import NOBODY, Next, Queue, Slot, WakeUps
from tests.service.engine.jobs import Calls, Planned

pytestmark = pytest.mark.anyio

CORES = 2
MAX_QUEUE_MS = 100.0


def queue_with(*costs_ms: float) -> Queue:
    """One job for each cost, all of them submitted at 0 ns, and a bound of MAX_QUEUE_MS from then on."""
    queue = Queue(CORES)
    for cost_ms in costs_ms:
        submit(queue, Planned(cost_ms))
    queue.max_queue_ms = MAX_QUEUE_MS
    return queue


def submit(queue: Queue, job: Job[Any]) -> WakeUps:
    return queue.submit(job, job.first_units())


def refusal(queue: Queue, cost_ms: float, *, at_ms: float = 0.0, deadline_ms: float | None = None) -> Any:
    """Of a job that comes so many milliseconds after the others."""
    deadline = None if deadline_ms is None else int(deadline_ms * 1e6)
    job = Planned(cost_ms, submitted=int(at_ms * 1e6), deadline=deadline)
    try:
        submit(queue, job)
    except ServiceError as error:
        return error
    queue.drop(job, CallerGoneError())
    return None


def take(queue: Queue, count: int) -> list[Job[Any]]:
    """The jobs of the units that are due next."""
    jobs = list[Job[Any]]()
    for _ in range(count):
        slot = Slot(queue)
        if (unit := queue.take(slot)) is not None:
            jobs.append(unit.job)
        queue.give_up(slot)  # its core is free for the next
    return jobs


async def test_the_queue_is_what_all_cores_need_for_what_is_left() -> None:
    queue, slot = Queue(CORES), Slot(Queue(CORES))
    short, long = Planned(10.0), Planned(30.0)
    submit(queue, short)
    submit(queue, long)
    assert queue.queue_ms == 20.0
    queue.finish(slot, long.unit(20.0), ())
    assert queue.queue_ms == 10.0
    queue.finish(slot, long.unit(0.0), [long.unit(50.0)])  # its windows are known now, and are more than was estimated
    assert queue.queue_ms == 30.0
    queue.finish(slot, long.unit(0.0), [long.unit(1.0)])  # less than the estimate has no say
    assert queue.queue_ms == 30.0
    for job in (short, long):
        assert queue.drop(job, InferenceFailedError())
        queue.finish(slot, job.unit(5.0), ())  # a unit that ends after its job was dropped
    assert (queue.queue_ms, len(queue.jobs)) == (0.0, 0)


async def test_one_like_the_others_waits_for_all_of_them_and_a_shorter_one_for_little() -> None:
    queue = queue_with(*[20.0] * 15)
    full = refusal(queue, 20.0)
    assert isinstance(full, QueueFullError)
    assert "150 ms of work" in full.detail
    assert full.wait_ms == 150.0
    assert isinstance(refusal(queue, 20.0 - SIMILAR_MS), QueueFullError)
    assert refusal(queue, 1.0) is None  # 1 ms of each other job is due before its end
    assert isinstance(refusal(queue, 1.0, at_ms=20 * STRETCH), QueueFullError)  # they have waited too long


async def test_what_just_fits_is_let_in() -> None:
    assert refusal(queue_with(*[40.0] * 10), 20.0) is None  # 20 ms of each is due before its end: 200 / 2 in all
    assert isinstance(refusal(queue_with(*[40.0] * 10), 20.1), QueueFullError)


async def test_a_time_to_retry_is_when_there_will_be_room() -> None:
    full = refusal(queue_with(CORES * 3_200.0), 6_400.0)
    assert full.retry_after_s == 3.1
    assert "try again after 4 s" in full.detail


@pytest.mark.parametrize(("deadline_ms", "met"), [(99.0, False), (101.0, True)])
async def test_a_deadline_leaves_time_for_what_is_due_before_and_for_the_job_itself(
    deadline_ms: float, *, met: bool
) -> None:
    late = refusal(queue_with(100.0), 100.0, deadline_ms=deadline_ms)
    assert late is None if met else isinstance(late, DeadlineExceededError)


async def test_work_that_turns_out_longer_lets_shorter_jobs_pass() -> None:
    queue = queue_with(1.0)
    [job] = take(queue, 1)
    assert isinstance(job, Planned)
    queue.finish(Slot(queue), job.unit(0.0), [job.unit(1_000.0)])
    assert refusal(queue, 10.0) is None


async def test_what_a_long_job_has_done_puts_its_rest_behind_a_newcomer() -> None:
    queue = queue_with(1_000.0)
    [job] = take(queue, 1)
    assert isinstance(job, Planned)
    queue.finish(Slot(queue), job.unit(500.0), ())
    assert refusal(queue, 100.0, deadline_ms=60.0) is None
    assert refusal(queue, 100.0, deadline_ms=60.0) is None  # what was found of the longest job holds for the next


@pytest.mark.parametrize(("deadline_ms", "met"), [(114.0, False), (116.0, True)])
async def test_what_came_earlier_goes_first_by_a_tenth_of_how_much_earlier(deadline_ms: float, *, met: bool) -> None:
    late = refusal(queue_with(1_000.0), 10.0, at_ms=10 * STRETCH, deadline_ms=deadline_ms)
    assert late is None if met else isinstance(late, DeadlineExceededError)  # at 100 + (10 + 10 + 10) / 2 ms


async def test_of_jobs_that_came_at_the_same_time_the_shorter_waits_for_as_much_as_it_takes_itself() -> None:
    queue = Queue(CORES)
    submit(queue, Planned(1_000.0, submitted=10**12))
    assert refusal(queue, 10.0, at_ms=10**6, deadline_ms=10**6 + 11) is None  # its end is due at (10 + 10) / 2 ms


async def test_no_more_than_is_left_of_a_job_lies_ahead() -> None:
    assert "250 ms of work" in refusal(queue_with(1_000.0, *[10.0] * 30), 200.0).detail


async def test_an_empty_queue_takes_no_time_at_all() -> None:
    queue = queue_with(0.1, 0.2, 0.3)
    for job in tuple(queue.jobs):
        queue.drop(job, CallerGoneError())
    assert queue.queue_ms == 0.0


async def test_what_does_not_fit_is_refused_and_counted_and_leaves_no_trace() -> None:
    drops = list[tuple[str, str]]()
    queue = Queue(1, max_queue_ms=10.0, count_drop=lambda *drop: drops.append(drop))
    submit(queue, Planned(20.0))
    with pytest.raises(QueueFullError):
        submit(queue, Planned(20.0))
    with pytest.raises(DeadlineExceededError):
        submit(queue, Planned(1.0, deadline=1))
    assert drops == [("qa", "queue_full"), ("qa", "deadline")]
    assert (queue.queue_ms, len(queue.jobs), len(queue.heap)) == (20.0, 1, 1)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (DeadlineExceededError(), "deadline"),
        (CallerGoneError(), "client_gone"),
        (InferenceFailedError(), None),
        (InputTooLongError("shorten it"), None),
    ],
)
async def test_a_job_that_is_dropped_is_counted_once_by_its_reason(error: Exception, reason: str | None) -> None:
    drops = list[tuple[str, str]]()
    queue = Queue(1, count_drop=lambda *drop: drops.append(drop))
    job = Planned(20.0)
    submit(queue, job)
    assert queue.drop(job, error)
    assert not queue.drop(job, error)
    assert drops == ([] if reason is None else [("qa", reason)])


async def test_a_job_that_may_answer_in_part_is_counted_by_whoever_makes_its_answer() -> None:
    drops = list[tuple[str, str]]()
    queue = Queue(1, count_drop=lambda *drop: drops.append(drop))
    for error in (DeadlineExceededError(), CallerGoneError()):
        job = Planned(20.0)
        job.may_answer_in_part = True
        submit(queue, job)
        queue.drop(job, error)
    assert drops == [("qa", "client_gone")]


async def test_a_closed_queue_refuses_with_a_time_to_retry() -> None:
    queue = Queue(1)
    queue.close()
    with pytest.raises(NotReadyError, match=r"^the service takes no requests now; try again$") as caught:
        submit(queue, Planned(1.0))
    assert caught.value.retry_after_s == 1.0


async def test_short_work_passes_between_the_units_of_long_work() -> None:
    queue = Queue(1)
    long, short = Planned(400.0, *[10.0] * 40), Planned(1.0)
    submit(queue, long)
    submit(queue, short)
    assert take(queue, 2) == [short, long]


async def test_jobs_of_like_cost_run_in_the_order_in_which_they_came() -> None:
    queue = Queue(1)
    jobs = [Planned(1.0) for _ in range(20)]
    for job in jobs:
        submit(queue, job)
    assert take(queue, 20) == jobs


async def test_long_work_is_not_put_off_for_ever() -> None:
    queue = Queue(1)
    long = Planned(2.0, submitted=0)
    short = [Planned(1.0, submitted=3 * 10**9) for _ in range(5)]  # they come three seconds later
    for job in (*short, long):
        submit(queue, job)
    assert take(queue, 6) == [long, *short]


async def test_a_short_job_goes_to_the_spare_slot_where_every_worker_is_within_a_long_unit() -> None:
    queue = Queue(2)
    slots, spare = [Slot(queue), Slot(queue)], Slot(queue, is_spare=True)
    for slot in slots:
        assert submit(queue, Planned(LONG_MS)) == WakeUps(workers=1)
        queue.take(slot)
    short, longer = Planned(SHORT_MS), Planned(2 * SHORT_MS)
    assert submit(queue, longer) == NOBODY  # every worker is at work
    assert submit(queue, short) == WakeUps(spare=1)
    unit = queue.take(spare)
    assert unit is not None
    assert unit.job is short
    assert queue.take(spare) is None  # the longer one is not short enough to pass
    queue.give_up(slots[0])
    assert queue.take(Slot(queue)) is not None


async def test_a_short_job_waits_for_a_worker_that_is_within_a_short_unit() -> None:
    queue = Queue(2)
    for cost_ms in (LONG_MS, SHORT_MS):
        submit(queue, Planned(cost_ms))
        queue.take(Slot(queue))
    assert submit(queue, Planned(SHORT_MS)).spare == 0


async def test_no_more_units_run_than_there_are_cores_and_one_may_be_the_event_loop_s() -> None:
    queue, inline = Queue(2), Slot(Queue(2), is_inline=True)
    jobs = [Calls(lambda: 42) for _ in range(4)]
    for job in jobs:
        queue.submit(job, job.first_units(), inline)
    slots = [Slot(queue), Slot(queue)]
    unit = queue.take(slots[0])
    assert unit is not None
    assert queue.take(slots[1]) is None  # the other core is the event loop's, which has yet to take its unit
    inline_unit, wake_ups = queue.take_inline(inline, may_be_alone=False)
    assert inline_unit is not None
    assert wake_ups == NOBODY
    queue.finish(inline, inline_unit, inline_unit.run(inline))
    assert queue.take(slots[1]) is None  # it reads and writes
    queue.finish(slots[0], unit, unit.run(slots[0]))
    assert queue.take(slots[0]) is not None
    assert queue.take_inline(inline, may_be_alone=False)[0] is not None


async def test_the_event_loop_takes_nothing_where_that_would_leave_a_core_without_work() -> None:
    queue, inline = Queue(2), Slot(Queue(2), is_inline=True)
    job = Calls(lambda: 42)
    queue.submit(job, job.first_units(), inline)
    assert queue.take_inline(inline, may_be_alone=True) == (None, WakeUps(workers=1))
    assert queue.inline is None
    unit = queue.take(Slot(queue))
    assert unit is not None
    other_job = Calls(lambda: 42)
    queue.submit(other_job, other_job.first_units(), inline)
    assert queue.take_inline(inline, may_be_alone=True)[0] is not None  # now the other core has work


async def test_the_event_loop_takes_nothing_while_every_core_is_taken() -> None:
    queue, inline = Queue(1), Slot(Queue(1), is_inline=True)
    submit(queue, Planned(LONG_MS))
    queue.take(Slot(queue))
    job = Calls(lambda: 42)
    queue.submit(job, job.first_units(), inline)
    assert queue.take_inline(inline, may_be_alone=True) == (None, NOBODY)


async def test_a_unit_that_follows_alone_stays_on_its_slot_unless_it_is_too_long_for_it() -> None:
    queue = Queue(1)
    job = Planned(5.0)
    submit(queue, job)
    slot = Slot(queue, is_inline=True)
    unit = queue.take(slot)
    assert unit is not None
    following = job.unit(LONG_MS - 1)
    assert queue.finish(slot, unit, [following]) == Next(following, NOBODY, False)
    assert slot.unit is following
    assert queue.finish(slot, following, [job.unit(LONG_MS)]) == Next(None, WakeUps(workers=1), False)
    assert slot.unit is None


async def test_what_a_job_has_had_on_its_slot_counts_for_what_follows() -> None:
    queue, slot = Queue(1), Slot(Queue(1))
    long, other = Planned(100.0), Planned(150.0)
    submit(queue, long)
    first = queue.take(slot)
    assert first is not None
    second = queue.finish(slot, first, [long.unit(100.0)]).unit
    assert second is not None
    submit(queue, other)
    queue.finish(slot, second, [long.unit(1.0), long.unit(1.0)])
    assert take(queue, 3) == [other, long, long]  # it has had 200 ms


async def test_several_units_that_follow_wait() -> None:
    queue = Queue(2)
    job = Planned(5.0)
    submit(queue, job)
    slot = Slot(queue)
    unit = queue.take(slot)
    assert unit is not None
    assert queue.finish(slot, unit, [job.unit(1.0), job.unit(1.0)]) == Next(None, WakeUps(workers=2), False)


async def test_what_follows_in_a_job_that_was_dropped_meanwhile_is_not_begun() -> None:
    queue = Queue(1)
    job = Planned(5.0)
    submit(queue, job)
    slot = Slot(queue)
    unit = queue.take(slot)
    assert unit is not None
    queue.drop(job, CallerGoneError())
    assert queue.finish(slot, unit, [job.unit(1.0)]) == Next(None, NOBODY, False)
    assert (queue.queue_ms, len(queue.heap), len(queue.running)) == (0.0, 0, 0)


async def test_the_unit_that_ends_its_job_says_so() -> None:
    queue = Queue(1)
    job = Calls(lambda: 42)
    submit(queue, job)
    slot = Slot(queue)
    unit = queue.take(slot)
    assert unit is not None
    assert queue.finish(slot, unit, unit.run(slot)) == Next(None, NOBODY, True)
    assert job.answer == 42


async def test_a_slot_is_alone_until_something_else_waits_or_runs() -> None:
    queue, slot, other = Queue(2), Slot(Queue(2)), Slot(Queue(2))
    slot = Slot(queue)
    submit(queue, Planned(1.0))
    queue.take(slot)
    assert slot.is_alone()
    submit(queue, Planned(1.0))
    assert not slot.is_alone()
    other_unit = queue.take(other)
    assert other_unit is not None
    assert not slot.is_alone()
    queue.finish(other, other_unit, ())
    assert slot.is_alone()


async def test_a_slot_that_is_given_up_counts_as_running_no_more() -> None:
    queue = Queue(2)
    lost, slot = Slot(queue), Slot(queue)
    for each in (lost, slot):
        submit(queue, Planned(1.0))
        queue.take(each)
    assert not slot.is_alone()
    queue.give_up(lost)
    assert slot.is_alone()
    assert lost.runs_longer_than(0)  # readiness goes on telling of it


async def test_a_long_unit_may_run_for_as_long_as_its_estimate_suggests() -> None:
    queue = Queue(1)
    slot = Slot(queue)
    submit(queue, Planned(60_000.0))
    queue.take(slot)
    assert slot.runs_longer_than(0)
    assert not slot.hangs(0)
