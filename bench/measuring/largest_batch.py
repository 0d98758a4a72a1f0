"""The largest batch that fits, by trying: doubling until one does not, then bisection, each try in a fresh process.

A fresh process, because an allocator that has once run out of memory is fragmented and refuses what would fit. The
batch of a row is never changed behind anybody's back: the size found is a separate record, and a row measured at it
says so.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from visionbench.record.metrics import measurement
from visionbench.record.record import Record
from visionbench.record.spec import Protocol, Spec

METRIC = "largest_batch"

TAKEN = "other_gpu_processes"
"""The flag of a size that was found while another program held some of the memory."""

FIT = Protocol(name="fit", metrics=(), warmup_iterations=3, blocks=0, block_iterations=1, max_seconds=300.0)
"""Three iterations: the second training step is the first that has gradients and optimizer state at once."""

CEILING = 2**17
"""Larger batches are not tried: a tiny model on a large card would fit millions."""

PRECISION = 64
"""The size is found to within one part in so many: a finer answer depends on the weather in the allocator."""

Try = Callable[[Spec], Record]
"""Launches a spec under `FIT` and returns its record."""


CPU_SECONDS = 120.0
"""How long the search may take on a CPU: its memory is large, and its large batches are slow."""


def largest_batch(
    spec: Spec, try_: Try, seconds: float = math.inf, say: Callable[[str], None] = lambda _: None
) -> Record:
    """The record of the largest batch of `spec` that fits, under protocol `FIT`, at that batch size.

    Its `largest_batch` is the size. Where something else than memory stopped a larger batch, or the next would not end
    within `seconds` of the search's start, it is the largest that ran, and a warning says what stopped the next. If not
    even one image runs, it is the failure that says so. `say` hears of each try.
    """
    began = time.monotonic()
    first = fitting = try_(replace(spec, batch_size=1))
    if _other(first):
        fitting = try_(replace(spec, batch_size=2))  # batch norm over one pixel needs two images
    if fitting.failure is not None:
        return first
    too_large, stopped_by = None, None
    last, took = fitting.spec.batch_size, time.monotonic() - began
    while size := _next(fitting.spec.batch_size, too_large):
        start = time.monotonic()
        if start + took * size / last - began > seconds:
            stopped_by = f"the search ended after {start - began:.0f} s: a batch of {size} may fit as well"
            break
        record = try_(replace(spec, batch_size=size))
        last, took = size, time.monotonic() - start
        say(f"a batch of {size} {'does not fit' if record.failure else 'fits'} ({took:.1f} s)")
        if record.failure is None:
            fitting = record
        else:
            too_large, stopped_by = size, _other(record)
    size = fitting.spec.batch_size
    found = measurement(METRIC, (float(size),), warnings=(stopped_by,) if stopped_by else ())
    return replace(fitting, measurements=(*fitting.measurements, found))


def _next(fitting: int, too_large: int | None) -> int | None:
    """The size to try next: twice the largest that fits, then the middle; None when the answer is fine enough."""
    if too_large is None:
        return 2 * fitting if 2 * fitting <= CEILING else None
    return (fitting + too_large) // 2 if too_large - fitting > max(1, fitting // PRECISION) else None


def _other(record: Record) -> str | None:
    """What stopped a batch, in words, where it was not memory."""
    failure = record.failure
    if failure is None or failure.kind == "out_of_memory":
        return None
    return f"stopped at {record.spec.batch_size} images by something else than memory: {failure.message}"


def known(spec: Spec, records: Iterable[Record], device: str, torch: str | None) -> Record | None:
    """The newest record that says the largest batch of `spec` on that device under that torch, or None.

    What was found beside another program says what that program left.
    """
    found = None
    for record in records:
        same = replace(record.spec, batch_size=spec.batch_size) == spec
        where = (record.environment.device, record.environment.torch) == (device, torch)
        largest = record.get(METRIC)
        if same and where and largest is not None and TAKEN not in largest.flags:
            found = record
    return found
