"""A table between its records and its formats: rows of cells that already know how they read and where they
come from.

A report lays out one `Table`; every renderer (`visionbench.reports.render`) shows that same table, so a number cannot
differ between the terminal and the LaTeX. A cell never mixes sources, and a column holds one source only,
which its header names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Literal, TypeVar

from visionbench.record.clean import clean
from visionbench.record.errors import BenchError
from visionbench.record.record import Record, Source

if TYPE_CHECKING:
    from visionbench.comparison.comparison import Comparison
    from visionbench.reports.printed import Number

T = TypeVar("T")

DASH = "–"
"""What is not printed, not computed or not measured."""

Unit = Literal["", "px", "count", "1/s", "%", "GB", "B", "1", "s", "J"]
"""The base units that a column's values may have."""

HEADS: dict[Source, str] = {"published": "paper", "computed": "exact", "measured": "measured", "predicted": "predicted"}
"""The word over a column, per source: short, because it stands over short numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One cell: how it reads, and the value behind it at full precision in its column's base unit.

    `short` is what stands for a long `text` where there is no room for it; the whole is then a footnote.
    `text` is the rounded number (or a word: a failure's cause, a label), `digits` its decimals. `low` and
    `high` bound the interval, `span` is how that reads (`[770.1, 779.0]`) and `short_span` the same for
    narrow places (`±0.6 %`). `notes` are whole footnotes; a renderer turns them into marks. `origin` says
    where exactly the value comes from, in words; `evidence` is what it was made of: the launches, the trace or the
    prediction, the comparison, or the printed number. `level` is how sure the interval is: 0.95 of a measurement over
    launches, 0.8 of a prediction; None where there is no interval. `least` and `most` are the range over nodes that are
    too few for one.
    """

    text: str = DASH
    short: str = ""
    value: float | str | None = None
    digits: int = 0
    source: Source | None = None
    low: float | None = None
    high: float | None = None
    span: str = ""
    short_span: str = ""
    level: float | None = None
    least: float | None = None
    most: float | None = None
    notes: tuple[str, ...] = ()
    origin: str = ""
    evidence: tuple[Record, ...] | Comparison | Number | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A remark below the table: a `term` of the header or legend and what it means, in the dress of `source`."""

    term: str
    text: str
    source: Source | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """What stands over one column, and what its renderers need to know. `key` and `unit` (of the stored values) name
    it for machines, `group` and `head` for people.

    Neighbours with the same `group` share it as a spanning header; `head` is the lines below. When a page is
    too narrow the columns with the highest `rank` go first; rank 0 stays.
    """

    key: str
    group: str = ""
    head: tuple[str, ...] = ()
    unit: Unit = ""
    align: Literal["left", "right"] = "right"
    source: Source | None = None
    rank: int = 0
    notes: tuple[Note, ...] = ()

    @property
    def name(self) -> str:
        """The header in one line: `img/s, paper, V100`."""
        return ", ".join(part for part in (self.group, *self.head) if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of cells, in the order of the columns. `section` is its heading, `gap` a little space above it.

    `subject` is what the row is about, for machines: the model's qualified name.
    """

    cells: tuple[Cell, ...]
    section: str = ""
    gap: bool = False
    subject: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A laid-out table. `legend` explains typography, `remarks` are about the whole table.

    `caveats` are those of the remarks that stand below it in every format, also where the others are left out.
    """

    name: str
    title: str
    columns: tuple[Heading, ...]
    rows: tuple[Row, ...]
    legend: tuple[Note, ...] = ()
    remarks: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()


def cleaned(part: T) -> T:
    """A table, or a part of one, without anything that a terminal, a page or GitHub's runner would obey.

    See `record.clean`. What a cell is made of stays as it is.
    """
    if isinstance(part, str):
        return clean(part)  # type: ignore[return-value]
    if isinstance(part, tuple):
        return tuple(map(cleaned, part))  # type: ignore[return-value]
    if not isinstance(part, Table | Heading | Row | Cell | Note):
        return part
    names = (field.name for field in fields(part) if field.name != "evidence")
    return replace(part, **{name: cleaned(getattr(part, name)) for name in names})


def shortened(table: Table) -> Table:
    """The same table with short texts for long ones, which become footnotes: for a narrow page."""

    def short(cell: Cell) -> Cell:
        return replace(cell, text=cell.short, short="", notes=(*cell.notes, cell.text)) if cell.short else cell

    return replace(table, rows=tuple(replace(row, cells=tuple(map(short, row.cells))) for row in table.rows))


def only(table: Table, keys: frozenset[str]) -> Table:
    """The same table with the columns of those keys alone."""
    return _at(table, [i for i, column in enumerate(table.columns) if column.key in keys])


def _at(table: Table, kept: Sequence[int]) -> Table:
    rows = tuple(replace(row, cells=tuple(row.cells[i] for i in kept)) for row in table.rows)
    return replace(table, columns=tuple(table.columns[i] for i in kept), rows=rows)


def pick_of_all(tables: Sequence[Table], words: Sequence[str]) -> list[Table]:
    """`pick` of each table; a column that only some of them have is left out of the others."""

    def known(table: Table) -> list[str]:
        return [word for word in words if any(_named(column, word) for column in table.columns)]

    elsewhere = {word for table in tables for word in known(table)}
    return [pick(table, [word for word in words if word in known(table) or word not in elsewhere]) for table in tables]


def pick(table: Table, words: Sequence[str]) -> Table:
    """The same table with its first column and those that the words name, in the words' order.

    A word is a column's key, or the beginning of its header (`params`, `flops`, `img/s`, `top1`); after a dot it says
    of which source (`params.exact`). Raises `BenchError` for a word that names no column.
    """
    kept = [0]
    for word in words:
        named = [i for i, column in enumerate(table.columns) if _named(column, word)]
        if not named:
            groups = dict.fromkeys(column.group or column.name for column in table.columns[1:])
            raise BenchError(f"{table.name} has no column '{word}': write some of {', '.join(groups)}, or a key of it.")
        kept += [i for i in named if i not in kept]
    picked = _at(table, kept)
    sources = {cell.source for row in picked.rows for cell in row.cells} | {None}
    return replace(picked, legend=tuple(note for note in table.legend if note.source in sources))


def _named(column: Heading, word: str) -> bool:
    head, _, source = word.partition(".")
    if word == column.key:
        return True
    if source and (column.source is None or HEADS[column.source] != source):
        return False
    return _letters_of(head) != "" and _letters_of(column.group or column.name).startswith(_letters_of(head))


def _letters_of(text: str) -> str:
    return "".join(character for character in text.lower() if character.isalnum())


def footnotes(table: Table) -> dict[str, str]:
    """Every footnote's text and its mark (a, b, ... z, aa, ...), in reading order; equal texts share a mark."""
    texts = dict.fromkeys(note for row in table.rows for cell in row.cells for note in cell.notes)
    return {text: _letters(i) for i, text in enumerate(texts)}


def _letters(number: int) -> str:
    head, last = divmod(number, 26)
    return (_letters(head - 1) if head else "") + chr(ord("a") + last)


def column_notes(table: Table) -> tuple[Note, ...]:
    """The columns' notes, each once, in the columns' order."""
    return tuple(dict.fromkeys(note for column in table.columns for note in column.notes))


def spans(columns: tuple[Heading, ...]) -> Iterator[tuple[str, int, int]]:
    """Runs of neighbours with one group: (group, first, last + 1)."""
    first = 0
    for i in range(1, len(columns) + 1):
        if i == len(columns) or columns[i].group != columns[first].group or not columns[i].group:
            yield columns[first].group, first, i
            first = i


def head_lines(columns: tuple[Heading, ...]) -> list[tuple[str, ...]]:
    """The headers below the groups as lines of equal length, set at the bottom: a short header stands on the rule."""
    height = max((len(column.head) for column in columns), default=0)
    padded = [("",) * (height - len(column.head)) + column.head for column in columns]
    return [tuple(head[line] for head in padded) for line in range(height)]
