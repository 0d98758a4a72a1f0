"""From measured steps to a calibration, and from a user's own records: a dozen or two of anchors will do.

So few rows cannot say what each kernel costs. The fit starts from what a prediction for that card would use without
them, and corrects the factor that all networks have in common and, held firmly, each multiplier.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

from visionbench.predicting.basis import StartingPoint, starting_point
from visionbench.predicting.calibration import Calibration, shipped
from visionbench.predicting.features import peaks_of
from visionbench.predicting.fit import Array, common_factor, fit, fit_anchors, priors
from visionbench.predicting.held_out import (
    Fitting,
    baseline_predictions,
    error_figures,
    held_out_predictions,
    interval,
    resolution,
)
from visionbench.predicting.samples import (
    Progress,
    Sample,
    Skipped,
    Step,
    column_names,
    design_matrix,
    measured_seconds,
    silent,
    traced_samples,
)
from visionbench.record.devices import DeviceSpec, find
from visionbench.record.errors import BenchError
from visionbench.record.flags import time_doubts
from visionbench.record.prediction import Figures
from visionbench.record.record import Record
from visionbench.record.spec import Spec
from visionbench.record.statistics import images_per_second

MIN_ROWS = 8
MIN_FAMILIES = 2

# --- any measured rows ---


def fit_calibration(
    samples: Sequence[Sample],
    *,
    precision: str,
    compiled: bool,
    facts: dict[str, Any],
    skipped: Sequence[Skipped] = (),
    start: dict[str, float] | None = None,
    fitting: Fitting | None = None,
) -> Calibration:
    """Fit multipliers to the samples, with the errors of every family held out in turn.

    `start` are another card's multipliers to start from. `fitting` is by default `fit_anchors` with a `start` and
    `fit` without. Raises `BenchError` for fewer than `MIN_ROWS` rows or `MIN_FAMILIES` families.
    """
    families = tuple(sorted({sample.family for sample in samples}))
    if len(samples) < MIN_ROWS or len(families) < MIN_FAMILIES:
        reasons = ", ".join(sorted({skip.reason for skip in skipped}))
        left_out = f" ({len(skipped)} more were left out: {reasons})" if skipped else ""
        raise BenchError(
            f"{len(samples)} rows of {len(families)} families{left_out} are too few to calibrate: give at least "
            f"{MIN_ROWS} of {MIN_FAMILIES}."
        )
    columns = column_names(samples)
    prior = _prior(columns, start or {}, precision=precision, compiled=compiled)
    solve = fitting or (fit_anchors if start else fit)
    predicted = held_out_predictions(samples, columns, prior, solve)
    multipliers = solve(design_matrix(samples, columns), measured_seconds(samples), prior)
    low, high = interval(samples, predicted)
    batches = [sample.batch_size for sample in samples]
    baselines: dict[str, Callable[[Sample], float]]
    baselines = {"flops": lambda sample: sample.macs, "activations": lambda sample: sample.activations}
    return Calibration(
        **facts,
        precision=precision,
        compiled=compiled,
        traced_with={name: importlib.metadata.version(name) for name in ("torch", "timm")},
        rows=len(samples),
        skipped=dict(sorted(Counter(skip.reason for skip in skipped).items())),
        families=families,
        batches=(min(batches), max(batches)),
        multipliers=dict(zip(columns, map(float, multipliers), strict=True)),
        low=low,
        high=high,
        resolution=resolution(samples, predicted),
        by_source=_by_source(samples, predicted),
        held_out={"model": error_figures(samples, predicted, covered=True)}
        | {
            name: error_figures(samples, baseline_predictions(samples, work), covered=False)
            for name, work in baselines.items()
        },
    )


def _by_source(samples: Sequence[Sample], predicted: Array) -> dict[str, Figures]:
    """The held-out errors of each publication with `MIN_ROWS` rows or more."""
    rows: dict[str, list[int]] = {}
    for index, sample in enumerate(samples):
        rows.setdefault(sample.source, []).append(index)
    return {
        source: error_figures([samples[index] for index in members], predicted[members], covered=False)
        for source, members in sorted(rows.items())
        if source and len(members) >= MIN_ROWS
    }


def _prior(columns: Sequence[str], start: dict[str, float], *, precision: str, compiled: bool) -> Array:
    """The multipliers that a fit starts from, in the columns' order: those of `start`, else the priors."""
    prior = priors(columns, precision=precision, compiled=compiled)
    for index, name in enumerate(columns):
        prior[index] = start.get(name, prior[index])
    return prior


# --- a user's own records ---


