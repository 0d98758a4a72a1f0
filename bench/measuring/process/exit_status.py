"""How a child process ended, as the `Failure` that it leaves behind: by its exit status and the end of its output."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from visionbench.record.record import Failure

TAIL = 300
"""Characters of a child's output that go into a failure's message."""


_CGROUP = Path("/sys/fs/cgroup")
COUNTERS = (Path("/proc/vmstat"), _CGROUP / "memory.events", _CGROUP / "memory" / "memory.oom_control")
"""Where Linux counts the processes that it killed because memory ran out: of the machine, and of this container."""


def memory_kills() -> int:
    """How often the kernel has killed a process for want of memory, as far as it says."""
    kills = 0
    for counter in COUNTERS:
        with suppress(OSError, ValueError):
            words = (line.split() for line in counter.read_text(encoding="ascii").splitlines())
            kills += sum(int(word[1]) for word in words if word[0] == "oom_kill")
    return kills


def ended(code: int, stage: str, log: BinaryIO | None, kills: int | None = None) -> Failure:
    """The failure of a child that ended at `stage` without a result; `code` is minus the signal's number, if one.

    `kills` is what `memory_kills` said before it started.
    """
    if code == -signal.SIGKILL:
        if kills is not None and memory_kills() > kills:
            message = "killed (SIGKILL) by the kernel, which counts it as killed because host memory ran out"
            return Failure(kind="out_of_memory", stage=stage, message=message)
        message = "killed (SIGKILL); the kernel counted no kill for lack of memory"
        return Failure(kind="crashed", stage=stage, message=f"{message}{tail(log)}")
    how = f"died of {_signal_name(-code)}" if code < 0 else f"ended with exit code {code}, without a result"
    return Failure(kind="crashed", stage=stage, message=f"{how}{tail(log)}")


def timed_out(seconds: float, stage: str, log: BinaryIO | None) -> Failure:
    """The failure of a child that was stopped at `stage` when its time was up."""
    return Failure(kind="timeout", stage=stage, message=f"stopped after {seconds:g} s{tail(log)}")


def tail(log: BinaryIO | None) -> str:
    """`; it printed: ...` with the end of what `log` holds, or nothing."""
    if log is None:
        return ""
    log.seek(max(0, os.fstat(log.fileno()).st_size - 4 * TAIL))
    words = " ".join(log.read().decode("utf-8", errors="replace").split())
    return f"; it printed: {words[-TAIL:]}" if words else ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # real-time signals have no name
        return f"signal {number}"
