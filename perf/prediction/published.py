"""Rows that papers and model zoos print for data-centre cards (`published_rows.csv`, each with its source).

Rows with `fit` make a calibration per chip and way of running, if they come from two publications or more: the protocol
of a single one may shift all its rows by a factor. The other rows are kept to check predictions.

Few rows cannot say what each kernel costs, but GeForce cards' tables can: on tensor cores the multipliers of the 3090
and the 4090, all slowed by one factor, already predict V100, A100 and H100 rows to 5 to 12 %. So these fits start there
and are held by `PUBLISHED_RIDGE`, between `fit_anchors` (0.3, best within V100) and the bare factor (best within A100).
For fp32 there is no such table; there are over 150 rows instead, enough to start from the priors.

With one publication left out at a time, its rows are 7 % (V100 fp32 and AMP), 12 % (A100 TF32) and 14 % (A100 AMP)
off. A factor per publication, shrunk to 1, did not help and was dropped.

A row names the program that was run, as far as its publisher's repository says: arXiv 2201.03545, 2401.10166 and
2303.16900 ran the authors' ConvNeXt, throughput-bench timm's. Where it does not say, timm's network is taken.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from visionbench.predicting.calibrate import fit_calibration
from visionbench.predicting.calibration import Calibration, average, chip, shipped
from visionbench.predicting.features import Peaks, peaks_of
from visionbench.predicting.fit import Array, common_factor, fit
from visionbench.predicting.samples import Progress, Sample, Skipped, Step, silent, traced_samples
from visionbench.record.devices import find
from visionbench.record.errors import BenchError
from visionbench.record.spec import Attention, MemoryFormat, Precision, Spec, Task

PATH = Path(__file__).parent / "published_rows.csv"

PUBLISHED_RIDGE = 0.5
"""As `fit.RIDGE`, where the prior is what GeForce tables say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One printed row. `fit` says whether it is fitted; the others are kept to check predictions."""

    device: str
    spec: Spec
    images_per_second: float
    torch: str
    fit: bool
    source: str

    @property
    def seconds(self) -> float:
        """Seconds of one step."""
        return self.spec.batch_size / self.images_per_second


def published(path: Path = PATH) -> tuple[Published, ...]:
    """All rows of the file."""
    with path.open(encoding="utf-8", newline="") as lines:
        return tuple(_published(line) for line in csv.DictReader(lines))


def _published(line: dict[str, str]) -> Published:
    return Published(
        device=line["device"],
        spec=Spec(
            model=line["model"],
            task=cast(Task, line["task"]),
            batch_size=int(line["batch"]),
            image_size=int(line["image_size"]),
            precision=cast(Precision, line["precision"]),
            memory_format=cast(MemoryFormat, line["memory_format"]),
            attention=cast(Attention, line["attention"]),
        ),
        images_per_second=float(line["images_per_second"]),
        torch=line["torch"],
        fit=line["fit"] == "yes",
        source=line["source"],
    )


def samples_of(rows: Sequence[Published], progress: Progress = silent) -> tuple[list[Sample], list[Skipped]]:
    """The rows with their columns, on the peaks of the device that each was printed for."""
    steps = [Step(spec=row.spec, seconds=row.seconds, peaks=_peaks(row), source=row.source) for row in rows]
    return traced_samples(steps, progress)


def _peaks(row: Published) -> Peaks:
    sheet = find(row.device)
    if sheet is None:
        raise BenchError(f"published_rows.csv names a device without a data sheet: {row.device}.")
    return peaks_of(sheet, row.spec.precision)


def calibrate_published(
    rows: Iterable[Published] | None = None, progress: Progress = silent
) -> list[tuple[Calibration, list[Skipped]]]:
    """A calibration per chip and way of running from the rows with `fit`; by default of the whole file."""
    groups: dict[tuple[str, ...], list[Published]] = {}
    for row in published() if rows is None else rows:
        if row.fit:
            spec = row.spec
            groups.setdefault((chip(row.device), spec.precision, spec.memory_format, spec.task), []).append(row)
    return [_of_group(members, progress) for members in groups.values()]


def tabled(calibrations: Iterable[Calibration], memory_format: str, task: str) -> list[Calibration]:
    """Calibrations on timm's tables for eager steps in that memory format, of hundreds of models each."""
    return [
        c
        for c in calibrations
        if (c.origin, c.memory_format, c.task, c.compiled) == ("timm", memory_format, task, False)
    ]


def _of_group(rows: Sequence[Published], progress: Progress) -> tuple[Calibration, list[Skipped]]:
    spec = rows[0].spec
    [(device, _)] = Counter(row.device for row in rows).most_common(1)
    samples, skipped = samples_of(rows, progress)
    facts = {
        "id": "-".join((device, spec.precision, spec.memory_format, spec.task, "published")),
        "device": device,
        "memory_format": spec.memory_format,
        "task": spec.task,
        "torch": "various" if len({row.torch for row in rows}) > 1 else rows[0].torch,
        "origin": "published",
        "sources": tuple(sorted({row.source for row in rows})),
    }
    start = None if spec.precision == "fp32" else average(tabled(shipped(), spec.memory_format, spec.task))
    return fit_calibration(
        samples,
        precision=spec.precision,
        compiled=False,
        facts=facts,
        skipped=skipped,
        start=start,
        fitting=fit_slower if start else None,
    ), skipped


def fit_slower(columns: Array, seconds: Array, prior: Array) -> Array:
    """Multipliers near `prior` times the factor that all rows have in common."""
    return fit(columns, seconds, prior * common_factor(columns, seconds, prior), PUBLISHED_RIDGE)
