"""The columns that reports share: each a header with the function that fills its cell for a printed row.

Measured columns are in `rates.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from visionbench.record.units import GIGA, MEGA
from visionbench.reports import cells
from visionbench.reports.paper.counts import Counts, count_spec
from visionbench.reports.paper.slips import footnote
from visionbench.reports.printed import PaperRow, prints, protocols
from visionbench.reports.table import HEADS, Cell, Column, Note

RATE = "img/s"

TOP1 = Column(key="top1_published", group="top-1", head=(HEADS["published"], "%"), unit="%", rank=5)
"""The printed accuracy on ImageNet-1K."""

FLOPS = Note(
    term="FLOPs",
    text="the paper's word: multiply-accumulates of convolutions, linear layers and both attention products of one "
    "image; norms, activations and softmax are not counted.",
)

AUTHORS = Note(
    term="ConvNeXt",
    text="the program that its authors published (`paper:convnext_original_tiny` and so on). timm's "
    "(`timm:convnext_tiny`) has the same counts, other kernels and another memory order, and is not this row.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A column and what stands in it: `fill` makes the cell of one printed row."""

    column: Column
    fill: Callable[[PaperRow], Cell]


def model(*notes: Note) -> Plan:
    """The row's name with its marker. The qualified name is in `Row.subject`."""

    def fill(row: PaperRow) -> Cell:
        return cells.word(f"{row.marker} {row.label}".strip(), row.label)

    return Plan(column=Column(key="model", head=("model",), align="left", notes=notes), fill=fill)


def image_size() -> Plan:
    """Pixels of the square input."""
    column = Column(key="image_size", head=("size",), unit="px", rank=1)
    return Plan(column=column, fill=lambda row: cells.word(str(row.image_size), row.image_size))


def counted(counts: Counts, metric: Literal["params", "macs"]) -> tuple[Plan, Plan]:
    """A printed count beside the exact one; where they disagree the printed one gets a footnote that says why."""
    group, scale = {"params": ("params (M)", MEGA), "macs": ("FLOPs (G)", GIGA)}[metric]
    notes = (FLOPS,) if metric == "macs" else ()

    def printed(row: PaperRow) -> Cell:
        return cells.published(row.printed.get(metric), notes=[footnote(row, metric, counts)])

    def exact(row: PaperRow) -> Cell:
        spec = count_spec(*row.network)
        return cells.computed(counts.of(spec, metric), scale, 2, origin=f"trace of {spec}")

    head = Column(key=f"{metric}_published", group=group, unit="count", notes=notes)
    return (
        Plan(column=replace(head, head=(HEADS["published"],), source="published", rank=4), fill=printed),
        Plan(
            column=replace(head, key=f"{metric}_computed", head=(HEADS["computed"],), source="computed", rank=3),
            fill=exact,
        ),
    )


def printed(column: Column, metric: str, table: str | None = None) -> Plan:
    """Another printed number: of the row itself, or of the row of `table` that prints the same network."""

    def fill(row: PaperRow) -> Cell:
        if table is None:
            return cells.published(row.printed.get(metric))
        others = (other for other in prints(metric).get(row.network, ()) if other.table == table)
        return cells.published(next((other.printed[metric] for other in others), None))

    return Plan(column=replace(column, source="published"), fill=fill)


def published_rate(gpu: str, protocol: str, table: str | None = None, rank: int = 2) -> Plan:
    """The paper's images per second on its GPU, with how they came about."""
    note = Note(term=f"{RATE}, {HEADS['published']}, {gpu}", text=f"{protocols()[protocol]}.")
    column = Column(
        key=f"throughput_published_{gpu.lower()}",
        group=RATE,
        head=(HEADS["published"], gpu),
        unit="1/s",
        rank=rank,
        notes=(note,),
    )
    return printed(column, "throughput", table)
