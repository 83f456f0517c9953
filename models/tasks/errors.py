"""Draws the one tree of our errors, and ends every command in one line and the status of its error.

Each class stands in the module whose failures it names; the number is the exit status of a command that it ends.

* HalfdepthError              1
  - InputError                2
    - BatchError
    - BundleError
    - CapacityError
    - CheckpointError
    - ClientError
    - DataError
    - ExportError
    - InputTooLongError
    - LoadTestError
    - MixError
    - ModelError
    - RecordError
    - SettingsError
    - StudentError
    - UnsupportedInputError
    - UsageError
    - VocabularyError
  - CallerGoneError           1
  - DivergedError             2
  - StartError                1
  - StoppedError            143
    - CancelledError        130
  - VerifyError               1
  - ServiceError              1
    - BodyTooLargeError
    - DeadlineExceededError
    - DrainingError
    - InferenceFailedError
    - InputTooLongError
    - InvalidRequestError
    - MalformedJsonError
    - MethodNotAllowedError
    - ModelNotLoadedError
    - NotFoundError
    - NotReadyError
    - QueueFullError
    - UnauthorizedError
    - UnsupportedMediaTypeError
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, ParamSpec

BAD_INPUT = 2
OURS = {"models", "export", "service", "loadtest"}  # a module of these that is missing is a bug
# onnxruntime's builds for Linux report every graph that is opened to Microsoft, since 1.29, from their import on.
NO_TELEMETRY = ("ORT_DISABLE_TELEMETRY", "1")
TERMINATED = 143  # what a shell reports of a process that SIGTERM has ended
CANCELLED = 130  # or SIGINT

P = ParamSpec("P")


class HalfdepthError(Exception):
    """Something failed that is no bug of ours; the first line of the text says what, and what to do about it."""

    exit_status: ClassVar[int] = 1


class InputError(HalfdepthError):
    """What was given cannot be used: an argument, a setting, a file, a model."""

    exit_status = BAD_INPUT


class UsageError(InputError):
    """An argument of a command is missing, unknown or out of range."""


class DivergedError(HalfdepthError):
    """A loss is no longer a number, so that no further step can lead anywhere."""

    exit_status = BAD_INPUT


class StoppedError(HalfdepthError):
    """SIGTERM came: the run has written a checkpoint, and the same command continues from there."""

    exit_status = TERMINATED


class CancelledError(StoppedError):
    """The same for Ctrl-C, which is SIGINT."""

    exit_status = CANCELLED


def run_command(prog: str, command: Callable[P, int | None], *args: P.args, **kwargs: P.kwargs) -> int:
    """Call a command. Returns: its exit status, 0 if it returns none.

    Our own errors and the operating system's end it with one line on stderr. Anything else is a bug: it propagates.
    """
    os.environ.setdefault(*NO_TELEMETRY)
    try:
        return command(*args, **kwargs) or 0
    except (HalfdepthError, OSError) as error:
        sys.stderr.write(f"{prog}: {first_line(error)}\n")
        return error.exit_status if isinstance(error, HalfdepthError) else BAD_INPUT


def first_line(error: Exception) -> str:
    """Return the first line of an error's text, since libraries add advice below it; its class if it has no text.

    The operating system's errors are put in words, without their numbers.
    """
    text = _in_words(error) if isinstance(error, OSError) and error.strerror else str(error)
    return text.partition("\n")[0] or type(error).__name__


def _in_words(error: OSError) -> str:
    """Say what is wrong with which file or directory."""
    if not isinstance(error.filename, str | bytes):
        return str(error.strerror)
    path = Path(os.fsdecode(error.filename))
    match error:
        case FileNotFoundError():
            return f"{path if path.parent.exists() else path.parent} does not exist"
        case NotADirectoryError():
            file = next(place for place in (path, *path.parents) if place.exists())
            return f"{file} is not a directory"
        case IsADirectoryError():
            return f"{path} is a directory, not a file"
        case FileExistsError():
            return f"{path} exists already"
    return f"{path} cannot be used: {error.strerror}"


@contextmanager
def needs_extra(command: str, extra: str) -> Iterator[None]:
    """Import libraries within: if one is missing, the process ends with one line that says what brings it."""
    try:
        yield
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library in OURS:
            raise
        sys.stderr.write(f"{command} needs {library}; install it with pip install 'halfdepth[{extra}]'\n")
        raise SystemExit(BAD_INPUT) from error
