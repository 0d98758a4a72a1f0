"""A first look at a paper's table: the table without its small print, and what was learned, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from visionbench.record import counters
from visionbench.record.record import Record
from visionbench.record.statistics import MIN_LAUNCHES
from visionbench.record.units import plural, significant
from visionbench.reports.paper import counts
from visionbench.reports.paper.slips import agrees
from visionbench.reports.printed import PaperRow
from visionbench.reports.settings import Group, device_name, groups
from visionbench.reports.table import Table

BUSY = "busy_machine"
"""The flag of a launch beside which other programs wanted the cores: it changes the order of rows."""


def brief(table: Table) -> Table:
    """The table with the notes of its measured columns only: what is printed and counted is explained elsewhere."""
    columns = tuple(c if c.source == "measured" else replace(c, notes=()) for c in table.columns)
    rows = (
        replace(row, cells=tuple(c if c.source == "measured" else replace(c, notes=()) for c in row.cells))
        for row in table.rows
    )
    return replace(table, columns=columns, rows=tuple(rows), remarks=())


def learned(rows: Iterable[PaperRow], records: Sequence[Record]) -> Iterator[str]:
    """What the records show of these rows: do exact counts agree with the print, and what ran fastest, how surely."""
    rows = tuple(rows)
    yield from _of_counts(rows, counts.index(records))
    measured = groups(records, (row.network for row in rows), "inference")
    if measured:
        yield from _of_speed(rows, measured[0])


def _of_counts(rows: tuple[PaperRow, ...], exact: counts.Counts) -> Iterator[str]:
    checked = [
        agrees(row.printed[metric], count)
        for row in rows
        for metric in ("params", "macs")
        if metric in row.printed and (count := _count(row, metric, exact)) is not None
    ]
    if checked:
        others = len(checked) - sum(checked)
        rest = f"; footnotes of the full tables are about the other {others}" if others else ""
        yield f"Of {len(checked)} printed params and FLOPs, {sum(checked)} agree with the exact counts{rest}."


def _count(row: PaperRow, metric: str, exact: counts.Counts) -> float | None:
    """The exact count, of FLOPs by the rule that printed the row."""
    record = exact.by_spec.get(counts.count_spec(*row.network))
    if metric == "macs" and row.counter and record:
        return counters.count(record, row.counter)
    return record.value(metric) if record else None


def _of_speed(rows: tuple[PaperRow, ...], group: Group) -> Iterator[str]:
    # One label names a classifier and the detectors that stand on it.
    labels = {row.network: row.label + (f" of Table {row.table}" if row.counter else "") for row in reversed(rows)}
    measured = {
        labels[network]: estimate
        for network, launches in group.launches.items()
        if (estimate := launches.throughput) is not None
    }
    if not measured:
        return
    where = device_name(group.environments[-1])
    if any(launches.scatter_factor or BUSY in launches.flags("throughput") for launches in group.launches.values()):
        yield (
            f"{plural(len(measured), 'row')} {'was' if len(measured) == 1 else 'were'} measured on {where} while the "
            "machine was busy, so no order is shown: measure into another file (--records) when nothing else runs."
        )
        return
    fastest, slowest = (choose(measured, key=lambda label: measured[label].centre) for choose in (max, min))
    fast, slow = (f"{label} with {significant(measured[label].centre, 3)} img/s" for label in (fastest, slowest))
    other = f", the slowest {slow}" if len(measured) > 1 else ""
    yield f"Of {plural(len(measured), 'row')} measured on {where}, the fastest is {fast}{other}."
    fewest = min(map(len, group.launches.values()))
    if any(estimate.low is None for estimate in measured.values()):
        yield (
            f"These are first looks: a row has {plural(fewest, 'launch', 'launches')}, and an interval needs "
            f"{MIN_LAUNCHES}."
        )
    else:
        nodes = any(estimate.nodes > 1 for estimate in measured.values())
        yield f"Every measured number has a 95 % interval over its {'nodes' if nodes else 'launches'}."
