"""A table as GitHub-flavoured Markdown: aligned in its source, too, so that a diff of it can be read.

Markdown has no spanning headers, so a column's group stands in its own header's first line. Sources by
typography: published plain, computed `code`, measured bold, predicted italic.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby

from visionbench.record.record import Source
from visionbench.reports.table import Cell, Table, column_notes, footnotes

STYLES: dict[Source | None, str] = {"computed": "`{}`", "measured": "**{}**", "predicted": "*{}*"}
_SPECIAL = re.compile(r"([\\`*_\[\]<>|~$])")


def escape(text: str) -> str:
    """Text that Markdown shows as it is."""
    return _SPECIAL.sub(r"\\\1", text)


def markdown(table: Table) -> str:
    """Caption, table, notes."""
    lines = [f"**{escape(table.title)}**", "", *_grid(table), "", *_notes(table)]
    return "\n".join(lines) + "\n"


def _grid(table: Table) -> Iterator[str]:
    marks = footnotes(table)
    head = ["<br>".join(escape(part) for part in (column.group, *column.head) if part) for column in table.columns]
    lines = []
    for section, rows in groupby(table.rows, key=lambda row: row.section):
        if section:
            lines.append([f"**{escape(section)}**"] + [""] * (len(head) - 1))
        lines += [[_cell(cell, marks) for cell in row.cells] for row in rows]
    widths = [max(3, *(len(line[i]) for line in (head, *lines))) for i in range(len(head))]
    lefts = [column.align == "left" for column in table.columns]
    rules = [":" + "-" * (w + 1) if left else "-" * (w + 1) + ":" for w, left in zip(widths, lefts, strict=True)]
    yield _join(head, widths, lefts)
    yield f"|{'|'.join(rules)}|"
    for line in lines:
        yield _join(line, widths, lefts)


def _cell(cell: Cell, marks: dict[str, str]) -> str:
    text = escape(cell.text) if cell.value is None else dress(cell.text, cell.source)
    span = f" {escape(cell.span)}" if cell.span else ""
    notes = ",".join(marks[note] for note in cell.notes)
    return f"{text}{span}" + (f"<sup>{notes}</sup>" if notes else "")


def dress(text: str, source: Source | None) -> str:
    """A text in the typography of its source."""
    return STYLES.get(source, "{}").format(text if source == "computed" else escape(text))


def _join(parts: list[str], widths: list[int], lefts: list[bool]) -> str:
    padded = [p.ljust(w) if left else p.rjust(w) for p, w, left in zip(parts, widths, lefts, strict=True)]
    return "| " + " | ".join(padded) + " |"


def _notes(table: Table) -> Iterator[str]:
    legend = [f"{dress(note.term, note.source)}: {escape(note.text)}" for note in table.legend]
    yield from [f"{'; '.join(legend)}.", ""] if legend else []
    for note in column_notes(table):
        yield f"- {escape(note.term)}: {escape(note.text)}"
    for text, mark in footnotes(table).items():
        yield f"- <sup>{mark}</sup> {escape(text)}"
    for remark in table.remarks:
        # A remark's `commands` stay commands.
        yield "- " + "".join(part if part.startswith("`") else escape(part) for part in re.split(r"(`[^`]*`)", remark))
