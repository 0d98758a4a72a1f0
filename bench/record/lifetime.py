"""A child process that ends with its parent: the kernel sees to that, however the parent ended."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress

PR_SET_PDEATHSIG = 1  # <sys/prctl.h>

MOST_KILLABLE = "1000"
"""The highest `oom_score_adj`: when memory ends, this process goes, not the user's shell."""


def die_with(parent: int, by: signal.Signals = signal.SIGKILL) -> None:
    """End `by` a signal when `parent` does, and be the first to go when memory ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, by)
        with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as score:
            score.write(MOST_KILLABLE)
    if os.getppid() != parent:  # it died before the kernel was told to watch it
        os._exit(1)
