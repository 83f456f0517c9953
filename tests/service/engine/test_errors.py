"""What errors say where nobody says more."""

import pytest

from service.engine.errors import DeadlineExceededError, InferenceFailedError, QueueFullError, ServiceError


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (
            InferenceFailedError(),
            "the model failed on this request; report its request_id if that happens again",
        ),
        (
            DeadlineExceededError(),
            "the deadline of X-Deadline-Ms cannot be met; send less, allow more time, or ask another replica",
        ),
        (
            QueueFullError(wait_ms=1234.6, retry_after_s=0.2),
            "the queue holds 1235 ms of work; try again after 1 s, or ask another replica",
        ),
    ],
)
def test_an_error_says_what_to_do(error: ServiceError, detail: str) -> None:
    assert error.detail == str(error) == detail
