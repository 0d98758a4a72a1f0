"""Progress on stderr: a bar on a terminal, plain lines elsewhere (a log file, CI), results never."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING

from visionbench.record.clean import clean, clean_lines
from visionbench.record.program import short_name
from visionbench.record.record import Record
from visionbench.record.spec import Spec
from visionbench.record.statistics import images_per_second
from visionbench.record.units import duration, significant, size

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


QUIET: ContextVar[bool] = ContextVar("quiet", default=False)
"""Whether the user has asked for no progress (`--quiet`). Mistakes are printed all the same."""


STOPPED = "stopped answering in the middle (see `nvidia-smi` and `dmesg`; a restart may help)"
"""What is said of a GPU that fell off the bus."""


def say(text: str) -> None:
    """One line on stderr, unless the user has asked for none."""
    if not QUIET.get():
        put(f"{clean_lines(text)}\n")


def complain(text: str) -> None:
    """One line on stderr that begins with the program's name: something is wrong."""
    put(clean_lines(f"{short_name()}: {text}") + "\n")


def put(text: str) -> None:
    """Write to stderr as it is. A full disk or a closed pipe there ends no measurement and no verdict."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def outcome(record: Record) -> str:
    """What a launch came to, in a few words: `41.3 img/s`, or the failure's cause."""
    if record.failure:
        cause = textwrap.shorten(record.failure.message, 160, placeholder=" ...")
        return f"failed: {record.failure.kind.replace('_', ' ')} ({cause})"
    rate = images_per_second(record)
    peak = record.value("peak_memory_allocated")
    if rate is None and peak:
        return f"{size(peak)} allocated"
    if rate and record.spec.processes is not None:
        return f"{record.spec.processes} x {significant(rate, 4)} img/s"
    return f"{significant(rate, 4)} img/s" if rate else "recorded"


class Lines:
    """Progress as lines: one when a launch ends."""

    def started(self, spec: Spec, index: int, total: int) -> None:
        """Nothing: a line per launch is enough for a log."""

    def finished(self, record: Record, index: int, total: int, eta_seconds: float) -> None:
        """`[3/12] timm:convnext_tiny@224 ...: 41.3 img/s (about 20 s left)`."""
        left = f" (about {duration(eta_seconds)} left)" if eta_seconds >= 1 else ""
        say(f"[{index}/{total}] {record.spec}: {outcome(record)}{left}")


class Bar:
    """Progress as one line that stays at the bottom, with a line above it for each launch that ended."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None

    def started(self, spec: Spec, index: int, total: int) -> None:
        """The bar shows what runs now."""
        if self._task is None:
            self._task = self._progress.add_task("", total=total)
        name = clean(f"{spec.model}@{spec.pixels}".rstrip("@"))
        self._progress.update(self._task, description=name, completed=index - 1)

    def finished(self, record: Record, index: int, total: int, eta_seconds: float) -> None:  # noqa: ARG002 -- the bar counts
        """What it came to, above the bar."""
        self._progress.console.print(
            clean(f"[{index}/{total}] {record.spec}: {outcome(record)}"), markup=False, highlight=False
        )
        if self._task is not None:
            self._progress.update(self._task, completed=index)


@contextmanager
def shown() -> Iterator[Lines | Bar]:
    """The progress that fits where stderr goes."""
    if QUIET.get() or not sys.stderr.isatty():
        yield Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield Bar(progress)
