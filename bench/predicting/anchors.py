"""From one's own measured records to a calibration: a dozen or two of anchors, and what other cards' tables say.

So few rows cannot say what each kernel costs. They start from what a prediction for that card would rest on without
them, mend the factor that all networks have in common and, held firmly, each multiplier.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import Any

from visionbench.predicting.basis import Belief, believed
from visionbench.predicting.calibrate import (
    MIN_FAMILIES,
    MIN_ROWS,
    Progress,
    fitted,
    measured_samples,
    silent,
    with_beliefs,
)
from visionbench.predicting.calibration import Calibration, shipped
from visionbench.predicting.fit import common_factor
from visionbench.predicting.peaks import peaks_of
from visionbench.predicting.priors import priors
from visionbench.predicting.samples import Sample, Skipped, Step, matrix, names, seconds
from visionbench.record.devices import DeviceSpec, find
from visionbench.record.errors import BenchError
from visionbench.record.record import Record
from visionbench.record.spec import Spec
from visionbench.record.statistics import images_per_second


def from_records(
    records: Sequence[Record], start: Belief | Calibration | None = None, progress: Progress = silent
) -> list[tuple[Calibration, list[Skipped]]]:
    """A calibration per device and way of running from one's own measured records (anchors: 10 to 15 models will do).

    `start` is a calibration of another card to start from; by default what a prediction for that card would rest on
    without these records. Records without a throughput or of a device without a data sheet are left out, and so is a
    way of running with fewer than `MIN_ROWS` specs or `MIN_FAMILIES` families.
    """
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        if record.source == "measured" and images_per_second(record) and record.environment.device_key:
            groups.setdefault(_way(record), []).append(record)
    made = (_of_records(way, members, start, progress) for way, members in groups.items() if _enough(members))
    found = [one for one in made if one is not None]
    if groups and not found:
        raise BenchError(
            f"too few rows to calibrate on: measure {MIN_ROWS} networks of {MIN_FAMILIES} families or more, in one way "
            "of running (`run anchors`)."
        )
    return found


def _enough(members: Sequence[Record]) -> bool:
    return len({record.spec for record in members}) >= MIN_ROWS


def _way(record: Record) -> tuple[Any, ...]:
    spec, place = record.spec, record.environment
    compiled = spec.compile_mode is not None
    return (place.device_key, spec.precision, spec.memory_format, spec.task, compiled, place.torch or "unknown")


def _of_records(
    way: tuple[Any, ...], members: Sequence[Record], start: Belief | Calibration | None, progress: Progress
) -> tuple[Calibration, list[Skipped]] | None:
    device, precision, memory_format, task, compiled, torch = way
    samples, skipped = _samples(members, progress)
    if len(samples) < MIN_ROWS or len({sample.family for sample in samples}) < MIN_FAMILIES:
        return None
    words = [device, precision, memory_format, task, f"torch{torch.split('+')[0]}", "records"]
    facts = {
        "id": "-".join(words + (["compiled"] if compiled else [])),
        "device": device,
        "memory_format": memory_format,
        "task": task,
        "torch": torch,
        "origin": "records",
        "sources": (f"own records of {len(samples)} specs",),
    }
    start = start or believed(members[0].spec, _sheet(members), shipped())
    made = fitted(
        samples,
        precision=precision,
        compiled=compiled,
        facts=facts,
        skipped=skipped,
        believed=start.multipliers if start else None,
    )
    return (_with_belief(made, samples, start) if start else made), skipped


def _with_belief(made: Calibration, samples: Sequence[Sample], start: Belief | Calibration) -> Calibration:
    """With what few rows cannot say: the multipliers of columns that none of them has, and how all networks scatter.

    A dozen well-known networks scatter less than all there are, so the interval is no narrower than where it began.
    """
    columns = names(samples)
    fitted_to = with_beliefs(
        priors(columns, precision=made.precision, compiled=made.compiled), columns, start.multipliers
    )
    factor = common_factor(matrix(samples, columns), seconds(samples), fitted_to)
    unseen = {name: value * factor for name, value in start.multipliers.items() if name not in columns}
    return replace(
        made,
        multipliers=unseen | made.multipliers,
        low=min(made.low, start.low),
        high=max(made.high, start.high),
    )


def _samples(members: Sequence[Record], progress: Progress) -> tuple[list[Sample], list[Skipped]]:
    """One sample per spec, its median launch."""
    times: dict[Spec, list[float]] = {}
    for record in members:
        rate = images_per_second(record)
        if rate:
            times.setdefault(record.spec, []).append(record.spec.batch_size / rate)
    peaks = peaks_of(_sheet(members), members[0].spec.precision)
    steps = [Step(spec=spec, seconds=median(values), peaks=peaks) for spec, values in times.items()]
    return measured_samples(steps, progress)


def _sheet(members: Sequence[Record]) -> DeviceSpec:
    """The data sheet of the card that the records are of."""
    sheet = find(members[0].environment.device_key or "")
    if sheet is None:
        raise BenchError(f"no data sheet of {members[0].environment.device}: add it to bench/record/devices.csv.")
    return sheet
