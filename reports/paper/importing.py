r"""A printed table, as LaTeX, Markdown, HTML or CSV, read into rows: labels, sections and numbers, as printed.

What cannot be read is kept as a remark with its line, and so is a column that a paper's file has no word for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter

from visionbench.record.errors import BenchError
from visionbench.reports.paper import latex_source, markup
from visionbench.reports.paper.headers import (
    OTHER_IMAGES,
    SAID,
    Head,
    card,
    has_numbers,
    header_at,
    heading,
    is_dense,
    other_images,
    part_of,
    turned,
    value_of,
)
from visionbench.reports.paper.markup import MOST_COLUMNS, MOST_TABLES, SPAN, Block, with_decimal_points


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A row of the printed table: the `number` of its line, and its texts by key of a paper's file (and "variant", a
    second column of names). `dense`: the header speaks of a detector or of segmentation, so the name is its backbone's.
    """

    number: int
    section: str
    values: dict[str, str]
    unread: tuple[str, ...] = ()
    dense: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Printed:
    """A printed table: its rows in order, its caption, and what could not be read, each with its line.

    `gpu` is what the header says of the img/s, "" for nothing.
    """

    title: str
    rows: tuple[Line, ...]
    problems: tuple[str, ...]
    gpu: str = ""


MOST = 500_000
"""Characters of a file: the source of a whole paper has fewer."""


_PLAIN = {
    **{code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)},  # letters and digits that are as wide as Chinese ones
    **dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F)),  # signs that turn what follows
}
"""What a table's characters are read as."""


def parse(text: str, name: str) -> tuple[Printed, ...]:
    """The printed tables in a text. `name` is the file's. Raises `BenchError` for a text without any."""
    if len(text) > MOST:
        raise BenchError(f"{name} has more than {MOST:,} characters: give the tables alone.")
    if re.match(r"\s*(\{\s*\"|\[\s*[\[{])", text):
        raise BenchError(f"{name} is JSON: give a table as LaTeX, Markdown, HTML or CSV.")
    text = text.translate(_PLAIN)
    blocks = [block for block in _blocks(text, name) if block.lines]
    tables = [(block, _read(block)) for block in blocks[:MOST_TABLES]]
    readable = [printed for _, printed in tables if printed and printed.rows]
    if not readable:
        first = blocks[0].lines[0][0] if blocks else 1
        if problem := next((printed.problems[0] for _, printed in tables if printed and printed.problems), ""):
            raise BenchError(f"{name}, {problem}; no other column has a number: give a table of classifiers.")
        if any(printed for _, printed in tables):
            raise BenchError(f"{name}, line {first}: no row stands below the header: give the whole table.")
        raise BenchError(f"{name}, line {first}: no line names columns such as model, params, FLOPs: add a header.")
    said = [
        f"line {block.lines[0][0]}: the table has no columns such as model, params, FLOPs: it is left out"
        for block, printed in tables
        if not (printed and printed.rows)
    ]
    for block in blocks[MOST_TABLES : MOST_TABLES + 1]:
        said.append(f"line {block.lines[0][0]}: only the first {MOST_TABLES} tables are read: give the others alone")
    return (*readable, *(Printed(title="", rows=(), problems=(problem,)) for problem in said))


def _blocks(text: str, name: str) -> list[Block]:
    after_ampersands = (line.partition("&")[2] for line in text.split("\n"))
    if r"\begin{" in text or any("\\\\" in line or r"\tabularnewline" in line for line in after_ampersands):
        return latex_source.tables(text)
    if re.search(r"<t[rd][\s>]", text, re.IGNORECASE):
        blocks = markup.titled(markup.html_tables(text), text)
        return sorted([*blocks, *markup.markdown(text)], key=lambda block: block.lines[0][0] if block.lines else 0)
    if re.search(r"^[ \t]*\|.*\|", text, re.MULTILINE) or any(map(markup.is_separator, text.splitlines())):
        return markup.markdown(text)
    if re.search(r"[,;\t]|\S {2,}\S", text):
        return markup.csv_table(text, name)
    raise BenchError(f"{name}: neither LaTeX (&, \\\\), Markdown (|), HTML nor CSV: give a table in one of them.")


