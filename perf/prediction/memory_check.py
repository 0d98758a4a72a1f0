"""Training memory that GPUs measured and people printed, beside what is predicted for the same step.

A printed number is worth a check only where it is known what was in memory: which steps attention took, what the
optimizer keeps, whether gradients live from step to step, how many copies of the parameters there were beside (a moving
average, the buckets of a distributed run), what that release of torch kept, and which counter was read. Every row of
`published_memory.csv` says so, and says in its note what of it was inferred. Rows whose configuration is a guess have
`fit` no: they are compared too, but nothing is made of them.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from visionbench.predicting.held_out import INTERVAL
from visionbench.predicting.memory import THREADS, bounds, of_allocated, workspaces
from visionbench.predicting.samples import Progress, silent
from visionbench.record.spec import Attention, Precision, Spec
from visionbench.record.units import GIB, plural
from visionbench.reports import cells
from visionbench.reports.table import Cell, Heading, Row, Table
from visionbench.tracing import Trace, run

PATH = Path(__file__).parent / "published_memory.csv"

Counter = Literal["allocated", "forward", "reserved", "process"]
"""What was read: a step's peak of live memory, what was live after its forward pass, the allocator's, the process's."""

UNITS = {"B": 1, "MiB": 2**20, "GB": 10**9}

NEAR = 0.05
"""What counts as near a printed peak."""

ENOUGH = 15
"""Fewer rows make no interval."""

COUNTED = 2
"""The first release of torch that takes cuBLAS's workspaces out of its own allocator."""

AMPERE = (8, 0)

_MOMENTS = 2
"""Numbers per parameter that the traced optimizer keeps (AdamW)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrintedMemory:
    """One printed number and the step it was read of.

    `states` are numbers per parameter that the optimizer keeps (SGD 0, with momentum 1, AdamW 2); below 2 the peak is
    before its step. `copies` of the parameters are in memory, too. `as_before_torch_1_11`: that release kept more for
    the backward pass (`visionbench.tracing.autocast`).
    """

    spec: Spec
    torch: str
    as_before_torch_1_11: bool
    states: int
    kept_gradients: bool
    copies: int
    counter: Counter
    printed: float
    fit: bool
    source: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryCheck:
    """Bytes printed and predicted, the interval around the prediction, and where the printed ones are from."""

    model: str
    batch_size: int
    counter: Counter
    printed: float
    predicted: float
    low: float
    high: float
    fit: bool
    source: str

    @property
    def ratio(self) -> float:
        """Printed / predicted."""
        return self.printed / self.predicted

    @property
    def inside(self) -> bool:
        """Whether the interval holds the printed number."""
        return self.low <= self.printed <= self.high


def printed_memory(path: Path = PATH) -> tuple[PrintedMemory, ...]:
    """All rows of the file."""
    with path.open(encoding="utf-8", newline="") as lines:
        return tuple(_printed(line) for line in csv.DictReader(lines))


def _printed(line: dict[str, str]) -> PrintedMemory:
    return PrintedMemory(
        spec=Spec(
            model=line["model"],
            task="train",
            batch_size=int(line["batch"]),
            image_size=int(line["image_size"]),
            precision=cast(Precision, line["precision"]),
            attention=cast(Attention, line["attention"]),
        ),
        torch=line["torch"],
        as_before_torch_1_11=line["as_before_torch_1_11"] == "yes",
        states=int(line["states"]),
        kept_gradients=line["kept_gradients"] == "yes",
        copies=int(line["copies"]),
        counter=cast(Counter, line["counter"]),
        printed=float(line["printed"]) * UNITS[line["unit"]],
        fit=line["fit"] == "yes",
        source=line["source"],
        note=line["note"],
    )


def check_memory(progress: Progress = silent, rows: Sequence[PrintedMemory] | None = None) -> tuple[MemoryCheck, ...]:
    """Every printed row beside the prediction for the same step. Raises as `visionbench.tracing.run`."""
    known = printed_memory() if rows is None else rows
    traces: dict[tuple[Spec, bool], Trace] = {}
    checks = []
    for done, row in enumerate(known):
        progress(done, len(known), str(row.spec))
        step = (row.spec, row.as_before_torch_1_11)
        if step not in traces:
            traces[step] = run(row.spec, former=row.as_before_torch_1_11)
        checks.append(_check(row, predicted(row, traces[step])))
    return tuple(checks)


def _check(row: PrintedMemory, value: float) -> MemoryCheck:
    low, high = bounds("allocated" if row.counter == "forward" else row.counter)
    return MemoryCheck(
        model=row.spec.model,
        batch_size=row.spec.batch_size,
        counter=row.counter,
        printed=row.printed,
        predicted=value,
        low=value * low,
        high=value * high,
        fit=row.fit,
        source=row.source,
    )


def predicted(row: PrintedMemory, trace: Trace) -> float:
    """Bytes that the row's counter would read, from the trace of its step."""
    allocated = _live(row, trace) + row.copies * trace.param_bytes + _workspaces(row)
    if row.counter == "reserved":
        return of_allocated(allocated).reserved
    return of_allocated(allocated).process if row.counter == "process" else allocated


