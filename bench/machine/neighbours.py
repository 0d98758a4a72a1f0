"""Two measurements on one device make each other slow: each is marked, and the later one says so."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path


@contextmanager
def marked(devices: Iterable[str], say: Callable[[str], None]) -> Iterator[None]:
    """Mark these devices (`cpu`, `cuda:0`) as being measured on, and `say` which of them another process has marked.

    The mark is a lock on a file in the temporary folder, which the kernel takes back from a process that dies. Where it
    cannot be set, nothing is said.
    """
    with ExitStack() as stack:
        for device in devices:
            with suppress(OSError):
                if not stack.enter_context(_mark(device)):
                    say(
                        f"Another visionbench is measuring on {device} of this machine: both will come out slow. "
                        "Let one end first."
                    )
        yield


@contextmanager
def _mark(device: str) -> Iterator[bool]:
    """Hold a shared lock for `device`; whether it is the only one."""
    name = "cuda-0" if device == "cuda" else device.replace(":", "-")
    path = Path(tempfile.gettempdir()) / f".visionbench-{name}.lock"
    descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_alone = True
        except BlockingIOError:
            is_alone = False
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield is_alone
    finally:
        os.close(descriptor)
