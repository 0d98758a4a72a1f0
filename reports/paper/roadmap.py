"""The road from a ResNet to ConvNeXt, step by step (Tables 10 and 11, Figure 2): what each step costs and brings.

A step changes one thing of the network before it, so its effect on speed is a comparison of two networks, measured in
turns under the same settings (`python bench.py effects --roadmap t`). MACs and time part ways along this road, which is
the point of measuring it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from visionbench.comparison.comparison import Comparison
from visionbench.record.memory_protocol import PAPER_2022, PEAK
from visionbench.record.record import Record
from visionbench.record.spec import Spec
from visionbench.record.units import GIB, MEGA, plural
from visionbench.reports import cells, paired_ratio
from visionbench.reports.paper import columns, counts, rates, training_memory
from visionbench.reports.paper.columns import Plan
from visionbench.reports.paper.counts import TRAIN_BATCH, Counts, count_spec
from visionbench.reports.paper.report import assemble, counts_of
from visionbench.reports.printed import PaperRow, rows
from visionbench.reports.settings import groups
from visionbench.reports.table import HEADS, Cell, Column, Note, Table

BRANCHES = {13: 10}
"""Row -> the row that it starts from, where that is not the one above: kernels of 9 and 11 bring nothing, and the road
goes on from 7 (both tables, row "ReLU->GELU (k=7)")."""

STEP = Note(
    term="step",
    text="time of an iteration of the network before over that of this one, both taking turns under equal settings: "
    "×0.90 is a step that makes it a tenth slower. ReLU->GELU starts from kernel size 7, Swin stands against the "
    "ConvNeXt above it. [ ] 95 % interval over launches.",
)
LIVE = Note(
    term="memory, exact",
    text=f"GiB (2^30 bytes): peak of live tensors over a training step at batch {TRAIN_BATCH}, "
    f"{PAPER_2022.precision}, AdamW, unfused attention, gradients let go of.",
)
ACTIVATIONS = Note(term="activations", text="output elements of convolutions and matrix products, one image.")


def previous(row: PaperRow) -> PaperRow | None:
    """The network that a row changes one thing of; None for the first one, and where only the recipe differs."""
    table = rows(row.table)
    number = BRANCHES.get(row.number, row.number - 1)
    before = next((other for other in table if other.number == number), None)
    return before if before is not None and before.network != row.network else None


def steps(table: str) -> tuple[tuple[PaperRow, PaperRow], ...]:
    """Every step of a table: (the row before, the row)."""
    return tuple((before, row) for row in rows(table) if (before := previous(row)))


def specs_of(row: PaperRow) -> tuple[Spec, ...]:
    """The counts of one image, and the trace of a training step."""
    return (*counts_of(row), PAPER_2022.spec(*row.network, TRAIN_BATCH))


def layout(name: str, title: str, table: str, records: Sequence[Record], comparisons: Sequence[Comparison]) -> Table:
    """Published, computed and measured numbers of each rung, and what each step does to its speed. Pure."""
    printed, exact = rows(table), counts.index(records)
    measured = rates.inference_groups(records, printed)
    trained = groups(records, (row.network for row in printed), "train")[:1]
    found = compared(table, comparisons)
    plans = (
        columns.model(),
        *columns.counted(exact, "macs"),
        _counted(exact, "params", "params (M)", 5),
        _counted(exact, "activations", "activations (M)", 6, (ACTIVATIONS,)),
        columns.printed(replace(columns.TOP1, rank=2), "top1"),
        _live(exact),
        *training_memory.counters(trained, ("allocated",)),
        *rates.plans(rates.shown(measured)[:1]),
        *(_effect(task, found) for task in found.tasks),
    )
    remarks = (*rates.left_out(measured, name), *_remarks(table, found))
    made = assemble(name, title, printed, plans, remarks=remarks)
    return replace(made, rows=tuple(replace(row, gap=at == len(printed) - 1) for at, row in enumerate(made.rows)))


def _counted(exact: Counts, metric: str, group: str, rank: int, notes: tuple[Note, ...] = ()) -> Plan:
    column = Column(
        key=f"{metric}_computed",
        group=group,
        head=(HEADS["computed"],),
        unit="count",
        source="computed",
        rank=rank,
        notes=notes,
    )

    def fill(row: PaperRow) -> Cell:
        spec = count_spec(*row.network)
        return cells.computed(exact.of(spec, metric), MEGA, 2, origin=f"trace of {spec}")

    return Plan(column=column, fill=fill)


def _live(exact: Counts) -> Plan:
    column = Column(
        key="train_memory_computed",
        group="memory",
        head=(HEADS["computed"], "GiB"),
        unit="B",
        source="computed",
        rank=3,
        notes=(LIVE,),
    )

    def fill(row: PaperRow) -> Cell:
        spec = PAPER_2022.spec(*row.network, TRAIN_BATCH)
        return cells.computed(exact.of(spec, PEAK), GIB, 2, origin=f"trace of {spec}: {PEAK}")

    return Plan(column=column, fill=fill)


# --- steps -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """The comparisons of one table's steps under one setting, by task and row number; the rest is counted."""

    by_row: dict[tuple[str, int], Comparison]
    left_out: int

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that have any, inference first."""
        return tuple(sorted({task for task, _ in self.by_row}))


def compared(table: str, comparisons: Sequence[Comparison]) -> Steps:
    """The comparisons of this table's steps: per task those of the newest setting."""
    pairs = {(before.model, row.model): row.number for before, row in steps(table)}
    found = [one for one in {one.key: one for one in comparisons}.values() if _pair(one) in pairs and _is_step(one)]
    last: dict[str, tuple[object, ...]] = {}
    for one in sorted(found, key=lambda one: one.environment.started or ""):
        last[one.baseline.spec.task] = _setting(one)
    kept = [one for one in found if last[one.baseline.spec.task] == _setting(one)]
    by_row: dict[tuple[str, int], Comparison] = {(one.baseline.spec.task, pairs[_pair(one)]): one for one in kept}
    return Steps(by_row=by_row, left_out=len(found) - len(kept))


