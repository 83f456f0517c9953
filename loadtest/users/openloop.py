"""Opens Locust's loop: requests at a constant rate, whose times count from when they were due.

Locust is a closed loop by nature: a user asks again once it was answered, so that a server that stalls is asked less,
and its queue never shows. `ArrivalUser` works through a list of moments at which requests are due, and gives each a
greenlet of its own, whether or not those before have been answered. The time of a request counts from when it was due,
so that every wait is in it: in the service, for a connection, and for Locust itself. What is not answered in time, and
what could not be sent, counts as failed.
"""

from gevent.pool import Pool
from locust import task

from loadtest.users.asker import Asker
from loadtest.users.course import COURSE
from loadtest.users.plan import Request
from loadtest.users.rows import CLIENT, LATE
from loadtest.users.shapes import arrivals

OUTSTANDING = 5_000  # requests of a process, at most: each needs a connection


class ArrivalUser(Asker):
    """Sends requests when they are due; there is one of it in each process."""

    concurrency = OUTSTANDING

    def on_start(self) -> None:
        super().on_start()
        plan = self.plan
        assert plan.rate is not None
        number = self.process_number % plan.workers  # a worker in place of one that broke off has a higher number
        dues = arrivals(plan.shape, plan.rate, plan.seconds, number, plan.workers)
        COURSE.under_way += len(dues)  # from now on, so that the run does not end before the last one is sent
        self._dues = iter(dues)
        self._requests = plan.requests_of_all(number)
        self._pool = Pool()
        self._due = next(self._dues, None)

    def wait_time(self) -> float:
        return 1.0 if self._due is None else max(self._due - COURSE.elapsed(), 0.0)

    @task
    def arrive(self) -> None:
        """Send whatever is due."""
        while self._due is not None and self._due <= COURSE.elapsed():
            due, request = self._due, next(self._requests)
            self._due = next(self._dues, None)
            self._log(CLIENT, (COURSE.elapsed() - due) * 1e3, LATE)
            if len(self._pool) < OUTSTANDING:
                self._pool.spawn(self._send_due, request, due)
            else:
                self.give_up(request[0], due, f"not sent, since {OUTSTANDING} others were under way")
                COURSE.under_way -= 1

    def _send_due(self, request: Request, due: float) -> None:
        try:
            self.send(request, due)
        finally:
            COURSE.under_way -= 1
