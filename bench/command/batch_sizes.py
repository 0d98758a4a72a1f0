"""The largest batch that fits, which `run` searches for; and from which size on a larger one is no faster."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from visionbench.command import progress
from visionbench.record import store
from visionbench.record.errors import DeviceLostError
from visionbench.record.record import Environment, Record
from visionbench.record.spec import Spec
from visionbench.record.statistics import throughput
from visionbench.record.units import significant

if TYPE_CHECKING:
    from visionbench.measuring.sweep import Networks

SATURATED = 0.95
"""The share of the best throughput from which on a larger batch does not pay."""


def at_largest(
    specs: Iterable[Spec], device: str, threads: int | None, path: Path, networks: Networks
) -> tuple[Spec, ...]:
    """Every spec at the largest batch that fits, which is searched for unless a record in the file knows it.

    The result is recorded; a spec of which nothing fits is recorded with its cause, and left out. Records of what a
    user's name stood for before (`networks` says what it is now) know nothing.
    """
    from visionbench.machine.environment import describe
    from visionbench.measuring.largest_batch import CPU_SECONDS, FIT, METRIC, known, largest_batch
    from visionbench.measuring.process.launch import launch
    from visionbench.measuring.sweep import answers, is_gone, of_now

    answered = answers(device)

    def tried(spec: Spec) -> Record:
        record = launch(spec, FIT, device, threads)
        if is_gone(record.failure, device, answered):  # what such a try met says nothing of its size
            raise DeviceLostError(f"{device} {progress.STOPPED}; the same command searches anew.")
        return record

    environment, seconds = describe(device, threads), CPU_SECONDS if device.startswith("cpu") else math.inf
    records = of_now(store.read_if_there(path).records, networks)
    records = [record for record in records if record.environment.variables == environment.variables]
    at_largest = []
    for spec in specs:
        record = known(spec, records, environment.device, environment.torch)
        if record is None:
            progress.say(f"Searching the largest batch of {spec.model} ({spec.size}) ...")
            record = _beside_others(device, partial(largest_batch, spec, tried, seconds, progress.say))
            store.append(path, record)
        largest = record.get(METRIC)
        if largest is None:
            progress.say(f"{spec.model} ({spec.size}): {progress.outcome(record)}")
            continue
        size = int(largest.values[0])
        why = "".join(f" ({text})" for text in largest.warnings)
        fitting = _that_ran(replace(spec, batch_size=size), records, environment)
        if fitting.batch_size < size:
            why = f" in three steps; what was measured at more than {fitting.batch_size} ran out of memory{why}"
        progress.say(f"{spec.model} ({spec.size}): the largest batch that fits is {size}{why}")
        at_largest.append(fitting)
    return tuple(at_largest)


def _beside_others(device: str, search: Callable[[], Record]) -> Record:
    """What a search came to; flagged where another program held some of the GPU's memory before or after it."""
    from visionbench.machine.telemetry import surroundings
    from visionbench.measuring.largest_batch import METRIC, TAKEN

    if device.startswith("cpu"):
        return search()
    before = surroundings(device)
    record = search()
    largest = record.get(METRIC)
    if largest is None or TAKEN not in (*before, *surroundings(device)):
        return record
    warning = "another program held memory of this GPU, so the same command searches anew"
    taken = replace(largest, flags=(*largest.flags, TAKEN), warnings=(*largest.warnings, warning))
    return replace(record, measurements=tuple(taken if m is largest else m for m in record.measurements))


def _that_ran(spec: Spec, records: Sequence[Record], environment: Environment) -> Spec:
    """`spec` with as many images fewer as were found not to fit by measuring, which autotunes anew, step by step."""
    from visionbench.measuring.largest_batch import PRECISION

    here = (environment.device, environment.torch)
    on_this = [record for record in records if (record.environment.device, record.environment.torch) == here]
    refused = {record.spec for record in on_this if ran_out(record)}
    while spec in refused and spec.batch_size > 1:
        spec = replace(spec, batch_size=spec.batch_size - max(1, spec.batch_size // PRECISION))
    return spec


def ran_out(record: Record) -> bool:
    """Whether a row did not fit into memory after all."""
    return record.failure is not None and record.failure.kind == "out_of_memory"


def saturation(records: Iterable[Record]) -> list[str]:
    """For each model measured at several batch sizes, one sentence: from which size on a larger one does not pay."""
    curves: dict[Spec, dict[int, list[Record]]] = {}
    for record in records:
        if record.source == "measured" and record.failure is None:
            sizes = curves.setdefault(replace(record.spec, batch_size=1), {})
            sizes.setdefault(record.spec.batch_size, []).append(record)
    return [sentence for spec, sizes in curves.items() if (sentence := _saturates(spec, sizes))]


def _saturates(spec: Spec, sizes: dict[int, list[Record]]) -> str | None:
    estimates = {size: throughput(records) for size, records in sorted(sizes.items())}
    rates = {size: estimate.centre for size, estimate in estimates.items() if estimate}
    if len(rates) < 2:
        return None
    best = max(rates.values())
    point = min(size for size, rate in rates.items() if rate >= SATURATED * best)
    name = f"{spec.model} ({spec.size})"
    if point == max(rates):
        return f"{name}: still faster at batch {point}, the largest measured; a larger one may pay."
    top = significant(best, 4)
    return f"{name}: from batch {point} on a larger one adds less than {1 - SATURATED:.0%} (best {top} img/s)."
