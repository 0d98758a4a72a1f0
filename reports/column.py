"""The one way to make a table: a column knows how to fill its cell for a row, and `lay_out` puts them together.

A new column is one entry of a list. `T` is whatever the rows are: a printed row, a run, a comparison, a verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Generic, Literal, TypeVar

from visionbench.record.record import Source
from visionbench.reports import cells
from visionbench.reports.table import DASH, Cell, Heading, Note, Row, Table, Unit

T = TypeVar("T")

Legend = Callable[[Sequence[Row]], Iterable[Note]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column(Heading, Generic[T]):
    """A column of a table whose rows are made of `T`: its heading, and `fill`, which makes the cell of one row."""

    fill: Callable[[T], Cell]


def label(
    key: str,
    head: str,
    text: Callable[[T], str],
    *,
    align: Literal["left", "right"] = "left",
    rank: int = 0,
    notes: tuple[Note, ...] = (),
) -> Column[T]:
    """A column of words without a source."""
    return Column(key=key, head=(head,), align=align, rank=rank, notes=notes, fill=lambda row: cells.word(text(row)))


def number(
    key: str,
    head: str,
    unit: Unit,
    fill: Callable[[T], Cell],
    *notes: Note,
    source: Source = "measured",
    group: str = "",
    rank: int = 0,
) -> Column[T]:
    """A column of numbers of one source."""
    return Column(key=key, head=(head,), unit=unit, source=source, group=group, rank=rank, notes=notes, fill=fill)


def lay_out(
    name: str,
    title: str,
    rows: Sequence[T],
    columns: Sequence[Column[T]],
    *,
    section: Callable[[T], str] = lambda _row: "",
    subject: Callable[[T], str] = lambda _row: "",
    gap: Callable[[T], bool] = lambda _row: False,
    legend: Legend = lambda _rows: (),
    dash: str = "not measured or not known",
    remarks: Iterable[str] = (),
    caveats: Sequence[str] = (),
    when_empty: int | None = None,
) -> Table:
    """The table of these rows and columns.

    `legend` makes the notes that explain the typography of the cells; what a `dash` means is added where a cell holds
    one. `caveats` are remarks that no format leaves out. A table without rows shows its first `when_empty` columns, or
    all of them for None.
    """
    shown = columns if rows else columns[:when_empty]
    # What a laid-out table keeps of a column is data without functions.
    headings = ({field.name: getattr(column, field.name) for field in fields(Heading)} for column in shown)
    body = tuple(
        Row(
            cells=tuple(column.fill(row) for column in columns),
            section=section(row),
            gap=gap(row),
            subject=subject(row),
        )
        for row in rows
    )
    dashed = any(cell.text == DASH for row in body for cell in row.cells)
    return Table(
        name=name,
        title=title,
        columns=tuple(Heading(**heading) for heading in headings),
        rows=body,
        legend=(*legend(body), *((Note(term=DASH, text=dash),) if dashed else ())),
        remarks=(*remarks, *caveats),
        caveats=tuple(caveats),
    )
