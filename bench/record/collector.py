"""Python's collector of circles of objects, out of the way where it would only cost time."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """No collection meanwhile: in a trace it would release tensors at an unrelated moment, and in a timed block cost
    tens of milliseconds. Between blocks it is on, so the memory of cycles is not kept for a whole run.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
