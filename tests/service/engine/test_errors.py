"""What errors say where nobody says more."""

from service.engine.errors import DeadlineExceededError, InferenceFailedError, QueueFullError


def test_errors_say_what_to_do() -> None:
    assert InferenceFailedError().detail == (
        "the model failed on this request; report its request_id if that happens again"
    )
    assert DeadlineExceededError().detail == (
        "the deadline of X-Deadline-Ms cannot be met; send less, allow more time, or ask another replica"
    )
    full = QueueFullError(wait_ms=1234.6, retry_after_s=0.2)
    assert full.detail == "the queue holds 1235 ms of work; try again after 1 s, or ask another replica"
    assert str(full) == full.detail
