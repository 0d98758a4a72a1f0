"""A table as a piece of HTML without a style sheet, for a notebook, which has one."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from visionbench.reports.table import Cell, Heading, Table, column_notes, footnotes


def fragment(table: Table) -> str:
    """Caption, table, notes."""
    marks = footnotes(table)
    head = "".join(_head(column) for column in table.columns)
    body = ""
    for row in table.rows:
        cells = (_cell(column, cell, marks) for column, cell in zip(table.columns, row.cells, strict=True))
        body += f"<tr>{''.join(cells)}</tr>"
    notes = "".join(f"<li>{line}</li>" for line in _notes(table, marks))
    return (
        f"<table><caption>{escape(table.title)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        + (f"<ul>{notes}</ul>" if notes else "")
    )


def _head(column: Heading) -> str:
    words = "<br>".join(escape(part) for part in (column.group, *column.head) if part)
    return f'<th style="text-align:{column.align}">{words}</th>'


def _cell(column: Heading, cell: Cell, marks: dict[str, str]) -> str:
    span = f" {escape(cell.span)}" if cell.span else ""
    notes = ",".join(marks[note] for note in cell.notes)
    mark = f"<sup>{escape(notes)}</sup>" if notes else ""
    return f'<td style="text-align:{column.align}">{escape(cell.text)}{span}{mark}</td>'


def _notes(table: Table, marks: dict[str, str]) -> Iterator[str]:
    for note in (*table.legend, *column_notes(table)):
        yield f"{escape(note.term)}: {escape(note.text)}"
    for words, mark in marks.items():
        yield f"<sup>{escape(mark)}</sup> {escape(words)}"
    yield from map(escape, table.remarks)
