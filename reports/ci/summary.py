"""A judgement as the page of a GitHub job (`$GITHUB_STEP_SUMMARY`): Markdown, the verdict first.

What needs a reader's eye is open, what is as it should be is folded. GitHub drops a summary above 1 MiB as a whole, so
each part has its room, and a table that does not fit loses its last rows and says so.
"""

from __future__ import annotations

import html
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import replace

from visionbench.comparison.verdict import Judgement
from visionbench.record.units import plural
from visionbench.reports.render.markdown import escape, markdown
from visionbench.reports.results import verdict_text as words
from visionbench.reports.results.verdicts import changes, layout
from visionbench.reports.table import DASH, Table, column_notes, only

LIMIT = 900 * 1024
"""Bytes of the page; GitHub takes 1 MiB of a step."""

OPEN, STRUCTURE = LIMIT // 2, LIMIT // 6
"""Bytes of the open tables. What they leave of `LIMIT` is for the folded one."""

VERDICT = 1
"""The place of the verdict's cell in a row."""

BRIEF = frozenset({"row", "verdict", "time_ratio", "clock", "baseline_time", "candidate_time", "detectable"})
"""The columns of the open table; the folded one has all."""


def page(judgement: Judgement) -> str:
    """The page, under `LIMIT` bytes."""
    table = _plain(layout(judgement))
    passed, rest = (_those(table, ok=ok) for ok in (True, False))
    said = words.sentence(judgement)
    parts = [f"**{escape(words.headline(judgement))}**" + (f": {escape(said)}" if said else "")]
    parts += [_fitted(only(rest, BRIEF), OPEN)] if rest.rows else []
    structure = changes(judgement)
    parts += [_fitted(structure, STRUCTURE, title=True)] if structure else []
    tail = [_list(words.facts(judgement))] if judgement.verdicts or judgement.remarks or judgement.command else []
    if judgement.verdicts:
        meanings = (*words.rule(judgement.rule), *(f"{note.term}: {note.text}" for note in column_notes(table)))
        tail.append(_fold("How to read this", _list(meanings)))
    if passed.rows:
        room = LIMIT - sum(_size(part) + 2 for part in (*parts, *tail))
        title = f"{plural(len(passed.rows), 'row')} {'is' if len(passed.rows) == 1 else 'are'} ok"
        parts.append(_fold(title, _fitted(passed, room)))
    return "\n\n".join(part.strip("\n") for part in (*parts, *tail)) + "\n"


def _fold(title: str, inside: str) -> str:
    body = inside.strip("\n")
    return f"<details><summary>{html.escape(title)}</summary>\n\n{body}\n\n</details>"


def _those(table: Table, *, ok: bool) -> Table:
    """The rows that are ok, or all others; the legend stays where it explains something."""
    rows = tuple(row for row in table.rows if (row.cells[VERDICT].value == "ok") == ok)
    dash = any(cell.text == DASH for row in rows for cell in row.cells)
    return replace(table, rows=rows, legend=table.legend if dash else ())


def _plain(table: Table) -> Table:
    """The same table with its notes elsewhere and without typography: all of its numbers are measured."""
    rows = []
    for row in table.rows:
        rows.append(replace(row, gap=False, cells=tuple(replace(cell, source=None) for cell in row.cells)))
    return replace(table, rows=tuple(rows), remarks=())


def _fitted(table: Table, room: int, *, title: bool = False) -> str:
    """The table in Markdown, cut after as many rows as fit `room` bytes."""

    def first(number: int) -> str:
        return _grid(replace(table, rows=table.rows[:number]), title)

    count = len(table.rows)
    if _size(whole := first(count)) <= room:
        return whole
    room -= 200  # for the sentence
    kept = bisect_right(range(count), room, key=lambda number: _size(first(number + 1)))
    left = f"{count - kept:,} of {plural(count, 'row')} are left out: a summary has at most 1 MiB."
    return f"{first(kept)}\n{left} The gate's other files hold all of them."


def _grid(table: Table, title: bool) -> str:
    if title:
        return markdown(table)
    bare = tuple(replace(column, notes=()) for column in table.columns)
    return markdown(replace(table, columns=bare)).split("\n", 2)[2]


def _list(lines: Iterable[str]) -> str:
    # The renderer knows how to keep a remark's commands: a table of remarks alone.
    bare = Table(name="remarks", title="", columns=(), rows=(), remarks=tuple(lines))
    return "\n".join(line for line in markdown(bare).splitlines() if line.startswith("- "))


def _size(text: str) -> int:
    return len(text.encode())
