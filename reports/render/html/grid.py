"""One table as a section of the page: the grid, the notes below it, and, row by row, where its numbers come from.

A number's decimals stand under each other, because whatever follows it (an interval, a footnote's mark) has a place of
equal width in all cells of its column. Each cell carries what is to be known of it as its title; the script shows the
same when a cell is focused. Each section of a table is a separate body, so that sorting never mixes what the paper
keeps apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count, groupby
from urllib.parse import quote

from visionbench.record.record import Environment
from visionbench.reports.render.flat import to_csv
from visionbench.reports.render.html import evidence as behind
from visionbench.reports.render.html.markup import dress, head, identifier, is_number, pairs, prose, text
from visionbench.reports.table import DASH, Cell, Heading, Row, Table, column_notes, footnotes, spans

WIDEST = 40
"""Characters that the place behind a number may take; page.css has a class for each width."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A table with what all of its parts need: ids of environments, the prefix of its ids, marks, the widths behind
    its numbers.
    """

    table: Table
    places: dict[Environment, str]
    id: str
    marks: dict[str, str]
    behind: tuple[int, ...]


def section(table: Table, places: dict[Environment, str], ident: str = "") -> str:
    """The section of one table. `ident` is its id, by default the table's name."""
    ident, marks = ident or identifier(table.name), footnotes(table)
    # A colon stands in no table's id, so that what is inside a table has ids of its own.
    widths = [0] * len(table.columns)
    for row in table.rows:
        for at, cell in enumerate(row.cells):
            if is_number(cell):
                after = len(cell.span) + len(",".join(marks[note] for note in cell.notes))
                widths[at] = min(max(widths[at], after), WIDEST)
    frame = Frame(table=table, places=places, id=ident, marks=marks, behind=tuple(widths))
    parts = (_tools(table), _grid(frame), _notes(frame), _sources(frame)) if table.rows else (_notes(frame),)
    title = f'<h2 id="{ident}:title">{text(table.title)}</h2>'
    opening = f'<section class="table" id="{ident}" aria-labelledby="{ident}:title">'
    return f"{opening}\n{title}\n{''.join(parts)}</section>\n"


def _tools(table: Table) -> str:
    """The table as a file: a link that holds all of it, so that it works without a network and without the script."""
    data = quote(to_csv(table), safe=_PLAIN)
    return (
        f'<div class="tools"><a class="take" download="{identifier(table.name)}.csv" '
        f'href="data:text/csv;charset=utf-8,{data}">Download as CSV</a></div>\n'
    )


_PLAIN = " ,:;/()[]=+*@!$?'{}|^~\u2013\u00d7\u2192"
"""Characters that an address in quotation marks holds as they are; a browser encodes them itself."""


# --- the grid --------------------------------------------------------------------------------------------------------


def _grid(frame: Frame) -> str:
    table, body, numbers = frame.table, "", count(1)
    for heading, rows in groupby(table.rows, key=lambda row: row.section):
        wide = len(table.columns)
        top = f'<tr class="section"><th scope="rowgroup" colspan="{wide}"><span>{text(heading)}</span></th></tr>'
        lines = "\n".join(_row(frame, row, next(numbers)) for row in rows)
        body += f"<tbody>{top if heading else ''}\n{lines}</tbody>\n"
    return (
        f'<div class="scroll" role="region" aria-labelledby="{frame.id}:title" tabindex="0">\n'
        f"<table><caption>{text(table.title)}</caption>\n<thead>{_heads(table.columns)}</thead>\n{body}</table></div>\n"
    )


def _heads(columns: Sequence[Heading]) -> str:
    """A line of groups above a line of columns; a column without a group takes both."""
    grouped = any(column.group for column in columns)
    above: list[str] = []
    below: list[str] = []
    for group, first, last in spans(tuple(columns)):
        cells = [_head(columns[at], at, tall=grouped and not group) for at in range(first, last)]
        if group:
            scope = f' scope="colgroup" colspan="{last - first}"' if last - first > 1 else ' scope="col"'
            above.append(f'<th class="group"{scope} data-from="{first}" data-to="{last}">{text(group)}</th>')
        (below if group else above).extend(cells)
    return "".join(f"<tr>{''.join(line)}</tr>" for line in (above, below) if line)


def _head(column: Heading, at: int, *, tall: bool) -> str:
    left = ' class="l"' if column.align == "left" else ""
    rows = ' rowspan="2"' if tall else ""
    first = ' data-first="descending"' if column.unit in ("1/s", "%") else ""
    inner = head(column.head, column.source) or text(column.key)
    rank = f' data-rank="{column.rank}"' if column.rank else ""
    return f'<th scope="col"{left}{rows} data-col="{at}"{rank} data-name="{text(column.name)}"{first}>{inner}</th>'


