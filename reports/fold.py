"""Fitting a table to a page: which columns to show when not all can be.

A number is never cut: the least important columns are left out whole, and a remark below the table names them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from visionbench.reports.launches import Launches, grouped
from visionbench.reports.table import DASH, Table, only

RANGE = "In round brackets is the range over nodes, which are too few for an interval."
PREDICTED = "Two signed percentages are the ends of the 80 % interval of a prediction."
"""What is said where such a span is shown by its `short_span`."""

FEW = 1 / 8
"""A column with numbers in a smaller share of its rows is left out before all others."""


def short_spans(table: Table) -> tuple[str, ...]:
    """The sentences that the table's short intervals need."""
    short = [cell for row in table.rows for cell in row.cells if cell.short_span]
    measured = [cell for cell in short if cell.source == "measured" and cell.low is not None]
    launches = (cell.evidence for cell in measured if isinstance(cell.evidence, tuple))
    several = any(Launches.of(its).nodes > 1 for its in launches)
    over = ", which is over nodes: its wider half" if several else ""
    said = {
        f"± is half of the 95 % interval{over}.": measured,
        RANGE: [cell for cell in short if cell.least is not None],
        PREDICTED: [cell for cell in short if cell.source == "predicted"],
    }
    return tuple(text for text, its in said.items() if its)


def fold(
    table: Table, fits: Callable[[Table], bool], remarks: Callable[[Table], tuple[str, ...]] = lambda _: ()
) -> Table:
    """The table without its least important columns, as many as `fits` needs; rank 0 stays in any case.

    Its remarks say what was left out, after what `remarks` says about the columns that stay.
    """
    kept = frozenset(column.key for column in table.columns)
    dropped = []
    for unit in _units(table):
        if fits(only(table, kept)):
            break
        kept -= unit
        dropped.append(unit)
    # What was left out in vain, because a wide column behind it had to go as well, comes back where it fits.
    for unit in reversed(dropped):
        kept |= unit if fits(only(table, kept | unit)) else frozenset()
    narrow = only(table, kept)
    gone = "; ".join(column.name for column in table.columns if column.key not in kept)
    left_out = f"Left out at this width: {gone}. A wider terminal shows all columns, and so does COLUMNS=300."
    return replace(narrow, remarks=(*table.remarks, *remarks(narrow), *([left_out] if gone else [])))


def _units(table: Table) -> Iterator[frozenset[str]]:
    """Columns that go together: first each column with hardly a number, then the least important ones.

    Those of one rank and group are together: a gain without its rate says nothing.
    """
    shares: dict[str, float] = {}
    for at, column in enumerate(table.columns):
        if column.rank:
            filled = sum(row.cells[at].text not in ("", DASH) for row in table.rows)
            shares[column.key] = filled / max(len(table.rows), 1)
    yield from (frozenset({key}) for key in sorted(shares, key=shares.__getitem__) if shares[key] < FEW)
    units = grouped((column for column in table.columns if column.rank), lambda column: (column.rank, column.group))
    for unit in sorted(units, key=lambda unit: -unit[0]):
        yield frozenset(column.key for column in units[unit])
