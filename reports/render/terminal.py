"""A table for the terminal: ruled like in print, numbers aligned on their decimals, marks and intervals
beside them.

A table that is wider than the terminal is folded: first intervals become half-widths, then the least
important columns are left out, and a line below says which. A number is never cut. Colour (by source) only on
a terminal.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from visionbench.record.record import Source
from visionbench.reports.fold import fold, short_spans
from visionbench.reports.table import Cell, Heading, Row, Table, column_notes, footnotes, head_lines, shortened, spans

GAP = "  "
NOTE_WIDTH = 100
"""Notes are set no wider than this even where the table is: long lines are hard to read."""

STYLES: dict[Source | None, str] = {"computed": "cyan", "measured": "green", "predicted": "italic magenta"}
SUPERSCRIPTS = str.maketrans("abcdefghijklmnoprstuvwxyz", "ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻ")

Segment = tuple[str, str]
"""A piece of a line and its style."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A column ready to print: its cells as (number, what stands behind it), and the widths of these and of all."""

    column: Heading
    cells: tuple[tuple[str, str], ...]
    number: int
    behind: int
    width: int


def terminal(table: Table, width: int | None, *, colour: bool) -> str:
    """The table as text of at most `width` columns, if its columns of rank 0 allow that."""
    folded, blocks = fit(table, width)
    room = min(max(_width(blocks), 60), width or NOTE_WIDTH, NOTE_WIDTH)
    lines = [*(_body(folded, blocks) if table.rows else ()), *([(line, "")] for line in _notes(folded, room))]
    title = [(line, "bold") for line in textwrap.wrap(table.title, max(room, _width(blocks)))]
    return _print([[line] for line in title] + lines, colour)


def fit(table: Table, width: int | None) -> tuple[Table, tuple[Block, ...]]:
    """The fullest form of the table that fits, and its columns; the narrowest form is as wide as it must be."""
    blocks = _blocks(table, compact=False)
    if width is None or _width(blocks) <= width:
        return table, blocks
    if _width(_blocks(table, compact=True)) > width:
        table = shortened(table)
    folded = fold(table, lambda narrow: _width(_blocks(narrow, compact=True)) <= width, short_spans)
    return folded, _blocks(folded, compact=True)


def _blocks(table: Table, compact: bool) -> tuple[Block, ...]:
    marks, blocks = footnotes(table), []
    for i, column in enumerate(table.columns):
        cells = [row.cells[i] for row in table.rows]
        pairs = tuple((cell.text, _behind(cell, marks, compact)) for cell in cells)
        number = max((len(cell.text) for cell in cells if _is_number(cell)), default=0)
        behind = max((len(tail) for _, tail in pairs), default=0)
        texts = (*map(len, column.head), *(len(text) + len(tail) for text, tail in pairs), number + behind)
        blocks.append(Block(column=column, cells=pairs, number=number, behind=behind, width=max(texts)))
    for group, first, last in spans(table.columns):
        inside = sum(block.width for block in blocks[first:last]) + len(GAP) * (last - first - 1)
        wider = blocks[last - 1].width + max(len(group) - inside, 0)
        blocks[last - 1] = replace(blocks[last - 1], width=wider)
    return tuple(blocks)


def _is_number(cell: Cell) -> bool:
    """A word (a failure's cause) stands in the whole column, and must not push the numbers aside."""
    return cell.value is not None or len(cell.text) == 1


def _behind(cell: Cell, marks: dict[str, str], compact: bool) -> str:
    span = cell.short_span if compact else cell.span
    return (f" {span}" if span else "") + "ʼ".join(marks[note].translate(SUPERSCRIPTS) for note in cell.notes)


def _width(blocks: Iterable[Block]) -> int:
    widths = [block.width for block in blocks]
    return sum(widths) + len(GAP) * (len(widths) - 1)


def _body(table: Table, blocks: tuple[Block, ...]) -> Iterator[list[Segment]]:
    full = _width(blocks)
    thick, thin = [("━" * full, "")], [("─" * full, "")]
    yield thick
    yield from _heads(blocks)
    yield thin
    section = ""
    for i, row in enumerate(table.rows):
        if row.section != section:
            yield from [thin] if section else []
            yield [(row.section, "italic")]
            section = row.section
        elif row.gap:
            yield []
        yield _row(row, blocks, i)
    yield thick


def _row(row: Row, blocks: tuple[Block, ...], number: int) -> list[Segment]:
    """Numbers end where all numbers of their column end; what stands behind them begins there."""
    segments: list[Segment] = []
    for block, cell in zip(blocks, row.cells, strict=True):
        text, behind = block.cells[number]
        whole = text + behind
        if block.column.align == "left":
            whole = whole.ljust(block.width)
        elif _is_number(cell):
            whole = text.rjust(block.number) + behind.ljust(block.behind)
        segments += [(GAP, "")] if segments else []
        segments.append((whole.rjust(block.width), STYLES.get(cell.source, "")))
    return segments


def _heads(blocks: tuple[Block, ...]) -> Iterator[list[Segment]]:
    columns = tuple(block.column for block in blocks)
    if any(column.group for column in columns):
        groups, rules = [], []
        for group, first, last in spans(columns):
            room = _width(blocks[first:last])
            # A group is centred over its columns; a lone one ends where its column ends.
            groups.append(group.center(room) if last - first > 1 else group.rjust(room))
            rules.append(("─" if group else " ") * room)
        yield [(GAP.join(groups), "bold")]
        yield [(GAP.join(rules), "dim")]
    for line in head_lines(columns):
        segments: list[Segment] = []
        for block, text in zip(blocks, line, strict=True):
            segments += [(GAP, "")] if segments else []
            padded = text.ljust(block.width) if block.column.align == "left" else text.rjust(block.width)
            segments.append((padded, STYLES.get(block.column.source, "")))
        yield segments


def _notes(table: Table, width: int) -> Iterator[str]:
    """Legend, columns' notes, footnotes and remarks, wrapped, with hanging indents."""
    legend = "   ".join(
        f"{note.term} {note.text}" if len(note.term) == 1 else f"{note.term}: {note.text}" for note in table.legend
    )
    yield from textwrap.wrap(legend, width)
    for note in column_notes(table):
        yield from textwrap.wrap(f"{note.term}: {note.text}", width, subsequent_indent="  ")
    for text, mark in footnotes(table).items():
        yield from textwrap.wrap(f"{mark.translate(SUPERSCRIPTS)} {text}", width, subsequent_indent="  ")
    for remark in table.remarks:
        yield from textwrap.wrap(remark, width)


def _print(lines: list[list[Segment]], colour: bool) -> str:
    if not colour:
        return "".join("".join(text for text, _ in line).rstrip() + "\n" for line in lines)
    import io

    from rich.console import Console
    from rich.text import Text

    file = io.StringIO()
    console = Console(file=file, force_terminal=True, color_system="standard", width=10_000, highlight=False)
    for line in lines:
        console.print(Text.assemble(*line), soft_wrap=True)
    return file.getvalue()
