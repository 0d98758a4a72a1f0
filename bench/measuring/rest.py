"""Whether a process goes on computing while nothing is asked of it: threads and processes that a model has started.

They take cores from the steps, and memory's bandwidth, in a share that changes from launch to launch. The clock cannot
tell: it is asked here, after the last block, how much CPU time this process and its children use while they should
rest. Other programs cannot raise that number, on a machine however busy; they can only lower it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

FLAG = "busy_between_steps"

REST, RESTS = 0.05, 8
"""Seconds of a rest, and how many are given. OpenMP's threads look for work for a while before they sleep (libgomp some
ms, Intel's library 200 ms), so the first quiet rest acquits, and only a process that is busy in all of them is not."""

SHARE = 0.05
"""What a resting process may use of one core. To wake up twice costs 0.1 ms."""


def flags(
    threads: int | None,
    *,
    now: Callable[[], float] = time.perf_counter,
    cpu_now: Callable[[], float] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[str, ...]:
    """`busy_between_steps`, where threads or children of this process use CPU time while no step is asked for.

    `threads` are those that torch uses (None: its own choice). It takes 0.05 s of a quiet process, and at most 0.4 s.
    """
    if threads != 1 and _waits_actively():
        return ()
    used = cpu_now or _cpu_seconds
    for _ in range(RESTS):
        wall, cpu = now(), used()
        sleep(REST)
        cpu, wall = used() - cpu, now() - wall
        if cpu <= SHARE * wall:
            return ()
    return (FLAG,)


def _waits_actively() -> bool:
    """Whether the user keeps OpenMP's threads awake: then they look like a model's own."""
    patient = {"KMP_BLOCKTIME", "GOMP_SPINCOUNT"} & os.environ.keys()
    return bool(patient) or os.environ.get("OMP_WAIT_POLICY", "").lower() == "active"


def _cpu_seconds() -> float:
    """What this process and the living processes that descend from it have used; the kernel counts those in ticks."""
    own = time.process_time()
    if not _has_children():
        return own
    import psutil

    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it has ended meanwhile
            times = child.cpu_times()
            own += times.user + times.system
    return own


def _has_children() -> bool:
    """Whether the kernel lists any; looked for in all threads, each of which has its own list."""
    with suppress(OSError):
        for thread in Path("/proc/self/task").iterdir():
            with suppress(OSError):
                if (thread / "children").read_text(encoding="ascii"):
                    return True
    return False
