"""Two measurements on one device make each other slow: each is marked, and the later one says so.

A CUDA device is marked by its UUID: its number is another one wherever CUDA_VISIBLE_DEVICES differs, and in two jobs of
a cluster that have a card each, both are `cuda:0`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import torch

from visionbench.machine import accelerator
from visionbench.record.errors import BenchError


@contextmanager
def marked(devices: Iterable[str], say: Callable[[str], None]) -> Iterator[None]:
    """Mark these devices (`cpu`, `cuda:0`) as being measured on, and `say` which of them another process has marked.

    The mark is a lock on a file in the temporary folder, which the kernel takes back from a process that dies. Where it
    cannot be set, nothing is said.
    """
    with ExitStack() as stack:
        for device in devices:
            with suppress(OSError):
                if not stack.enter_context(_mark(_name(device))):
                    say(
                        f"Another visionbench is measuring on {device} of this machine: both will come out slow. "
                        "Let one end first."
                    )
        yield


@contextmanager
def claimed(path: Path | None) -> Iterator[None]:
    """Keep a file that is written anew again and again to this process; None is no file.

    Raises `BenchError` where another process of this machine does the same with it: the last would be left alone in it.
    """
    name = hashlib.sha256(os.fsencode(os.path.realpath(path or ""))).hexdigest()[:16]
    with ExitStack() as stack:
        with suppress(OSError):  # no lock can be set here
            if path is not None and not stack.enter_context(_mark(f"file-{name}")):
                raise BenchError(f"another visionbench is writing {path}: name another file with --keep.")
        yield


@contextmanager
def _mark(name: str) -> Iterator[bool]:
    """Hold a shared lock of that name; whether it is the only one."""
    path, flags = Path(tempfile.gettempdir()) / f".visionbench-{name}.lock", os.O_RDONLY | os.O_NOFOLLOW
    try:  # Linux refuses O_CREAT for another user's file in /tmp (sysctl fs.protected_regular)
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        descriptor = os.open(path, flags | os.O_CREAT, 0o666)
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


def _name(device: str) -> str:
    """What every process calls that device."""
    kind, index = torch.device(device).type, torch.device(device).index or 0
    known = accelerator.uuid(device) if kind == "cuda" and accelerator.is_there(device) else ""
    return f"{kind}-{known or index}" if kind != "cpu" else kind