def _workspaces(row: PrintedMemory) -> float:
    """What cuBLAS holds of torch's memory: before 2.0 none, before the backward pass half. No row is of Hopper."""
    if int(row.torch.partition(".")[0]) < COUNTED:
        return 0.0
    return workspaces(AMPERE) / (THREADS if row.counter == "forward" else 1)


def _live(row: PrintedMemory, trace: Trace) -> float:
    curve = trace.curve
    assert curve is not None
    first = {name: event for event, name in curve.phases}
    # The traced step has AdamW's moments from its beginning to its end.
    missing = curve.split["optimizer"] * (1 - row.states / _MOMENTS)
    if row.counter == "forward":
        return curve.totals[first["backward"] - 1] - missing
    if row.kept_gradients:
        return curve.peak_kept_gradients - missing
    return (max(curve.totals[: first["optimizer"]]) if row.states < _MOMENTS else curve.peak) - missing


def interval(checks: Sequence[MemoryCheck]) -> tuple[float, float] | None:
    """What `INTERVAL` of new rows' printed / predicted peaks lie in, if they are like these; None of too few rows.

    Split-conformal (Vovk et al. 2005): of n exchangeable rows and a new one, the new one is as likely in any place. So
    the bounds are the k-th ratios from both ends, k the whole part of (n + 1) times half of what is left out.
    """
    ratios = sorted(check.ratio for check in checks if check.fit and check.counter == "allocated")
    if len(ratios) < ENOUGH:
        return None
    place = math.floor((len(ratios) + 1) * (1 - INTERVAL) / 2)
    return ratios[place - 1], ratios[-place]


def table_of(checks: Sequence[MemoryCheck]) -> Table:
    """Printed training memory beside the predicted, the well described rows first. Pure."""
    columns = (
        Heading(key="model", head=("model",), align="left"),
        Heading(key="batch_size", head=("batch",), unit="count"),
        Heading(key="how", head=("how",), align="left", rank=2),
        Heading(key="printed", head=("printed", "GiB"), unit="B", source="published"),
        Heading(key="predicted", head=("predicted", "GiB"), unit="B", source="predicted"),
        Heading(key="ratio", head=("printed /", "predicted")),
    )
    sections = {True: "configuration known", False: "configuration partly guessed; nothing is made of these rows"}
    ordered = sorted(checks, key=lambda check: not check.fit)
    rows = tuple(_memory_row(check, sections[check.fit]) for check in ordered)
    known = [check for check in checks if check.fit]
    remarks = (
        *(
            _near([check for check in checks if check.counter == how], how)
            for how in dict.fromkeys(check.counter for check in ordered)
        ),
        _held("rows whose configuration is known", [check.inside for check in known]),
    )
    return Table(name="validation_memory", title="Predictions of printed training memory", columns=columns, rows=rows,
                 remarks=remarks)  # fmt: skip


def _near(checks: Sequence[MemoryCheck], how: str) -> str:
    """How many models are near the print in every row of that counter."""
    models = {check.model for check in checks}
    far = {check.model for check in checks if abs(check.ratio - 1) > NEAR}
    count = f"{len(models - far)} of {plural(len(models), 'model')}"
    return f"{how}: {count} within {NEAR:.0%} in every row, guessed ones included."


def _memory_row(check: MemoryCheck, section: str) -> Row:
    predicted = Cell(
        text=f"{check.predicted / GIB:.2f}", value=check.predicted, digits=2, source="predicted", low=check.low,
        high=check.high, span=f"[{check.low / GIB:.2f}, {check.high / GIB:.2f}]",
    )  # fmt: skip
    shown = Cell(
        text=f"{check.printed / GIB:.2f}", value=check.printed, digits=2, source="published", origin=check.source,
        notes=(f"Printed by {check.source}.",),
    )  # fmt: skip
    row = (
        cells.word(check.model.partition(":")[2], check.model),
        cells.word(str(check.batch_size), check.batch_size),
        cells.word(check.counter),
        shown,
        predicted,
        Cell(text=f"{check.ratio:.3f}", value=check.ratio, digits=3),
    )
    return Row(cells=row, section=section, subject=check.model)


def _held(what: str, inside: Iterable[bool]) -> str:
    held = list(inside)
    return f"The 80 % interval holds {sum(held)} of {len(held)} {what}."
