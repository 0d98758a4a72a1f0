"""Rows that papers and model zoos print for V100 and A100 (`published_rows.csv`, each with its source)."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from bench.predict.calibrate import Progress, fitted, measured_samples, silent
from bench.predict.calibration import Calibration
from bench.predict.peaks import Peaks, peaks_of
from bench.predict.samples import Sample, Skipped
from bench.record.devices import find
from bench.record.errors import BenchError
from bench.record.spec import Attention, MemoryFormat, Precision, Spec, Task

PATH = Path(__file__).parent / "published_rows.csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One printed row. `fit` says whether it is fitted; the others are kept to check predictions with."""

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
    return measured_samples([(row.spec, row.seconds, _peaks(row)) for row in rows], progress)


def _peaks(row: Published) -> Peaks:
    sheet = find(row.device)
    if sheet is None:
        raise BenchError(f"published_rows.csv names a device without a data sheet: {row.device}.")
    return peaks_of(sheet, row.spec.precision)


def calibrate_published(progress: Progress = silent) -> list[tuple[Calibration, list[Skipped]]]:
    """A calibration per device and way of running of the rows that are to be fitted."""
    groups: dict[tuple[str, ...], list[Published]] = {}
    for row in published():
        if row.fit:
            spec = row.spec
            groups.setdefault((row.device, spec.precision, spec.memory_format, spec.task), []).append(row)
    return [_of_group(way, rows, progress) for way, rows in groups.items()]


def _of_group(way: tuple[str, ...], rows: Sequence[Published], progress: Progress) -> tuple[Calibration, list[Skipped]]:
    device, precision, memory_format, task = way
    samples, skipped = samples_of(rows, progress)
    facts = {
        "id": "-".join((*way, "published")),
        "device": device,
        "memory_format": memory_format,
        "task": task,
        "torch": "various" if len({row.torch for row in rows}) > 1 else rows[0].torch,
        "origin": "published",
        "sources": tuple(sorted({row.source for row in rows})),
    }
    return fitted(samples, precision=precision, compiled=False, facts=facts, skipped=skipped), skipped
