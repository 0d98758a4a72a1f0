"""The tables of a text in Markdown, HTML or CSV: lines of cells, each cell without its dress."""

from __future__ import annotations

import csv
import html
import io
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from operator import itemgetter

from visionbench.record.errors import BenchError

Cells = tuple[int, list[str]]
"""A line's number with the texts of its cells."""

SPAN = "\x1f"
"""What stands in a line for the further columns of a cell that is wider than one."""


@dataclass(frozen=True, slots=True)
class Block:
    """One table of a text: its caption, its lines of cells, and what was not understood, each with its line."""

    title: str = ""
    lines: list[Cells] = field(default_factory=list)
    problems: list[tuple[int, str]] = field(default_factory=list)


MOST_TABLES, MOST_COLUMNS = 200, 100
"""So many tables of a text are read, and so many columns of each."""

LONGEST_CELL = 2000
"""So many characters of a cell are read: a stranger's may be as long as a file."""


def bare(cell: str) -> str:
    """A Markdown or HTML cell without its dress: no links, images, tags, emphasis and emoji; raised text after ^."""
    cell = cell[:LONGEST_CELL]
    text = re.sub(r"!\[[^\]]{0,1000}\](\([^)]{0,1000}\)|\[[^\]]{0,1000}\])", "", cell)
    text = re.sub(r"\[\^[^\]]{0,1000}\]|~~.*?~~|<(del|s)>.*?</\1>", "", text)
    text = re.sub(r"\[([^\[\]]{0,1000})\](\([^)]{0,1000}\)|\[[^\]]{0,1000}\])", r"\1", text)
    text = re.sub(r"<\s*sup\s*>(?=\s*\w)", "^", text, flags=re.IGNORECASE)
    text = re.sub(r"<\s*sub\s*>(?=\s*[\d.])", "_", text, flags=re.IGNORECASE)
    text = re.sub(r"<\s*br\s*/?\s*>", " ", text, flags=re.IGNORECASE)
    text = re.sub(r"</?[A-Za-z][^<>]{0,1000}>|[*`]|__|(?<![\w:]):[a-z][a-z0-9_+-]*:|\\(?=[|_*#])", "", text)
    return re.sub(r"\s+", " ", html.unescape(text)).strip()


# --- Markdown --------------------------------------------------------------------------------------------------------

_SEPARATOR = re.compile(r"\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*")


def is_separator(line: str) -> bool:
    """The line below the header of a Markdown table."""
    return "|" in line and len(line) < LONGEST_CELL and bool(_SEPARATOR.fullmatch(line))


def markdown(text: str) -> list[Block]:
    """The tables of a Markdown text; rows that a blank line parts from their table belong to it."""
    lines = text.splitlines()
    blocks: list[Block] = []
    inside, title = False, ""
    for i, line in enumerate(lines):
        if line.startswith("#"):
            title = bare(line.strip("# "))
        if is_separator(line):
            continue
        heads = i + 1 < len(lines) and is_separator(lines[i + 1]) and "|" in line
        piped = line.lstrip().startswith("|") and line.count("|") > 1
        if heads or (piped and not blocks):
            blocks.append(Block(title=title))
        inside = heads or piped or (inside and "|" in line)
        if inside:
            blocks[-1].lines.append((i + 1, _piped(line)))
    return blocks


def _piped(line: str) -> list[str]:
    coded = re.sub(r"`[^`]{0,1000}`", lambda code: re.sub(r"(?<!\\)\|", r"\|", code.group()), line.strip())
    inner = re.sub(r"(?<!\\)\|$", "", coded.removeprefix("|"))
    return [bare(cell) for cell in re.split(r"(?<!\\)\|", inner)]


# --- HTML ------------------------------------------------------------------------------------------------------------


_ABOVE, _BELOW = "\1", "\2"
"""Where raised and lowered text begins: an underscore of the text itself is part of a name."""


def _raised(cell: str) -> str:
    """The cell with `^` before what is raised and `_` before a lowered number; marks need neither."""
    plain = re.sub(rf"{_ABOVE}(?=\W|$)|{_BELOW}(?!\d)", "", cell)
    return plain.replace(_ABOVE, "^").replace(_BELOW, "_")


