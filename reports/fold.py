"""Fitting a table to a page: which columns to show when not all can be.

A number is never cut: the least important columns are left out whole, and a remark below the table names them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from reports.table import Table, only

HALF_WIDTHS = "± is half of the 95 % interval."
"""Said where an interval is shown by its `short_span`."""


def fold(table: Table, fits: Callable[[Table], bool]) -> Table:
    """The table without its least important columns, as many as are in the way of `fits`; rank 0 stays in any case."""
    kept = _chosen(table, fits)
    gone = "; ".join(column.name for column in table.columns if column.key not in kept)
    if not gone:
        return table
    remark = f"Left out at this width: {gone}. A wider terminal or another format shows all columns."
    return replace(only(table, kept), remarks=(*table.remarks, remark))


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
