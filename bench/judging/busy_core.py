"""A neighbour: a process that keeps one core busy for as long as a test needs it, and not a moment longer.

It is a loop and no `sleep`, bound to its core, so that a process on the same core gets half of it. It ends
with the `with` block, however that is left; and if its parent is killed, the kernel ends it.
"""

from __future__ import annotations

import ctypes
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

PR_SET_PDEATHSIG = 1  # <sys/prctl.h>

STARTED = b"busy\n"


@contextmanager
def busy_core(rng: random.Random) -> Iterator[int | None]:
    """Keep one of this process's cores busy, drawn from `rng`; gives its number, None where cores have none."""
    from visionbench.machine import host  # here, because the neighbour itself runs this file without site-packages

    cores = host.usable_cores() if host.can_bind() else ()
    core = rng.choice(cores) if cores else None
    words = [str(os.getpid()), "" if core is None else str(core)]
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,  # a Ctrl-C in the terminal is the parent's to answer
    )
    try:
        assert process.stdout is not None
        if process.stdout.readline() != STARTED:
            raise RuntimeError("the busy neighbour did not start")
        yield core
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _be_busy(parent: int, core: int | None) -> None:
    """Compute for ever, or until `parent` is gone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if core is not None:
        with suppress(OSError):  # the core went offline meanwhile
            os.sched_setaffinity(0, [core])
    sys.stdout.buffer.write(STARTED)
    sys.stdout.flush()
    while os.getppid() == parent:  # it may have died before the kernel was told to watch it; and not all are Linux
        sum(range(1_000_000))


if __name__ == "__main__":
    _be_busy(int(sys.argv[1]), int(sys.argv[2]) if sys.argv[2] else None)
