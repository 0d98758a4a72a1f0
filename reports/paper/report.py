"""A report: which printed rows it is about, which records it needs for them, and how it lays them out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from visionbench.comparison.comparison import Comparison
from visionbench.record.record import Record, Source
from visionbench.record.spec import Spec
from visionbench.reports.paper.columns import Plan
from visionbench.reports.paper.counts import count_spec
from visionbench.reports.printed import PaperRow, rows
from visionbench.reports.table import DASH, HEADS, Note, Row, Table


def counts_of(row: PaperRow) -> tuple[Spec, ...]:
    """The traces that a row's static columns and its footnote need."""
    return tuple(count_spec(row.model, size) for size in (row.image_size, *row.check_sizes))


class Layout(Protocol):
    """Records in, table out: pure, in one pass over them, without torch and without a GPU.

    A table of effects is made of comparisons; any other is free to leave them alone.
    """

    def __call__(self, records: Sequence[Record], comparisons: Sequence[Comparison] = (), /) -> Table:
        """The table, rounded and noted, as every format shows it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A table, mostly one of the paper, regenerated. `paper_table` is its number there, "" for a table of our own;
    `specs_of` names the traces of one row.
    """

    name: str
    title: str
    paper_table: str
    layout: Layout
    specs_of: Callable[[PaperRow], tuple[Spec, ...]] = counts_of

    @property
    def rows(self) -> tuple[PaperRow, ...]:
        """The printed rows, in the paper's order."""
        return rows(self.paper_table)

    def computed_specs(self) -> tuple[Spec, ...]:
        """The specs whose computed records fill the static columns; each once, in the rows' order."""
        return tuple(dict.fromkeys(spec for row in self.rows for spec in self.specs_of(row)))

    def measured_rows(self) -> tuple[tuple[str, int], ...]:
        """(model, image size) of everything that can be measured for this table; each once, in the rows' order."""
        return tuple(dict.fromkeys(row.network for row in self.rows))


def assemble(
    name: str,
    title: str,
    printed_rows: Sequence[PaperRow],
    plans: Sequence[Plan],
    *,
    remarks: tuple[str, ...] = (),
    gap: Callable[[PaperRow], bool] = lambda _row: False,
) -> Table:
    """The table of these rows and columns, with the legend that it needs. `gap` says where pairs of rows begin."""
    body = tuple(
        Row(
            cells=tuple(plan.fill(row) for plan in plans),
            section=row.section,
            gap=row.number > 1 and gap(row),
            subject=row.model,
        )
        for row in printed_rows
    )
    columns = tuple(plan.column for plan in plans)
    return Table(
        name=name,
        title=title,
        columns=columns,
        rows=body,
        legend=_legend(body),
        remarks=remarks,
    )


_MEANINGS: dict[Source, str] = {
    "published": "copied as printed, from arXiv 2201.03545v2 or what it cites",
    "computed": "counted from the model's own operators, on no hardware",
    "measured": "timed on the machine named above the column",
    "predicted": "a model's estimate, not a measurement",
}


def _legend(body: Sequence[Row]) -> tuple[Note, ...]:
    sources = {cell.source for row in body for cell in row.cells}
    shown = [
        Note(term=HEADS[source], text=text, source=source) for source, text in _MEANINGS.items() if source in sources
    ]
    markers = {str(row.cells[0].text)[:1] for row in body} & {"●", "○"}
    marks = [Note(term=mark, text=text) for mark, text in (("●", "ConvNet"), ("○", "Transformer")) if mark in markers]
    dash = any(cell.text == DASH for row in body for cell in row.cells)
    return (*marks, *shown, *((Note(term=DASH, text="not printed or not known"),) if dash else ()))
