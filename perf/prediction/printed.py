"""Printed rows that no calibration was fitted on, beside their predictions: images per second, as a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

from perf.prediction.published import published
from visionbench.predicting.basis import basis_of
from visionbench.predicting.calibration import Calibration, shipped
from visionbench.predicting.samples import Progress, silent, traced
from visionbench.predicting.step_time import predict_traced
from visionbench.record.devices import find
from visionbench.record.errors import BenchError
from visionbench.record.prediction import prediction
from visionbench.record.record import Tier
from visionbench.record.spec import Spec
from visionbench.record.units import plural
from visionbench.reports import cells
from visionbench.reports.table import Cell, Heading, Row, Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A printed row that no calibration was fitted on: images per second, printed and predicted with its interval.

    `predicted` is None where the prediction was refused; `reason` then says why.
    """

    device: str
    spec: Spec
    printed: float
    predicted: float | None
    low: float | None
    high: float | None
    tier: Tier
    reason: str
    source: str

    @property
    def how(self) -> str:
        """The way of running, in words."""
        return f"{self.spec.precision}, {self.spec.memory_format}"

    @property
    def ratio(self) -> float | None:
        """Predicted / printed."""
        return self.predicted / self.printed if self.predicted else None

    @property
    def inside(self) -> bool:
        """Whether the interval holds the printed number."""
        return self.low is not None and self.high is not None and self.low <= self.printed <= self.high


def check_published(
    calibrations: Sequence[Calibration] | None = None, progress: Progress = silent
) -> tuple[Check, ...]:
    """Predict every printed row without `fit`. Each is traced, which takes about half a second."""
    known = shipped() if calibrations is None else calibrations
    rows = [row for row in published() if not row.fit]
    checks = []
    for done, row in enumerate(rows):
        progress(done, len(rows), row.spec.model)
        sheet = find(row.device)
        if sheet is None:
            raise BenchError(f"published_rows.csv names a device without a data sheet: {row.device}.")
        record = predict_traced(traced(row.spec), row.spec, sheet, basis_of(row.spec, sheet, known))
        predicted = prediction(record)
        checks.append(
            Check(
                device=row.device,
                spec=row.spec,
                printed=row.images_per_second,
                predicted=predicted.centre if predicted else None,
                low=predicted.low if predicted else None,
                high=predicted.high if predicted else None,
                tier=predicted.tier if predicted else "refused",
                reason=predicted.reason if predicted else (record.failure.message if record.failure else ""),
                source=row.source,
            )
        )
    return tuple(checks)


def table_of(checks: Sequence[Check]) -> Table:
    """Printed rows that nothing was fitted on, by card and way of running. Pure."""
    groups: dict[tuple[str, ...], list[Check]] = {}
    for check in sorted(checks, key=lambda check: (check.spec.task, check.device, check.how)):
        groups.setdefault((check.device, check.how, check.spec.task, check.tier), []).append(check)
    columns = (
        Heading(key="device", head=("device",), align="left"),
        Heading(key="how", head=("precision, format",), align="left"),
        Heading(key="tier", head=("tier",), align="left"),
        Heading(key="rows", head=("rows",), unit="count"),
        Heading(key="sources", head=("sources",), unit="count", rank=1),
        Heading(key="mean", group="error", head=("mean",), unit="%"),
        Heading(key="median", group="error", head=("median",), unit="%"),
        Heading(key="factor", group="predicted / printed", head=("in the middle",)),
        Heading(key="inside", head=("80 % holds",)),
    )
    tasks = dict.fromkeys(check.spec.task for members in groups.values() for check in members)
    remarks = (
        "Errors are |predicted / printed - 1| of images per second on rows that no multiplier was fitted on. A "
        "publication's protocol may move all its rows by one factor. That of V100, T4 and A100 in the data-sheet tier "
        "is a median over these very rows, so they show its scatter alone; H100's is A100's.",
        *(_all([check for check in checks if check.spec.task == task], task) for task in tasks),
    )
    return Table(
        name="validation_printed",
        title="Predictions of printed throughput that nothing was fitted on",
        columns=columns,
        rows=tuple(_group(members) for members in groups.values()),
        remarks=remarks,
    )


def _all(checks: Sequence[Check], task: str) -> str:
    errors = [abs(check.ratio - 1) for check in checks if check.ratio]
    held = sum(check.inside for check in checks)
    if not errors:
        return f"{task}: all rows were refused."
    return (
        f"{task}: {plural(len(errors), 'row')} of {len({check.source for check in checks})} sources, "
        f"{fmean(errors):.1%} off on average, {median(errors):.1%} in the middle; the 80 % interval holds {held}."
    )


def _group(members: Sequence[Check]) -> Row:
    first = members[0]
    ratios = [check.ratio for check in members if check.ratio]
    errors = [abs(ratio - 1) for ratio in ratios]
    held = sum(check.inside for check in members)
    errors_and_share = (
        (
            _percent(fmean(errors)),
            _percent(median(errors)),
            _factor(math.exp(median(map(math.log, ratios)))),
            cells.word(f"{held} of {len(ratios)}", held / len(ratios)),
        )
        if ratios
        else (Cell(), Cell(), Cell(), cells.word("refused"))
    )
    counts = (len(members), len({check.source for check in members}))
    words = (first.device, first.how, first.tier)
    return Row(
        cells=(*map(cells.word, words), *(cells.word(f"{count:,}", count) for count in counts), *errors_and_share),
        section=first.spec.task,
        subject=first.device,
    )


def _percent(share: float) -> Cell:
    return Cell(text=f"{share * 100:.1f} %", value=share * 100, digits=1)


def _factor(value: float) -> Cell:
    return Cell(text=f"{value:.3f}", value=value, digits=3)