def from_records(
    records: Sequence[Record], start: StartingPoint | Calibration | None = None, progress: Progress = silent
) -> list[tuple[Calibration, list[Skipped]]]:
    """A calibration per device and way of running, with the rows that were left out of each.

    `start` is a calibration of another card to start from; by default what a prediction for that card would use
    without these records. Records without a throughput or of a device without a data sheet are ignored, and so is a
    way of running with fewer than `MIN_ROWS` specs or `MIN_FAMILIES` families. Launches of which a flag says that the
    time is not the device's own are left out. Raises `BenchError` if every way of running has too few.
    """
    groups: dict[tuple[Any, ...], list[Record]] = {}
    doubtful: list[Record] = []
    for record in records:
        lone = record.source == "measured" and record.spec.processes is None  # several also wait for each other
        if lone and images_per_second(record) and record.environment.device_key:
            if time_doubts(record):
                doubtful.append(record)
            else:
                groups.setdefault(_way_of_running(record), []).append(record)
    attempts = [
        _from_group(way, members, start, progress, _flagged(way, members, doubtful))
        for way, members in groups.items()
        if len({record.spec for record in members}) >= MIN_ROWS
    ]
    calibrations = [attempt for attempt in attempts if attempt is not None]
    if (groups or doubtful) and not calibrations:
        flags = sorted({flag for record in doubtful for flag in time_doubts(record)})
        left_out = f" ({len(doubtful)} launches were left out, flagged {', '.join(flags)})" if doubtful else ""
        raise BenchError(
            f"too few rows to calibrate on{left_out}: measure {MIN_ROWS} networks of {MIN_FAMILIES} families or more, "
            "in one way of running (`run anchors`)."
        )
    return calibrations


def _flagged(way: tuple[Any, ...], members: Sequence[Record], doubtful: Sequence[Record]) -> list[Skipped]:
    """The rows of a way of running of which no launch is free of doubts."""
    rest = {record.spec for record in members}
    same_way = (record for record in doubtful if _way_of_running(record) == way)
    flags = {record.spec: time_doubts(record) for record in same_way if record.spec not in rest}
    return [Skipped(row=str(spec), reason=f"flagged {', '.join(names)}") for spec, names in flags.items()]


def _way_of_running(record: Record) -> tuple[Any, ...]:
    spec, place = record.spec, record.environment
    compiled = spec.compile_mode is not None
    return (place.device_key, spec.precision, spec.memory_format, spec.task, compiled, place.torch or "unknown")


def _from_group(
    way: tuple[Any, ...],
    members: Sequence[Record],
    start: StartingPoint | Calibration | None,
    progress: Progress,
    flagged: Sequence[Skipped] = (),
) -> tuple[Calibration, list[Skipped]] | None:
    device, precision, memory_format, task, compiled, torch = way
    samples, skipped = traced_samples(_median_steps(members), progress)
    skipped += flagged
    if len(samples) < MIN_ROWS or len({sample.family for sample in samples}) < MIN_FAMILIES:
        return None
    words = [device, precision, memory_format, task, f"torch{torch.split('+')[0]}", "records"]
    name = "-".join(words + (["compiled"] if compiled else []))
    facts = {
        "id": re.sub(r"[^\w.+-]", "_", name, flags=re.ASCII)[:150],  # it becomes a file's name, and comes from a file
        "device": device,
        "memory_format": memory_format,
        "task": task,
        "torch": torch,
        "origin": "records",
        "sources": (f"own records of {len(samples)} specs",),
    }
    start = start or starting_point(members[0].spec, _data_sheet(members), shipped())
    calibration = fit_calibration(
        samples,
        precision=precision,
        compiled=compiled,
        facts=facts,
        skipped=skipped,
        start=start.multipliers if start else None,
    )
    return (_completed(calibration, samples, start) if start else calibration), skipped


def _completed(calibration: Calibration, samples: Sequence[Sample], start: StartingPoint | Calibration) -> Calibration:
    """Add what few rows cannot say: the multipliers of columns that none of them has, and how all networks scatter.

    A dozen well-known networks scatter less than all networks do, so the interval gets no narrower than the start's.
    """
    columns = column_names(samples)
    prior = _prior(columns, start.multipliers, precision=calibration.precision, compiled=calibration.compiled)
    factor = common_factor(design_matrix(samples, columns), measured_seconds(samples), prior)
    unseen = {name: value * factor for name, value in start.multipliers.items() if name not in columns}
    return replace(
        calibration,
        multipliers=unseen | calibration.multipliers,
        low=min(calibration.low, start.low),
        high=max(calibration.high, start.high),
    )


def _median_steps(members: Sequence[Record]) -> list[Step]:
    """One step per spec: its median launch."""
    times: dict[Spec, list[float]] = {}
    for record in members:
        rate = images_per_second(record)
        if rate:
            times.setdefault(record.spec, []).append(record.spec.batch_size / rate)
    peaks = peaks_of(_data_sheet(members), members[0].spec.precision)
    return [Step(spec=spec, seconds=median(values), peaks=peaks) for spec, values in times.items()]


def _data_sheet(members: Sequence[Record]) -> DeviceSpec:
    sheet = find(members[0].environment.device_key or "")
    if sheet is None:
        raise BenchError(f"no data sheet of {members[0].environment.device}: add it to bench/record/devices.csv.")
    return sheet
