"""What the columns of a paper's table are made from, and how a column gets its name in a paper's file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from visionbench.comparison.comparison import Comparison
from visionbench.record.record import Record, Source
from visionbench.record.spec import Spec
from visionbench.reports.column import Column
from visionbench.reports.launches import Records
from visionbench.reports.paper import counts
from visionbench.reports.paper.counts import Counts
from visionbench.reports.printed import PaperRow, Publication
from visionbench.reports.settings import Group, groups
from visionbench.reports.table import HEADS, Cell, Note, Unit


@dataclass(frozen=True, kw_only=True)
class Material:
    """The printed rows of one table and the records for them. What several columns need is derived once.

    `counted` are counts of the rows' networks that come with visionbench; a user's own are among `records`.
    """

    name: str
    publication: Publication
    rows: tuple[PaperRow, ...]
    records: Records
    counted: Sequence[Record] = ()
    comparisons: Sequence[Comparison] = ()

    @cached_property
    def counts(self) -> Counts:
        """The exact counts by spec."""
        return counts.index((*self.counted, *self.records.computed))

    @cached_property
    def inference(self) -> tuple[Group, ...]:
        """Everything measured for these rows in inference, the newest group first."""
        return groups(self.records, (row.network for row in self.rows), "inference")

    @cached_property
    def training(self) -> tuple[Group, ...]:
        """Everything measured for these rows in training, the newest group first."""
        return groups(self.records, (row.network for row in self.rows), "train")


@dataclass(frozen=True, slots=True, kw_only=True)
class Maker:
    """A kind of column that a paper's file can ask for by name.

    `columns` makes it (one column or several) from the material and the arguments of the file's entry; `specs` are the
    traces that it needs of one row; `remarks` are sentences below the table, made from the same arguments.
    """

    columns: Callable[..., Iterable[Column[PaperRow]]]
    specs: Callable[[PaperRow], tuple[Spec, ...]] = lambda _row: ()
    remarks: Callable[..., Iterable[str]] = lambda _material, **_arguments: ()


Asked = tuple[Maker, dict[str, Any]]
"""A maker of columns, with the arguments of the file's entry."""


def sourced(
    source: Source,
    key: str,
    group: str,
    head: tuple[str, ...],
    unit: Unit,
    rank: int,
    fill: Callable[[PaperRow], Cell],
    notes: tuple[Note, ...] = (),
) -> Column[PaperRow]:
    """A column of numbers of one source, whose word is the first line of its header; `head` are the others."""
    lines = (HEADS[source], *head)
    return Column(key=key, group=group, head=lines, unit=unit, source=source, rank=rank, notes=notes, fill=fill)


def noted(term: str, note: str) -> tuple[Note, ...]:
    """The note below the table that an entry of the file asks for; () where it asks for none."""
    return (Note(term=term, text=note),) if note else ()
