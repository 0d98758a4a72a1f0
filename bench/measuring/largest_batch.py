"""The largest batch that fits, by trying: larger ones until one does not, then between, each try in a fresh process.

Where a device says how much memory it has and how much a step took, the next size is taken from the line through the
last two that fitted, for memory grows by the same bytes with every image. Elsewhere sizes double.

A fresh process, because an allocator that has once run out of memory is fragmented and refuses what would fit. The
batch of a row is never changed behind anybody's back: the size found is a separate record, and a row measured at it
says so.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from visionbench.measuring.metrics.peak_memory import ALLOCATED
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

ROOM = 0.94
"""The share of a card that live tensors may fill: only where a search looks first, so a guess is enough."""

STRIDE = 16
"""A size is at most so many times the last that fitted: at small ones memory is no straight line yet."""

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
    ran, too_large, stopped_by = [fitting], None, None
    last, took = fitting.spec.batch_size, time.monotonic() - began
    while size := _next(ran, too_large):
        start = time.monotonic()
        if start + took * size / last - began > seconds:
            stopped_by = f"the search ended after {start - began:.0f} s: a batch of {size} may fit as well"
            break
        record = try_(replace(spec, batch_size=size))
        last, took = size, time.monotonic() - start
        say(f"a batch of {size} {'does not fit' if record.failure else 'fits'} ({took:.1f} s)")
        if record.failure is None:
            ran.append(record)
        else:
            too_large, stopped_by = size, _other(record)
    largest = ran[-1]
    images = (float(largest.spec.batch_size),)
    answer = measurement(METRIC, images, warnings=(stopped_by,) if stopped_by else ())
    return replace(largest, measurements=(*largest.measurements, answer))


def _next(ran: Sequence[Record], too_large: int | None) -> int | None:
    """The size to try next, after those that `ran`, the largest last; None when the answer is fine enough."""
    fitting = ran[-1].spec.batch_size
    if too_large is None:
        return min(_larger(fitting, _expected(ran)), CEILING) if fitting < CEILING else None
    return (fitting + too_large) // 2 if too_large - fitting > max(1, fitting // PRECISION) else None


def _larger(fitting: int, expected: int | None) -> int:
    """A larger size than one that fits: a little less than is `expected` to fit, and after that an eighth more."""
    if expected is None:
        return 2 * fitting
    below = expected - expected // 32
    return min(below, STRIDE * fitting) if below > fitting + fitting // 8 else fitting + max(1, fitting // 8)


def _expected(ran: Sequence[Record]) -> int | None:
    """How many images should fit, by the memory that the last two sizes took; None where that is not known."""
    memory, room = ran[-1].value(ALLOCATED), ROOM * (ran[-1].environment.device_memory or 0)
    if not memory or not room:
        return None
    size = ran[-1].spec.batch_size
    if len(ran) == 1:
        return int(size * room / memory)
    images, bytes_more = size - ran[-2].spec.batch_size, memory - (ran[-2].value(ALLOCATED) or 0)
    return int(size + (room - memory) * images / bytes_more) if bytes_more > 0 else None


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
