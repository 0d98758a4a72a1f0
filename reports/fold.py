"""Fitting a table to a page: which columns to show when not all can be.

A number is never cut: the least important columns are left out whole, and a remark below the table names them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from visionbench.reports.table import Table, only

SHORT_SPANS = {
    "measured": "± is half of the 95 % interval.",
    "predicted": "Two signed percentages are the ends of the 80 % interval of a prediction.",
}
"""What is said where intervals of that source are shown by their `short_span`."""


def short_spans(table: Table) -> tuple[str, ...]:
    """The sentences that the table's short intervals need."""
    there = {cell.source for row in table.rows for cell in row.cells if cell.short_span}
    return tuple(text for source, text in SHORT_SPANS.items() if source in there)


def fold(table: Table, fits: Callable[[Table], bool], told: Callable[[Table], tuple[str, ...]] = lambda _: ()) -> Table:
    """The table without its least important columns, as many as are in the way of `fits`; rank 0 stays in any case.

    Its remarks say what was left out, and before that what is to be `told` of the columns that stay.
    """
    kept = _chosen(table, fits)
    narrow = only(table, kept)
    gone = "; ".join(column.name for column in table.columns if column.key not in kept)
    left_out = f"Left out at this width: {gone}. A wider terminal or another format shows all columns."
    return replace(narrow, remarks=(*table.remarks, *told(narrow), *([left_out] if gone else [])))


def _chosen(table: Table, fits: Callable[[Table], bool]) -> frozenset[str]:
    """Columns of one rank and group go together: a gain without its rate says nothing.

    What was left out in vain, because a wide column behind it had to go as well, comes back where it fits.
    """
    kept = frozenset(column.key for column in table.columns)
    dropped = []
    for unit in _units(table):
        if fits(only(table, kept)):
            break
        kept -= unit
        dropped.append(unit)
    for unit in reversed(dropped):
        if fits(only(table, kept | unit)):
            kept |= unit
    return kept


def _units(table: Table) -> Iterator[frozenset[str]]:
    """Columns that go together, the least important first."""
    found = dict.fromkeys((column.rank, column.group) for column in table.columns if column.rank)
    for rank, group in sorted(found, key=lambda unit: -unit[0]):
        yield frozenset(column.key for column in table.columns if (column.rank, column.group) == (rank, group))
