"""The road from a ResNet to ConvNeXt, step by step (Tables 10 and 11, Figure 2): what each step costs and brings.

A step changes one thing of the network before it, so its effect on speed is a comparison of two networks, measured in
turns under the same settings (`python bench.py effects --roadmap t`). MACs and time part ways along this road, which is
the point of measuring it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from visionbench.comparison.comparison import Comparison
from visionbench.record.program import program_name
from visionbench.record.units import plural
from visionbench.reports import paired_ratio
from visionbench.reports.column import Column
from visionbench.reports.paper.material import Maker, Material, sourced
from visionbench.reports.printed import PaperRow, rows
from visionbench.reports.table import Cell, Note

BRANCHES = {13: 10}
"""Row -> the row that it starts from, where that is not the one above: kernels of 9 and 11 bring nothing, and the road
goes on from 7 (both tables, row "ReLU->GELU (k=7)")."""

STEP = Note(
    term="step",
    text="time of an iteration of the network before over that of this one, in turns under equal settings. "
    "×0.90 is a step that makes it a tenth slower. ReLU->GELU starts from kernel size 7; Swin is compared with the "
    "ConvNeXt above it. [ ]: 95 % interval over launches.",
)


def previous(row: PaperRow) -> PaperRow | None:
    """The network that a row changes one thing of; None for the first one, and where only the recipe differs."""
    table = rows(row.table)
    number = BRANCHES.get(row.number, row.number - 1)
    before = next((other for other in table if other.number == number), None)
    return before if before is not None and before.network != row.network else None


def steps(table: str) -> tuple[tuple[PaperRow, PaperRow], ...]:
    """Every step of a table: (the row before, the row)."""
    return tuple((before, row) for row in rows(table) if (before := previous(row)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """The comparisons of one table's steps under one setting, by task and row number; the rest is counted."""

    by_row: dict[tuple[str, int], Comparison]
    left_out: int

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that have any, inference first."""
        return tuple(sorted({task for task, _ in self.by_row}))

    def example(self, task: str) -> Comparison:
        """One comparison of that task, for the setting that all share."""
        return next(comparison for (its_task, _), comparison in self.by_row.items() if its_task == task)


def compared(table: str, comparisons: Sequence[Comparison]) -> Steps:
    """The comparisons of this table's steps: per task those of the newest setting."""
    pairs = {(before.model, row.model): row.number for before, row in steps(table)}
    newest = {comparison.key: comparison for comparison in comparisons}.values()
    # The two sides of a step differ in their network alone.
    alone = [one for one in newest if replace(one.baseline.spec, model=one.candidate.spec.model) == one.candidate.spec]
    found = [one for one in alone if _pair(one) in pairs]
    last: dict[str, tuple[object, ...]] = {}
    for one in sorted(found, key=lambda one: one.environment.started or ""):
        last[one.baseline.spec.task] = _setting(one)
    kept = [one for one in found if last[one.baseline.spec.task] == _setting(one)]
    by_row: dict[tuple[str, int], Comparison] = {(one.baseline.spec.task, pairs[_pair(one)]): one for one in kept}
    return Steps(by_row=by_row, left_out=len(found) - len(kept))


def _pair(one: Comparison) -> tuple[str, str]:
    return (one.baseline.spec.model, one.candidate.spec.model)


def _setting(one: Comparison) -> tuple[object, ...]:
    where = one.environment
    return (replace(one.baseline.spec, model=""), where.device, where.torch, one.timer)


def columns(material: Material, road: str) -> Iterator[Column[PaperRow]]:  # noqa: ARG001
    """What each step does to speed, one column per task that was compared."""
    steps_of_table = compared(material.rows[0].table, material.comparisons)
    for task in steps_of_table.tasks:
        yield _effect(task, steps_of_table)


def _effect(task: str, measured: Steps) -> Column[PaperRow]:
    def fill(row: PaperRow) -> Cell:
        comparison = measured.by_row.get((task, row.number))
        if comparison is None:
            return Cell()
        cell = paired_ratio.ratio_cell(comparison)
        tie = paired_ratio.finding(comparison) == "tie"
        return replace(cell, notes=(*cell.notes, TIE)) if tie else cell

    spec = measured.example(task).baseline.spec
    head = (task, f"{spec.image_size} px, batch {spec.batch_size}")
    rank = 1 if task == "inference" else 2
    return sourced("measured", f"step_{task}", "speed of the step", head, "1", rank, fill, (STEP,))


TIE = f"A tie: all of the interval is within {paired_ratio.TIE * 100:g} % of 1."


def remarks(material: Material, road: str) -> Iterator[str]:
    """How the steps were measured, or the command that measures them."""
    measured = compared(material.rows[0].table, material.comparisons)
    if not measured.by_row:
        yield f"No step compared yet: `{program_name()} effects --roadmap {road}` measures them on this machine."
    for task in measured.tasks:
        comparison = measured.example(task)
        spec = comparison.baseline.spec
        how = f"{spec.image_size} px, batch {spec.batch_size}, {spec.precision}, {spec.memory_format}"
        yield f"Speed of the steps, {task}: {paired_ratio.machine(comparison)}; {how}."
    if measured.left_out:
        yield f"{plural(measured.left_out, 'comparison')} of steps under other settings not shown."


COLUMNS: dict[str, Maker] = {"roadmap_steps": Maker(columns=columns, remarks=remarks)}
