"""The file of a run's turns, which is written anew after every launch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from visionbench.command import progress
from visionbench.comparison import comparison
from visionbench.comparison.comparison import Comparison


def keeper(path: Path | None) -> Callable[[Sequence[Comparison]], None]:
    """Writes turns to `path` (None: nowhere). What the file held of other rows is moved first, and that is said.

    Raises `BenchError` now, before anything is measured, for a file that holds something else than turns.
    """
    if path is not None and path.is_file() and path.stat().st_size:
        comparison.read(path)
    is_first = True

    def keep(comparisons: Sequence[Comparison]) -> None:
        nonlocal is_first
        if path is None or not comparisons:
            return
        if is_first and (aside := comparison.set_aside(path, comparisons)):
            progress.say(f"What {path} held is now in {aside}.")
        is_first = False
        comparison.write(path, comparisons)

    return keep
