"""What stands behind a cell: the records it was made of, found again by its origin, and what is to be said of them.

A cell says in words where it comes from (`Cell.origin`), and those words hold the spec as it prints itself, the device
and the protocol. So any table of any report can be asked for the records of its cells, without knowing this file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from visionbench.comparison.comparison import Comparison
from visionbench.record.flags import meaning
from visionbench.record.record import Environment, Record, Source
from visionbench.record.spec import Spec
from visionbench.reports.render.html import command
from visionbench.reports.table import DASH, Cell, Column, Row

_PARTS = re.compile(r"; |: |, |^trace of ")
AGAINST = " against "

WORDS: dict[Source, str] = {
    "published": "Published",
    "computed": "Computed",
    "measured": "Measured",
    "predicted": "Predicted",
}
UNITS = {"1/s": "images per second", "B": "bytes", "s": "s", "J": "J", "GB": "GB", "%": "%", "px": "pixels"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The launches of every key by the spec's text, the comparisons by both of theirs, and the environments' ids."""

    launches: dict[str, list[list[Record]]]
    comparisons: dict[str, Comparison]
    places: dict[Environment, str]

    def of(self, column: Column, cell: Cell) -> Sequence[Record]:
        """The launches that a cell is made of; none where its origin names no spec that is recorded."""
        parts = frozenset(_PARTS.split(cell.origin))
        found = [its for part in parts for its in self.launches.get(part, ()) if its[0].source == cell.source]
        if cell.source == "measured":
            found = [its for its in found if its[0].environment.device in parts or _names(column, its[0])]
        return max(found, key=lambda its: _said(its[0], parts, column), default=())

    def comparison(self, cell: Cell) -> Comparison | None:
        """The comparison that a cell is made of."""
        if AGAINST not in cell.origin:
            return None
        return next((self.comparisons[part] for part in cell.origin.split("; ") if part in self.comparisons), None)


def _names(column: Column, record: Record) -> bool:
    """Whether a column's key names the record's device: a column of one setting does."""
    return f"_{record.environment.device}_" in column.key


def _said(record: Record, parts: frozenset[str], column: Column) -> tuple[bool, bool, str]:
    """How well a record fits what a cell says of its protocol and its column's key of torch; then its age."""
    where, protocol = record.environment, record.protocol
    return (
        protocol is not None and f"protocol {protocol.name}" in parts,
        f"torch-{where.torch}" in column.key,
        where.started or "",
    )


def environments(records: Sequence[Record], comparisons: Sequence[Comparison]) -> list[Environment]:
    """Where each of them was made, in their order."""
    return [*(record.environment for record in records), *(one.environment for one in comparisons)]


def _places(found: Sequence[Environment]) -> dict[Environment, str]:
    """Every environment's id; those that differ in nothing but the launch and the commit share one."""
    ids: dict[Environment, str] = {}
    places: dict[Environment, str] = {}
    for where in dict.fromkeys(found):
        place = replace(where, started=None, git_commit=None, git_dirty=None, device_index=None)
        places[where] = ids.setdefault(place, f"environment-{len(ids) + 1}")
    return places


def gather(records: Sequence[Record], comparisons: Sequence[Comparison] = ()) -> Evidence:
    """Everything that can stand behind a cell. One pass over the records."""
    keys: dict[object, list[Record]] = {}
    for record in records:
        keys.setdefault(record.key, []).append(record)
    launches: dict[str, list[list[Record]]] = {}
    for its in keys.values():
        launches.setdefault(str(its[0].spec), []).append(its)
    return Evidence(
        launches=launches,
        comparisons={f"{one.baseline.spec}{AGAINST}{one.candidate.spec}": one for one in comparisons},
        places=_places(environments(records, comparisons)),
    )


def lines(column: Column, cell: Cell, launches: Sequence[Record]) -> Iterator[str]:
    """What a reader who points at a cell is told. Nothing for a label or a dash."""
    if cell.source is None:
        yield from cell.notes
        return
    yield f"{WORDS[cell.source]}: {cell.origin}." if cell.origin else f"{WORDS[cell.source]}."
    if cell.source != "published" and isinstance(cell.value, (int, float)):
        yield _value(column, cell, cell.value)
    if cell.source == "measured" and launches:
        flags = [text for text in flags_of(launches) if not any(text in note.lower() for note in cell.notes)]
        yield f"Flags: {'; '.join(flags)}." if flags else "No flags."
    yield from (note for note in cell.notes if note.rstrip(".").lower() not in cell.origin.lower())


def _value(column: Column, cell: Cell, value: float) -> str:
    unit = f" {UNITS[column.unit]}" if column.unit in UNITS and column.unit != "%" else ""
    if cell.source == "computed" and isinstance(value, int):
        return f"Exactly {value:,}{unit}."
    low, high = cell.low, cell.high
    interval = f", 95 % interval {low:,.6g} to {high:,.6g}" if low is not None and high is not None else ""
    return f"Unrounded {value:,.6g}{unit}{interval}."


def flags_of(launches: Sequence[Record]) -> tuple[str, ...]:
    """Every flag of these launches, in words."""
    names = dict.fromkeys(flag for record in launches for one in record.measurements for flag in one.flags)
    return tuple(meaning(name) for name in names)


def commands(row: Row, columns: Sequence[Column], evidence: Evidence) -> dict[str, str]:
    """Every command that makes a number of this row again, and which word it makes: measured or computed."""
    found: dict[str, str] = {}
    for column, cell in zip(columns, row.cells, strict=True):
        launches, comparison = evidence.of(column, cell), evidence.comparison(cell)
        if comparison is not None:
            line = command.compared(comparison)
            found |= {line: "measured"} if line else {}
        elif launches:
            computed = launches[0].source == "computed"
            line = command.traced(launches[0].spec) if computed else command.measured(launches)
            found[line] = "computed" if computed else "measured"
    return dict(sorted(found.items(), key=lambda one: one[1], reverse=True)) or _unrecorded(row, columns)


def _unrecorded(row: Row, columns: Sequence[Column]) -> dict[str, str]:
    """A row of which nothing is recorded can be counted all the same, if it names a model and a size."""
    sizes = [cell.text for column, cell in zip(columns, row.cells, strict=True) if column.key == "image_size"]
    if ":" not in row.subject or not sizes or not sizes[0].isdecimal():
        return {}
    return {command.traced(Spec(model=row.subject, image_size=int(sizes[0]))): "computed"}


def sources(rows: Sequence[Row]) -> dict[Source, int]:
    """How many numbers there are of each source."""
    found = dict.fromkeys(WORDS, 0)
    for row in rows:
        for cell in row.cells:
            if cell.source and cell.text != DASH:
                found[cell.source] += 1
    return {source: number for source, number in found.items() if number}