def _read(block: Block) -> Printed | None:
    """The table of a block; None where no line names columns."""
    rows: list[Line] = []
    problems = list(block.problems)
    number, widest = max(((number, len(cells)) for number, cells in block.lines), key=itemgetter(1))
    if widest > MOST_COLUMNS:
        said = f"the table has {widest:,} columns: those behind the first {MOST_COLUMNS} are left out"
        problems.append((number, said))
    head: Head | None = None
    section, at, gpu = "", 0, ""
    decimals = with_decimal_points(block.lines)
    if decimals != block.lines:
        problems.append((block.lines[0][0], "its commas are read as decimal points"))
    lines = [(number, cells[:MOST_COLUMNS]) for number, cells in decimals]
    lines = [line for line in lines if any(cell not in ("", SPAN) for cell in line[1])]
    while at < len(lines):
        if deep := header_at(lines, at):
            before, head = head, heading(lines[at : at + deep], lines[at + deep :])
            if before is None or head.words != before.words:
                head, left_out = other_images(head, block.title)
                problems += [(lines[at][0], text) for text in (*_remarks(head), *left_out)]
                gpu = gpu or card(head)
                section = section if before is None else ""
            at += deep
            continue
        number, cells = lines[at]
        at += 1
        if head is None:
            continue
        filled = [cell for cell in cells if cell not in ("", SPAN)]
        if len(filled) == 1 and not has_numbers(filled):
            section = filled[0]
            continue
        rows += _lines_of(number, cells, head, section, rows[-1] if rows else None)
    if head is None:
        upright = turned(lines)
        return _read(Block(block.title, upright, problems)) if upright else None
    rows = _sectioned(rows) if any(map(_has_figures, rows)) else []
    problems += [(row.number, said) for row in rows for said in row.unread]
    sentences = tuple(f"line {number}: {said}" for number, said in sorted(problems, key=lambda problem: problem[0]))
    return Printed(title=block.title, rows=tuple(rows), problems=sentences, gpu=gpu)


def _has_figures(row: Line) -> bool:
    """Whether a row has a number, or something that was meant for one."""
    return bool(row.values.keys() - {"label", "variant", "section"}) or any(
        re.search(r"\d", said) for said in row.unread
    )


def _sectioned(rows: Sequence[Line]) -> list[Line]:
    """The rows below their types, where those of one type stand together; else types are no sections."""
    types = [row.values.get("section", "") for row in rows]
    together = len(list(groupby(types))) == len(set(types))
    return [
        replace(
            row,
            section=(kind if together else "") or row.section,
            values={key: value for key, value in row.values.items() if key != "section"},
        )
        for row, kind in zip(rows, types, strict=True)
    ]


def _remarks(head: Head) -> Iterator[str]:
    """What a reader should know of a header: what is left out of it, and what its numbers are taken for."""
    yield from head.said
    if head.left_out:
        names = ", ".join(f"'{word}'" for word in head.left_out)
        noun, verb = ("column", "is") if len(head.left_out) == 1 else ("columns", "are")
        yield f"{noun} {names} {verb} left out: a row has one each of {SAID}"


def _lines_of(number: int, cells: Sequence[str], head: Head, section: str, above: Line | None) -> Iterator[Line]:
    """The rows of a line: one per network that it holds."""
    for group in head.groups:
        values: dict[str, str] = {}
        unread = []
        for i, columns in group.items():
            text = cells[i].strip() if i < len(cells) and cells[i] != SPAN else ""
            for column in columns:
                part = part_of(text, column)
                value = value_of(column, part)
                if value is None:
                    unread.append(f"{column.key} = '{part}' is no number")
                elif value:
                    values["top1" if column.key == "error" else column.key] = value
        images = values.pop("images", "")
        if OTHER_IMAGES.search(images) and (accuracy := values.pop("top1", "")):
            unread.append(f"accuracy = '{accuracy}' is of {images}")
        if "label" not in values and above and above.section == section and group is head.groups[0]:
            values = {"label": above.values.get("label", ""), **values}  # a blank name is the one above
        if values.keys() - {"label", "variant", "section"} or unread or (values and len(head.groups) == 1):
            yield Line(number=number, section=section, values=values, unread=tuple(unread), dense=is_dense(head))
