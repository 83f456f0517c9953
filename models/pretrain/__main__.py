"""Distil a masked-language teacher into a student of fewer layers, over plain text."""

import json
import sys
from collections.abc import Sequence

from accelerate import PartialState

from models.checkpoint import CheckpointError
from models.data import DataError
from models.pretrain.loop import StoppedError
from models.pretrain.options import parse_arguments
from models.pretrain.run import STOPPED, pretrain
from models.student import StudentError


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse_arguments(sys.argv[1:] if argv is None else argv)
    try:
        figures = pretrain(arguments)
    except StoppedError as stopped:
        leave_together()
        sys.stderr.write(f"python -m models.pretrain: {stopped}\n")
        return STOPPED
    except (DataError, CheckpointError, StudentError, FloatingPointError, ValueError, OSError) as error:
        reason = str(error).partition("\n")[0]  # libraries follow their first line with advice
        sys.stderr.write(f"python -m models.pretrain: {reason}\n")
        return 2
    leave_together()
    if PartialState().is_main_process:
        sys.stdout.write(json.dumps(figures, indent=2) + "\n")
    return 0


def leave_together() -> None:
    """A process that ends before the others have left their group is aborted now and then (pytorch#190489)."""
    state = PartialState()
    state.wait_for_everyone()
    state.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main())
