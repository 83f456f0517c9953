"""Whether this process takes requests, and how many it has."""

from typing import Literal

from service.errors import DrainingError

RETRY_AFTER = {"Retry-After": "1"}  # of seconds; by then another replica has the caller's next connection


class Lifecycle:
    """Serving until the first signal; then leaving, when only readiness says no; then draining."""

    def __init__(self) -> None:
        self.phase: Literal["serving", "leaving", "draining"] = "serving"
        self.in_flight = 0  # requests of every kind that are not answered yet, counted by the middleware

    def check_ready(self) -> None:
        """For load balancers, which should send no more from the first signal on. Raises: DrainingError."""
        if self.phase != "serving":
            raise DrainingError("this replica is about to end; send requests to another", headers=RETRY_AFTER)

    def check_open(self) -> None:
        """For requests. Raises: DrainingError."""
        if self.phase == "draining":
            raise DrainingError(
                "this replica is ending; send the request again, to another",
                headers=RETRY_AFTER | {"Connection": "close"},
            )
