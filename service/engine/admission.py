"""Admits or refuses a job: the queue is bounded in estimated milliseconds of work."""

import math
from typing import Any

from service.engine.job import Job
from service.errors import DeadlineExceededError, QueueFullError, ServiceError

ALIKE_MS = 5.0  # jobs whose estimates differ by no more pass each other by little
STRETCH = 10.0  # a unit is due at its job's arrival plus this many times what the job took by then
LATE = "the deadline of X-Deadline-Ms cannot be met; send less, allow more time, or ask another replica"


class Admission:
    """The jobs that were admitted and are not over, and the work that is left of them, in milliseconds of one core.

    Not safe by itself: the pool holds its lock for all but a look at `queue_ms`.
    """

    def __init__(self, cores: int, max_queue_ms: float) -> None:
        self.cores, self.max_queue_ms = cores, max_queue_ms
        self.jobs: set[Job[Any]] = set()
        self._backlog_ms = 0.0
        self._longest_ms = 0.0  # at least what the longest of the jobs takes

    @property
    def queue_ms(self) -> float:
        """How long all that was admitted will take."""
        return self._backlog_ms / self.cores

    def refusal(self, job: Job[Any]) -> ServiceError | None:
        """Why a job is not let in: what is due before it fills the queue, or leaves it no time."""
        if job.deadline is None and self.queue_ms <= self.max_queue_ms:
            return None
        wait_ms = self._ahead_ms(job) / self.cores
        if wait_ms > self.max_queue_ms:
            seconds = max(math.ceil((wait_ms - self.max_queue_ms) / 1e3), 1)
            return QueueFullError(
                f"the queue holds {wait_ms:.0f} ms of work; try again after {seconds} s, or ask another replica",
                headers={"Retry-After": str(seconds)},
            )
        soonest = job.submitted + (wait_ms + job.estimate_ms / self.cores) * 1e6
        if job.deadline is not None and soonest > job.deadline:
            return DeadlineExceededError(LATE)
        return None

    def admit(self, job: Job[Any]) -> None:
        self.jobs.add(job)
        self._longest_ms = max(self._longest_ms, job.estimate_ms)
        self._backlog_ms += job.outstanding_ms

    def expect(self, job: Job[Any], left_ms: float) -> None:
        """What is left of the job is known now; more than was estimated counts from here on."""
        more = left_ms - job.outstanding_ms
        if more > 0:
            job.outstanding_ms += more
            self._longest_ms = max(self._longest_ms, job.outstanding_ms + job.done_ms)
            self._backlog_ms += more

    def discharge(self, job: Job[Any], cost_ms: float) -> None:
        """A unit of the job has ended; or all of it, if it is over."""
        if job not in self.jobs:
            return
        job.done_ms += cost_ms
        done = job.outstanding_ms if job.over else min(cost_ms, job.outstanding_ms)
        job.outstanding_ms -= done
        self._backlog_ms -= done
        if job.over:
            self.jobs.discard(job)
            if not self.jobs:
                self._backlog_ms = 0.0  # sums of floats drift

    def _ahead_ms(self, job: Job[Any]) -> float:
        """What is due before the end of a new job, in milliseconds of one core.

        A job about as long as the longest passes none; looking at each of hundreds would take the cores from them.
        """
        if self._longest_ms - job.estimate_ms <= ALIKE_MS:
            return self._backlog_ms
        self._longest_ms = max(other.outstanding_ms + other.done_ms for other in self.jobs) if self.jobs else 0.0
        ahead = 0.0
        for other in self.jobs:
            earlier = (job.submitted - other.submitted) / 1e6 / STRETCH + job.estimate_ms - other.done_ms
            ahead += min(max(earlier, 0.0), other.outstanding_ms)
        return ahead
