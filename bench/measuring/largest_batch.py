"""The largest batch that fits, by trying: doubling until one does not, then bisection, each try in a fresh process.

A fresh process, because an allocator that has once run out of memory is fragmented and refuses what would fit. The
batch of a row is never changed behind anybody's back: the size found is a record of its own, and a row measured at
it says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from visionbench.record.metrics import measurement
from visionbench.record.record import Record
from visionbench.record.spec import Protocol, Spec

METRIC = "largest_batch"

FIT = Protocol(name="fit", metrics=(), warmup_iterations=3, blocks=0, block_iterations=1, max_seconds=300.0)
"""Three iterations: the second training step is the first that has gradients and optimizer state at once."""

CEILING = 2**17
"""Larger batches are not tried: a tiny model on a large card would fit millions."""

PRECISION = 64
"""The size is found to within one part in so many: a finer answer depends on the weather in the allocator."""

Try = Callable[[Spec], Record]
"""Launches a spec under `FIT` and returns its record."""


def largest_batch(spec: Spec, try_: Try) -> Record:
    """The record of the largest batch of `spec` that fits, under protocol `FIT`, at that batch size.

    Its `largest_batch` is the size. Where something else than memory stopped a larger batch, it is the largest that
    ran, and a warning says what stopped the next. If not even one image runs, it is the failure that says so.
    """
    fitting, too_large, other, lone = None, None, None, None
    size = 1
    while too_large is None and size <= CEILING:
        record = try_(replace(spec, batch_size=size))
        if record.failure is None:
            fitting, size = record, size * 2
        elif fitting is None and size == 1 and _other(record):
            lone, size = record, 2  # batch norm over one pixel needs two images
        elif fitting is None:
            return lone or record
        else:
            too_large, other = size, _other(record)
    assert fitting is not None
    while too_large is not None and too_large - fitting.spec.batch_size > max(1, fitting.spec.batch_size // PRECISION):
        middle = (fitting.spec.batch_size + too_large) // 2
        record = try_(replace(spec, batch_size=middle))
        if record.failure is None:
            fitting = record
        else:
            too_large, other = middle, _other(record)
    found = measurement(METRIC, (float(fitting.spec.batch_size),), warnings=(other,) if other else ())
    return replace(fitting, measurements=(*fitting.measurements, found))


def _other(record: Record) -> str | None:
    """What stopped a batch, in words, where it was not memory."""
    failure = record.failure
    if failure is None or failure.kind == "out_of_memory":
        return None
    return f"stopped at {record.spec.batch_size} images by something else than memory: {failure.message}"


def known(spec: Spec, records: Iterable[Record], device: str, torch: str | None) -> Record | None:
    """The newest record that says the largest batch of `spec` on that device under that torch, or None."""
    found = None
    for record in records:
        same = replace(record.spec, batch_size=spec.batch_size) == spec
        where = (record.environment.device, record.environment.torch) == (device, torch)
        if same and where and record.value(METRIC) is not None:
            found = record
    return found
