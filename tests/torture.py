"""Says whether `make torture` runs, and draws the seeds that it prints."""

import os
from random import SystemRandom

from hypothesis import settings

LONG = settings.get_current_profile_name() == "torture"


def seed_of(short: int) -> int:
    """Return TORTURE_SEED where it is set; else a new seed in the long form, and `short` in the short one."""
    drawn = SystemRandom().randrange(2**32) if LONG else short
    return int(os.environ.get("TORTURE_SEED", drawn))
