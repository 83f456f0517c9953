"""Defines Locust's user in a closed loop, who waits for each answer before the next request."""

from itertools import count
from random import Random

from locust import task

from loadtest.users.asker import Asker
from loadtest.users.course import COURSE

PAUSE_S = 0.1  # of a user between an answer and its next request, on the average


class RouteUser(Asker):
    """Asks one route over and over, or all payloads; the next request waits for the answer to the last."""

    _started = count()

    def on_start(self) -> None:
        super().on_start()
        number = next(self._started) * self.plan.workers + self.process_number
        self._requests, self._random = self.plan.requests_of_user(number), Random(number)

    def wait_time(self) -> float:
        """Draw an exponential pause: after equal pauses, all users would ask at once, again and again."""
        return self._random.expovariate(1 / PAUSE_S)

    @task
    def ask(self) -> None:
        if COURSE.elapsed() < self.plan.seconds:
            with COURSE.request():
                self.send(next(self._requests))