def _row(frame: Frame, row: Row, number: int) -> str:
    ident = f"{frame.id}:{number}"
    labels = [cell.text for cell in row.cells if cell.source is None]
    found = text(" ".join((row.section, row.subject, *labels)).lower())
    cells = [
        _cell(frame, column, cell, at, f"{ident}-how")
        for at, (column, cell) in enumerate(zip(frame.table.columns, row.cells, strict=True))
    ]
    gap = ' class="gap"' if row.gap else ""
    part = f' data-section="{text(row.section)}"' if row.section else ""
    return f'<tr id="{ident}"{gap}{part} data-find="{found}">{"".join(cells)}</tr>'


def _cell(frame: Frame, column: Heading, cell: Cell, at: int, how: str) -> str:
    if at == 0:
        return f'<th scope="row"><a href="#{how}">{text(cell.text)}</a>{_marks(frame, cell)}</th>'
    told = "\n".join(behind.lines(column, cell))
    attributes = f' title="{text(told)}"' if told and cell.text != DASH else ""
    if is_number(cell):
        attributes += f' data-v="{cell.value!r}"'
        if cell.low is not None and cell.high is not None:
            attributes += f' data-low="{cell.low!r}" data-high="{cell.high!r}"'
            attributes += f' data-level="{cell.level * 100:g}"' if cell.level else ""
    css = ["l"] if column.align == "left" else []
    if cell.text == DASH:
        css.append("none")
    elif cell.source == "measured" and cell.value is None:
        css.append("fail")
    dressed = f' class="{" ".join(css)}"' if css else ""
    shown = text(cell.text) if cell.value is None else dress(cell.text, cell.source)
    after = (f"<small>{text(cell.span)}</small>" if cell.span else "") + _marks(frame, cell)
    if frame.behind[at] and (is_number(cell) or cell.text == DASH):  # a place of equal width for what follows a number
        after = f'<span class="a w{frame.behind[at]}">{after}</span>'
    return f"<td{dressed}{attributes}>{shown}{after}</td>"


def _marks(frame: Frame, cell: Cell) -> str:
    links = [f'<a href="#{frame.id}:note-{frame.marks[note]}">{frame.marks[note]}</a>' for note in cell.notes]
    return f"<sup>{','.join(links)}</sup>" if links else ""


# --- below it --------------------------------------------------------------------------------------------------------


def _notes(frame: Frame) -> str:
    legend = ""
    for note in frame.table.legend:
        term = dress(note.term, note.source) if note.source else f"<b>{text(note.term)}</b>"
        legend += f"{' ' if legend else ''}<span>{term} {text(note.text)}</span>"
    columns = [(note.term, prose(note.text)) for note in column_notes(frame.table)]
    marks = "".join(
        f'<li id="{frame.id}:note-{mark}"><sup>{mark}</sup> {prose(note)}</li>' for note, mark in frame.marks.items()
    )
    parts = (
        f'<p class="legend">{legend}</p>' if legend else "",
        "".join(f"<p>{prose(remark)}</p>" for remark in frame.table.remarks),
        pairs(columns) if columns else "",
        f"<ul>{marks}</ul>" if marks else "",
    )
    return f'<div class="notes">{"".join(parts)}</div>\n'


def _sources(frame: Frame) -> str:
    rows = "".join(_how(frame, row, f"{frame.id}:{number}") for number, row in enumerate(frame.table.rows, start=1))
    summary = "Row by row: the command that reproduces it, and where each number comes from"
    return f'<details class="how"><summary>{summary}</summary>\n{rows}</details>\n'


def _how(frame: Frame, row: Row, ident: str) -> str:
    """The commands of one row, and every number of it with its provenance."""
    lines = behind.commands(row, frame.table.columns)
    shown = "".join(f"<li><span>{word}</span>{_command(line)}</li>" for line, word in lines.items())
    facts = [
        (column.name, _provenance(frame, column, cell))
        for column, cell in zip(frame.table.columns, row.cells, strict=True)
        if cell.source and cell.text != DASH
    ]
    subject = f" <code>{text(row.subject)}</code>" if row.subject else ""
    title = f'<h3><a href="#{ident}">{text(row.cells[0].text)}</a>{subject}</h3>'
    commands = f'<ul class="cmds">{shown}</ul>' if shown else ""
    return f'<div class="row" id="{ident}-how">{title}{commands}{pairs(facts)}</div>\n'


def _command(line: str) -> str:
    """A command that is broken before an option and not within one."""
    first, *options = line.split(" --")
    words = " ".join(f"<span>{text(part)}</span>" for part in (first, *(f"--{option}" for option in options)))
    return f'<code class="cmd">{words}</code>'


def _provenance(frame: Frame, column: Heading, cell: Cell) -> str:
    told, launches = " ".join(behind.lines(column, cell)), behind.launches_of(cell)
    place = frame.places.get(launches[-1].environment) if launches else None
    where = f' <a href="#{place}">Environment {place.rpartition("-")[2]}</a>' if place else ""
    shown = dress(cell.text, cell.source) if cell.value is not None else text(cell.text)
    span = f" <small>{text(cell.span)}</small>" if cell.span else ""
    return f'<span class="v">{shown}{span}</span> <span>{prose(told)}{where}</span>'
