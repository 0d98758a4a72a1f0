"""How a child process ended, as the `Failure` that it leaves behind: by its exit status and the end of its output."""

from __future__ import annotations

import os
import signal
from typing import BinaryIO

from visionbench.record.record import Failure

TAIL = 300
"""Characters of a child's output that go into a failure's message."""


def ended(code: int, stage: str, log: BinaryIO | None) -> Failure:
    """The failure of a child that ended at `stage` without a result; `code` is minus the signal's number, if one."""
    if code == -signal.SIGKILL:
        message = "killed (SIGKILL), most likely by the kernel because host memory ran out"
        return Failure(kind="out_of_memory", stage=stage, message=message)
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
