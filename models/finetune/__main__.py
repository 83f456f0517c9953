"""Fine-tune a model on a task, or distil fine-tuned teachers into a student of fewer layers."""

import json
import sys
from collections.abc import Sequence

from models.checkpoint import CheckpointError
from models.data import DataError
from models.finetune.loop import finetune
from models.finetune.options import parse_arguments
from models.student import StudentError
from models.tasks.base import InputTooLongError
from models.tasks.directory import BundleError


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse_arguments(sys.argv[1:] if argv is None else argv)
    try:
        metrics = finetune(arguments)
    except (DataError, BundleError, CheckpointError, InputTooLongError, StudentError, OSError) as error:
        reason = str(error).partition("\n")[0]  # libraries follow their first line with advice
        sys.stderr.write(f"python -m models.finetune: {reason}\n")
        return 2
    sys.stdout.write(json.dumps(metrics, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