class _Tables(HTMLParser):
    """The tables of a page; a table inside a cell is part of that cell's text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.blocks: list[Block] = []
        self.cell: list[str] | None = None
        self.wide = self.high = 1
        self.carried: dict[int, tuple[str, int]] = {}
        self.caption: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        spans = {name: int(value) for name, value in attrs if value and re.fullmatch(r"[1-9]\d?", value)}
        if tag == "table" and self.cell is None:
            self.blocks.append(Block())
            self.carried = {}
        elif tag == "caption":
            self.caption = []
        elif tag == "tr" and self.blocks:
            self._end_cell()
            self.blocks[-1].lines.append((self.getpos()[0], []))
        elif tag in ("td", "th") and self.blocks:
            self._end_cell()
            if not self.blocks[-1].lines:  # cells without a row
                self.blocks[-1].lines.append((self.getpos()[0], []))
            self.cell, self.wide, self.high = [], spans.get("colspan", 1), spans.get("rowspan", 1)
        elif self.cell is not None:
            self.cell.append({"br": " ", "sup": _ABOVE, "sub": _BELOW}.get(tag, ""))

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th", "tr", "table"):
            self._end_cell()
        elif tag == "caption" and self.caption is not None and self.blocks:
            title = " ".join("".join(self.caption).split())
            self.blocks[-1] = Block(title=title, lines=self.blocks[-1].lines)
            self.caption = None

    def handle_data(self, data: str) -> None:
        kept = self.caption if self.caption is not None else self.cell
        if kept is not None:
            kept.append(data)

    def _end_cell(self) -> None:
        if self.cell is None:
            return
        row = self.blocks[-1].lines[-1][1]
        self._carry(row)
        if self.high > 1:
            self.carried[len(row)] = (_raised(bare("".join(self.cell))), self.high - 1)
        row += [_raised(bare("".join(self.cell))), *[SPAN] * (self.wide - 1)]
        self._carry(row)
        self.cell = None

    def _carry(self, row: list[str]) -> None:
        """Put in what reaches down from the rows above."""
        while len(row) in self.carried:
            text, left = self.carried.pop(len(row))
            if left > 1:
                self.carried[len(row)] = (text, left - 1)
            row.append(text)


def html_tables(text: str) -> list[Block]:
    """The tables of an HTML text."""
    reader = _Tables()
    reader.feed(text)
    reader.close()
    return [block for block in reader.blocks if block.lines]


# --- CSV -------------------------------------------------------------------------------------------------------------

_DELIMITERS = (",", ";", "\t")
_ALIGNED = re.compile(r" {2,}|\t")
"""What parts the columns of a text that was copied from a page."""


def csv_table(text: str, name: str) -> list[Block]:
    """The table of a CSV text, or of one whose columns are aligned with spaces. Raises `BenchError`."""
    first = [line for line in text.splitlines() if line.strip()][:20]
    delimiter = max(_DELIMITERS, key=lambda mark: (sum(mark in line for line in first), "".join(first).count(mark)))
    aligned = [len(_ALIGNED.split(line.strip())) for line in first]
    parted = sum(count >= 3 for count in aligned) > len(aligned) / 2
    head = next((line for line, count in zip(first, aligned, strict=True) if count >= 3), "")
    if '"' not in text and parted and head.count(delimiter) < 2:
        rows = [(i, _ALIGNED.split(line.strip())) for i, line in enumerate(text.splitlines(), 1) if line.strip()]
        return [_even([(i, [bare(cell) for cell in cells]) for i, cells in rows])]
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    lines: list[Cells] = []
    try:
        for cells in reader:
            lines.append((reader.line_num, [" ".join(cell.split())[:LONGEST_CELL] for cell in cells]))
    except csv.Error as error:
        raise BenchError(f"{name}, line {reader.line_num}: {error}: mend the quotation marks.") from error
    # Where semicolons or tabs part the cells a comma may be the decimal mark, and a point parts thousands.
    if delimiter != "," and any(_DECIMAL_COMMA.fullmatch(cell) for _, cells in lines for cell in cells):
        lines = [(number, [_with_points(cell) for cell in cells]) for number, cells in lines]
    return [_even(lines)]


_UNIT = r"\s*[A-Za-z%]{0,6}"
_DECIMAL_COMMA = re.compile(rf"[\d.]+,\d{{1,2}}{_UNIT}")


def with_decimal_points(lines: Sequence[Cells]) -> list[Cells]:
    """The lines with points for decimal commas, where two numbers have such a comma and none has a decimal point."""
    numbers = [cell for _, cells in lines for cell in cells if re.fullmatch(rf"\d[\d.,]*{_UNIT}", cell)]
    commas = sum(bool(_DECIMAL_COMMA.fullmatch(cell)) for cell in numbers)
    points = any(re.search(r"\.\d{1,2}(?!\d)", cell) for cell in numbers)
    if commas < 2 or points:
        return list(lines)
    return [(number, [_with_points(cell) for cell in cells]) for number, cells in lines]


def _even(lines: Sequence[Cells]) -> Block:
    """The lines but those with another number of cells than most: a comma that is missing moves every number."""
    counts = [len(cells) for _, cells in lines if len(cells) > 1]
    usual = max(dict.fromkeys(counts), key=counts.count, default=0)
    block = Block()
    for number, cells in lines:
        filled = sum(map(bool, cells))
        if filled > 1 and len(cells) != usual and any(cells[usual:] if len(cells) > usual else cells):
            said = f"{len(cells)} cells stand in a table of {usual} columns: the line is left out, mend its separators"
            block.problems.append((number, said))
        else:
            block.lines.append((number, cells))
    return block


def _with_points(cell: str) -> str:
    """A number with a decimal comma as others write it: `1.226,5` is `1226.5`."""
    if re.fullmatch(rf"(\d{{1,3}}(\.\d{{3}})+(,\d+)?|\d+,\d+){_UNIT}", cell):
        return cell.replace(".", "").replace(",", ".")
    return cell


def titled(blocks: Sequence[Block], text: str) -> list[Block]:
    """The tables of a page, each with the heading above it, where it has no caption."""
    heads = [
        (number, line)
        for number, line in enumerate(text.splitlines(), 1)
        if re.match(r"\s*(#+ |<h\d)", line, re.IGNORECASE)
    ]

    def above(block: Block) -> str:
        at = bisect_right(heads, block.lines[0][0], key=itemgetter(0))
        return bare(heads[at - 1][1].strip("# ")) if at else ""

    return [Block(block.title or above(block), block.lines, block.problems) for block in blocks]
