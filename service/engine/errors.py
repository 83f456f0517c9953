"""Names what can go wrong with a request in the engine; service/errors.py decides how it is shown.

* ServiceError                 root of every failure that a client may see
  - DeadlineExceededError
  - InferenceFailedError
  - InputTooLongError
  - InvalidRequestError        errors
  - ModelNotLoadedError
  - NotReadyError              retry_after_s
  - QueueFullError             retry_after_s, wait_ms
* CallerGoneError              nobody is left who could see it
"""

import math
from collections.abc import Sequence
from typing import ClassVar

from pydantic import BaseModel, Field

from models.tasks.errors import HalfdepthError


class ServiceError(HalfdepthError):
    """The service failed on this request."""

    code: ClassVar[str] = "internal"
    retry_after_s: float | None = None  # when the same request may succeed

    def __init__(self, detail: str) -> None:
        """`code` is API; `detail` is a sentence that tells people what to do."""
        super().__init__(detail)
        self.detail = detail


class InferenceFailedError(ServiceError):
    """The model failed on this request."""

    code = "inference_failed"

    def __init__(
        self, detail: str = "the model failed on this request; report its request_id if that happens again"
    ) -> None:
        super().__init__(detail)


class ModelNotLoadedError(ServiceError):
    """No model of this name is loaded for the task, or none at all."""

    code = "model_not_loaded"


class InputTooLongError(ServiceError):
    """The input does not fit the model or the limit of windows."""

    code = "input_too_long"


class InvalidField(BaseModel):
    """One value of the request that was refused."""

    field: str = Field(description="where it stands, as in `inputs[3].top_k`; empty for the body itself")
    message: str = Field(description="what is wrong with it")


class InvalidRequestError(ServiceError):
    """A field is missing, blank, unknown, of a wrong type or out of range, or asks for what the model cannot do."""

    code = "invalid_request"

    def __init__(self, detail: str, *, errors: Sequence[InvalidField] = ()) -> None:
        super().__init__(detail)
        self.errors = list(errors)


class NotReadyError(ServiceError):
    """The service does not take requests now."""

    code = "not_ready"
    retry_after_s = 1.0


class QueueFullError(ServiceError):
    """The request does not fit into the queue; Retry-After says when it may."""

    code = "queue_full"

    def __init__(self, *, wait_ms: float, retry_after_s: float) -> None:
        """`wait_ms`: how long the request would have waited, by estimate."""
        seconds = whole_seconds(retry_after_s)
        super().__init__(
            f"the queue holds {wait_ms:.0f} ms of work; try again after {seconds} s, or ask another replica"
        )
        self.wait_ms = wait_ms
        self.retry_after_s = retry_after_s


class DeadlineExceededError(ServiceError):
    """The deadline in X-Deadline-Ms cannot be met, or was missed; the work was dropped."""

    code = "deadline_exceeded"

    def __init__(
        self,
        detail: str = "the deadline of X-Deadline-Ms cannot be met; send less, allow more time, or ask another replica",
    ) -> None:
        super().__init__(detail)


class CallerGoneError(HalfdepthError):
    """The caller has left before the answer; what is left of the work was dropped."""


def whole_seconds(seconds: float) -> int:
    """Round up to what a client can be told to wait: 1 at least."""
    return max(math.ceil(seconds), 1)