def _pair(one: Comparison) -> tuple[str, str]:
    return (one.baseline.spec.model, one.candidate.spec.model)


def _is_step(one: Comparison) -> bool:
    """Whether the two sides differ in their network alone."""
    return replace(one.baseline.spec, model=one.candidate.spec.model) == one.candidate.spec


def _setting(one: Comparison) -> tuple[object, ...]:
    where = one.environment
    return (replace(one.baseline.spec, model=""), where.device, where.torch, one.timer)


def _effect(task: str, found: Steps) -> Plan:
    column = Column(
        key=f"step_{task}",
        group="speed of the step",
        head=(HEADS["measured"], task, _how(task, found)),
        unit="1",
        source="measured",
        rank=1 if task == "inference" else 2,
        notes=(STEP,),
    )

    def fill(row: PaperRow) -> Cell:
        one = found.by_row.get((task, row.number))
        if one is None:
            return Cell()
        shown = paired_ratio.ratio_cell(one)
        tie = paired_ratio.finding(one) == "tie"
        return replace(shown, notes=(*shown.notes, TIE)) if tie else shown

    return Plan(column=column, fill=fill)


def _how(task: str, found: Steps) -> str:
    """The size of the images and the batch of a column's comparisons."""
    spec = next(one for (its, _), one in found.by_row.items() if its == task).baseline.spec
    return f"{spec.image_size} px, batch {spec.batch_size}"


TIE = f"A tie: all of the interval lies within {paired_ratio.TIE * 100:g} % of 1."


def _remarks(table: str, found: Steps) -> Iterator[str]:
    regime = {"10": "t", "11": "b"}[table]
    if not found.by_row:
        yield f"No step compared yet: `python bench.py effects --roadmap {regime}` measures them on this machine."
    for task in found.tasks:
        one = next(one for (its, _), one in found.by_row.items() if its == task)
        spec = one.baseline.spec
        how = f"{spec.image_size} px, batch {spec.batch_size}, {spec.precision}, {spec.memory_format}"
        yield f"Speed of the steps, {task}: {paired_ratio.machine(one)}; {how}."
    if found.left_out:
        yield f"{plural(found.left_out, 'comparison')} of steps under other settings not shown."
