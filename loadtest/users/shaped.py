"""Gives Locust the number of users at each moment, in a closed loop whose load changes."""

from locust import LoadTestShape

from loadtest.users.plan import read_plan
from loadtest.users.shapes import phase_at


class PlannedShape(LoadTestShape):
    """Follows the plan's shape up to its number of users."""

    def tick(self) -> tuple[int, float]:
        """Keep the last phase to the end, which loadtest/users/course.py brings about."""
        assert self.runner is not None
        options = self.runner.environment.parsed_options
        assert options is not None
        plan = read_plan(options.plan)
        elapsed_s: float = self.get_run_time()  # type: ignore[no-untyped-call]
        users = max(round(phase_at(plan.shape, elapsed_s / plan.seconds).load * plan.users), 1)
        return users, plan.users
