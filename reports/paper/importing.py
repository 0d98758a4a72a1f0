r"""A printed table, as LaTeX, Markdown, HTML or CSV, read into rows: labels, sections and numbers, as printed.

What cannot be read is kept as a remark with its line, and so is a column that a paper's file has no word for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import pairwise
from statistics import median

from visionbench.record.errors import BenchError
from visionbench.reports.paper import latex_source, markup
from visionbench.reports.paper.markup import SPAN, Block, Cells

_RATE = r"through?put|\bth?r\.|\btp\b|fps|(img|im|image|images|imgs|samples?)\s*\.?\s*(/|per)\s*s|speed"

HEADERS: tuple[tuple[str, str], ...] = (
    (r"latency|\bms\b|energy|epoch|pre.?train|\bdata\b|\bgain\b|error bar|\bbatch|\bpatch|\bwindow|\bkernel", ""),
    (r"\b[mb]?ap\b|\bap_?\d|\bap\^|m?iou\b|top.?[2-9]|(acc|prec|err)\w*\.?[ @_-]*5", ""),
    (r"imagenet.?(v2|real|[acr]\b|sketch)|\bv2\b|\breal\b|\bin-?[acr]\b|cifar", ""),
    (rf"(?=.*\b(train|tr\.))(?=.*({_RATE}))", "train img/s"),
    (_RATE, "img/s"),
    (r"\bpar(am|em|as?\b)|#\s*p(\b|\(|$)|model size.*\(m\)", "params"),
    (r"flop|\b[mgt]?macs?\b|m-?adds?\b|mult", "flops"),
    (r"model size|disk|download", ""),
    (r"\b(size|res|resol\w*|inputs?|pixels?|px|crop)\b|^\W*(image|img)s?\W*$", "size"),
    (r"(top.?1|acc\w*|in-?1k)?.*\berr(or)?\b", "error"),
    (r"top.?1|\bacc|\bprec@|imagenet(?!.?2[12])|\bin-?1k\b", "top1"),
    (r"\bmem", "memory"),
    (r"^\W*(type|category|group|family|class|kind|paradigm|(model|network|arch\w*|backbone)\W*type)\W*$", "section"),
    (r"model|method|network|backbone|arch|name|variant|encoder|approach|\bnet\b", "label"),
)
"""What a column's header says, by the first pattern that it has: "" for what a paper's file has no word for."""

OTHER_TASK = re.compile(r"coco|ade-?20k|detect|segm|mask r-?cnn|retinanet|upernet|cityscapes|\bvoc\b|kinetics")
"""Words of a header that speak of another network than the classifier."""

DENSE = re.compile(r"\b[mb]?ap\b|\bap_?\d|\bap\^|m?iou\b", re.IGNORECASE)
"""Headers of a table of detectors or of networks for segmentation."""

MEGA, GIGA = 6, 9
EXPONENTS = {"": 0, "k": 3, "m": 6, "b": 9, "g": 9, "t": 12}
"""What a suffix, or a unit in the header, means as a power of ten."""

UNITS = {"params": MEGA, "flops": GIGA, "memory": GIGA}
"""The powers of ten that a paper's file has: params in M, FLOPs in G, memory in GB."""

SAID = "size, params, FLOPs, img/s, training img/s, top-1 and memory"

_LETTER = r"(k|m|b|g|t)(?:illions?|io|ln|flops?|macs?|madds?|params?|ib|b)?"
_UNIT = re.compile(
    rf"[(\[][^)\]]*?(?<![a-z]){_LETTER}(?![a-z/])[^)\]]*[)\]]|\b([kmgt])(?:flops?|macs?|madds?|b)\b|[,/]\s*{_LETTER}\s*$"
)
_POWER = re.compile(r"(?:10\s*\^?\s*|1?e)(6|9|12)\b")
"""A unit in a column's header, in small letters: `FLOPs (M)`, `GMACs`, `#params (x10^6)`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A row of the printed table: the `number` of its line, and its texts by key of a paper's file. `dense`: the
    header speaks of a detector or of segmentation, so the name is its backbone's.
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


@dataclass(frozen=True, slots=True)
class Column:
    """A column that is read: the key of a paper's file, and the power of ten that its header gives, None for none.
    Of a cell with several numbers, `82.1 / 95.9`, it is the `part`-th of `parts`.
    """

    key: str
    word: str
    exponent: int | None
    part: int = 0
    parts: int = 1


Group = dict[int, list[Column]]
"""The columns of one network, by their place; a line of two networks has two groups."""


@dataclass(frozen=True, slots=True)
class Head:
    """The header of a table: its groups of columns, what it leaves out, what was `said` of its units, its words."""

    groups: tuple[Group, ...]
    left_out: tuple[str, ...]
    said: tuple[str, ...]
    words: tuple[str, ...]


MOST = 500_000
"""Characters of a file: the source of a whole paper has fewer."""


def parse(text: str, name: str) -> tuple[Printed, ...]:
    """The printed tables in a text. `name` is the file's. Raises `BenchError` where there is none."""
    if len(text) > MOST:
        raise BenchError(f"{name} has more than {MOST:,} characters: give the tables alone.")
    blocks = [block for block in _blocks(text, name) if block.lines]
    tables = [(block, _read(block)) for block in blocks]
    readable = [printed for _, printed in tables if printed and printed.rows]
    if not readable:
        first = blocks[0].lines[0][0] if blocks else 1
        if any(printed for _, printed in tables):
            raise BenchError(f"{name}, line {first}: no row stands below the header: give the whole table.")
        raise BenchError(f"{name}, line {first}: no line names columns such as model, params, FLOPs: add a header.")
    for block, printed in tables:
        if not (printed and printed.rows):
            said = f"line {block.lines[0][0]}: the table has no columns such as model, params, FLOPs: it is left out"
            readable.append(Printed(title="", rows=(), problems=(said,)))
    return tuple(readable)


def _blocks(text: str, name: str) -> list[Block]:
    after_ampersands = (line.partition("&")[2] for line in text.split("\n"))
    if r"\begin{" in text or any("\\\\" in line or r"\tabularnewline" in line for line in after_ampersands):
        return latex_source.tables(text)
    if re.search(r"<t[rd][\s>]", text, re.IGNORECASE):
        blocks = markup.html_tables(text)
        return sorted([*blocks, *markup.markdown(text)], key=lambda block: block.lines[0][0] if block.lines else 0)
    if re.search(r"^[ \t]*\|.*\|", text, re.MULTILINE) or any(map(markup.is_separator, text.splitlines())):
        return markup.markdown(text)
    if re.search(r"[,;\t]|\S {2,}\S", text):
        return markup.csv_table(text, name)
    raise BenchError(f"{name}: neither LaTeX (&, \\\\), Markdown (|), HTML nor CSV: give a table in one of them.")


# --- header ----------------------------------------------------------------------------------------------------------

_DEEPEST = 3
"""So many lines a header may have."""


def _header_at(lines: Sequence[Cells], at: int) -> int:
    """How many lines from there on are a header; 0 for none."""
    deep = 0
    while deep < _DEEPEST and at + deep < len(lines) and _may_be_header(lines[at + deep][1]):
        deep += 1
        joined = _joined(lines[at : at + deep])
        keys = {_key_of(word) for word in joined} - {""}
        if len(keys) < 2:
            continue
        while deep < _DEEPEST and at + deep < len(lines) and _continues(lines[at + deep][1], joined):
            deep += 1
        return deep
    return 0


def _may_be_header(cells: Sequence[str]) -> bool:
    """Whether no number stands in the line, and it is no title of what follows: one cell, as wide as the table."""
    title = cells[1:] and cells[0] and all(cell in ("", SPAN) for cell in cells[1:])
    return not title and not _has_numbers(cells)


def _has_numbers(cells: Sequence[str]) -> bool:
    return any(re.fullmatch(r"[~≈<>]?\s*\d[\d.,]*\s*(%|[kmgbt]\w{0,5})?", cell.lower()) for cell in cells)


def _continues(cells: Sequence[str], above: Sequence[str]) -> bool:
    """Whether a line says more about the columns: it names no network of its own, and no number stands in it."""
    filled = [cell for cell in cells if cell not in ("", SPAN)]
    label = next((i for i, word in enumerate(above) if _key_of(word) == "label"), -1)
    own = cells[label] if 0 <= label < len(cells) else ""
    return len(filled) > 1 and (own in ("", SPAN) or own == above[label]) and not _has_numbers(cells)


def _joined(lines: Sequence[Cells]) -> list[str]:
    """What the lines of a header say of each column; a wide cell speaks of all below it."""
    width = max((len(cells) for _, cells in lines), default=0)
    words: list[list[str]] = [[] for _ in range(width)]
    for _, cells in lines:
        spread = ""
        for i, cell in enumerate(cells):
            spread = spread if cell == SPAN else cell
            if spread and spread not in words[i]:
                words[i].append(spread)
    return [" ".join(parts) for parts in words]


def _key_of(word: str) -> str:
    plain = re.sub(r"[_\s]+", " ", word[:200].lower()).strip()
    return next((key for pattern, key in HEADERS if plain and re.search(pattern, plain)), "")


def _parts(word: str) -> list[str]:
    """The names of a header for several numbers, `Params / FLOPs`; one part for `img / s`."""
    parts = [part.strip() for part in re.split(r"\s*[/|]\s*", word)]
    named = len(parts) > 1 and all(re.search(r"param|flop|mac|madd|top|acc|size", part.lower()) for part in parts)
    return parts if named else [word]


def _heading(lines: Sequence[Cells], body: Sequence[Cells]) -> Head:
    """The columns of a header: one group of them for each network that a line holds."""
    words = [word[:200] for word in _joined(lines)]
    starts = _starts(words)
    groups: list[Group] = []
    left_out: list[str] = []
    said: list[str] = []
    for first, last in zip(starts, [*starts[1:], len(words)], strict=True):
        group, rest = _group(words, first, last, mixed=any(OTHER_TASK.search(word.lower()) for word in words))
        group, taken = _stated(group, body)
        groups.append(group)
        left_out += rest if first == starts[0] else []
        said += taken
    return Head(tuple(groups), tuple(dict.fromkeys(left_out)), tuple(dict.fromkeys(said)), tuple(words))


def _starts(words: Sequence[str]) -> list[int]:
    """Where the columns of each network of a line begin: at the label, where the header says it again."""
    labels = [i for i, word in enumerate(words) if _key_of(word) == "label"]
    same = [i for i in labels if words[i] == words[labels[0]]]
    if len(same) > 1 and all(b - a > 1 for a, b in pairwise(same)):
        return [0, *same[1:]]
    return [0]


def _group(words: Sequence[str], first: int, last: int, *, mixed: bool) -> tuple[Group, list[str]]:
    """The columns of one network, and the words of those that are left out."""
    group: Group = {}
    seen: dict[str, int] = {}
    left_out: list[str] = []
    for i in range(first, last):
        for part, word in enumerate(parts := _parts(words[i])):
            key = _key_of(word)
            foreign = mixed and OTHER_TASK.search(word.lower()) and key not in ("label", "section", "size")
            tested = key == "size" and key in seen and re.search(r"test|eval|infer", word.lower())
            if key == "error":
                key = "" if "top1" in {_key_of(other) for other in words[first:last]} else key
            if tested:
                left_out += [group.pop(seen[key])[0].word]
            elif not key or foreign or key in seen:
                left_out += [word] if word else []
                continue
            seen[key] = i
            group.setdefault(i, []).append(Column(key, word, _exponent(word), part, len(parts)))
    if "label" not in seen:
        free = [i for i in range(first, last) if i not in group and not words[i]] or [
            i for i in range(first, last) if i not in group
        ]
        if free:
            group[free[0]] = [Column("label", words[free[0]], None)]
            left_out = [word for word in left_out if word != words[free[0]]]
    return group, left_out


def _exponent(word: str) -> int | None:
    lower = word.lower()
    if power := _POWER.search(lower):
        return int(power.group(1))
    match = _UNIT.search(lower[:200])
    return EXPONENTS[next(filter(None, match.groups()))] if match else None


# --- rows ------------------------------------------------------------------------------------------------------------


def _read(block: Block) -> Printed | None:
    """The table of a block; None where no line names columns."""
    rows: list[Line] = []
    problems = list(block.problems)
    head: Head | None = None
    section, at, gpu = "", 0, ""
    lines = [line for line in block.lines if any(cell not in ("", SPAN) for cell in line[1])]
    while at < len(lines):
        if deep := _header_at(lines, at):
            said = head
            head = _heading(lines[at : at + deep], lines[at + deep :])
            if said is None or head.words != said.words:
                problems += _remarks(head, lines[at][0])
                gpu = gpu or _gpu(head)
                section = section if said is None else ""
            at += deep
            continue
        number, cells = lines[at]
        at += 1
        if head is None:
            continue
        filled = [cell for cell in cells if cell not in ("", SPAN)]
        if len(filled) == 1 and not _has_numbers(filled):
            section = filled[0]
            continue
        rows += _lines_of(number, cells, head, section, rows[-1] if rows else None)
    if head is None:
        return None
    problems += [(row.number, said) for row in rows for said in row.unread]
    told = tuple(f"line {number}: {said}" for number, said in sorted(problems, key=lambda problem: problem[0]))
    return Printed(title=block.title, rows=tuple(rows), problems=told, gpu=gpu)


def _remarks(head: Head, number: int) -> list[tuple[int, str]]:
    """What a reader should know of a header: what is left out of it, and what its numbers are taken for."""
    said = [(number, text) for text in head.said]
    if head.left_out:
        names = ", ".join(f"'{word}'" for word in head.left_out)
        noun, verb = ("column", "is") if len(head.left_out) == 1 else ("columns", "are")
        said.append((number, f"{noun} {names} {verb} left out: a row has one each of {SAID}"))
    return said


_CARD = re.compile(
    r"\b([VAHPTLB]\d{1,4}[GS]?|(?:RTX|GTX|TITAN) ?\w+(?: Ti)?|[1-5]0[5-9]0(?: ?Ti)?|GH?B?200|TPU\w*|CPU)\b"
)


def _gpu(head: Head) -> str:
    """The card that a header names for the images per second that are read."""
    rates = (column.word for columns in head.groups[0].values() for column in columns if column.key == "img/s")
    return next((match.group(1) for word in rates if (match := _CARD.search(word))), "")


def _is_dense(head: Head) -> bool:
    keys = {column.key for columns in head.groups[0].values() for column in columns}
    return "top1" not in keys and "error" not in keys and any(DENSE.search(word) for word in head.words)


def _lines_of(number: int, cells: Sequence[str], head: Head, section: str, above: Line | None) -> Iterator[Line]:
    """The rows of a line: one per network that it holds."""
    for group in head.groups:
        values: dict[str, str] = {}
        unread = []
        for i, columns in group.items():
            text = cells[i].strip() if i < len(cells) and cells[i] != SPAN else ""
            for column in columns:
                part = _part(text, column)
                value = _value(column, part)
                if value is None:
                    unread.append(f"{column.key} = '{part}' is no number")
                elif value:
                    values[column.key] = value
        own = values.pop("section", section)
        if "error" in values:
            values["top1"] = f"{100 - Decimal(values.pop('error'))}"
        if "label" not in values and above and above.section == own and group is head.groups[0]:
            values = {"label": above.values.get("label", ""), **values}  # a blank name is the one above
        if values.keys() - {"label"} or unread or (values and len(head.groups) == 1):
            yield Line(number=number, section=own, values=values, unread=tuple(unread), dense=_is_dense(head))


def _part(text: str, column: Column) -> str:
    """The text of one column of a cell that may hold several."""
    if column.parts == 1:
        return text
    parts = re.split(r"\s*[/|]\s*", text)
    return parts[column.part] if column.part < len(parts) else ""


_MISSING = frozenset(("", "-", "--", "---", "–", "—", "n/a", "na", "n.a", "nan", "none", "?", "/", "✗", "×"))

_DIGITS = re.compile(
    r"(\d+(?:\.\d+)?|\.\d+)(?:(?:[x×·]10\^?|e\+?)(\d{1,2}))?"
    r"(?:(k|m|b|g|t)(?:illions?|il|io|ln|flops?|macs?|madds?|params?|i?b)?)?(?:flops|fps|(?:img|im|image)s?/s)?"
)


_REFERENCE = re.compile(r"\s*\[(\d+(\s*[,–-]\s*\d+)*|paper|code|arxiv|link)\]")
"""What a label has in brackets and is no part of a name."""


def _value(column: Column, text: str) -> str | None:
    """A cell's text as a paper's file has it; "" for an empty cell, None for what cannot be read."""
    if column.key in ("label", "section"):
        return _REFERENCE.sub("", text.replace("\u2009", " ")).strip()
    if column.key == "size":
        return _size(text)
    return _number(column, text)


def _size(text: str) -> str | None:
    plain = re.sub(r"\^\{?2\}?|²|\*\*2|[†‡§¶*]|px|pixels", "", text.lower())
    plain = re.sub(r"\(.*?\)|\[.*?\]", "", plain).strip() or plain.strip(" ()[]")
    if plain in _MISSING:
        return ""
    sides = re.fullmatch(r"(?:3\s*[x×,]\s*)?(\d+)(?:\s*[x×,]\s*(\d+))?(?:\s*[x×,]\s*3)?", plain)
    if not sides or not all(8 <= int(side) <= 10_000 for side in sides.groups() if side):
        return None
    height, width = sides.group(1), sides.group(2) or sides.group(1)
    return height if height == width else f"{height}x{width}"


def _number(column: Column, text: str) -> str | None:
    """The digits of a printed number in the unit of its key.

    A comma parts thousands; `25,6` is no number.
    """
    plain = re.sub(r"\(.*?\)|\[.*?\]|[_^]?\s*±.*|\^?[%*†‡§¶↑↓~≈⚗]", "", text.replace("−", "-").lower())
    plain = re.sub(r"(?<=\w)\s*\+\s*[\d.]+.*|(?<!10)[_^].*", "", plain)  # gains, and what is raised or lowered
    plain = re.sub(r"(?<=\d)[,'\u2009\u202f](?=\d{3}(?!\d))", "", plain.strip())
    if plain.strip(".") in _MISSING:
        return ""
    plain = re.sub(r"(?<=\d)\s+(?=[a-z×])|(?<=[x×])\s+(?=10)", "", plain)
    if not (match := _DIGITS.fullmatch(plain)):
        return None
    digits, power, suffix = match.groups()
    unit = UNITS.get(column.key)
    if unit is None:
        shift = {None: 0, "k": 3}.get(suffix if column.key.endswith("img/s") else suffix and "no")
        return None if shift is None or power else _moved(digits, shift)
    plainly_counted = column.exponent is None and column.key != "memory" and float(digits) >= _A_COUNT
    exponent = column.exponent if column.exponent is not None else 0 if plainly_counted else unit
    if power or suffix:
        exponent = int(power or 0) + EXPONENTS[suffix or ""]
    if column.key == "flops" and suffix == "k":
        return None
    return _moved(digits, exponent - unit)


_A_COUNT = 100_000
"""A number without a unit that is as large is no number of millions."""


def _moved(digits: str, places: int) -> str:
    """The decimal point moved and no digit lost: 305 M -> 0.305 G."""
    return f"{Decimal(digits).scaleb(places):f}" if places or digits.startswith(".") else digits


# --- units that nobody states ----------------------------------------------------------------------------------------

_MILLIONS = 20
"""FLOPs in G over params in M: classifiers have 0.02 to 2, so where the quotient is larger, the FLOPs are in M."""


def _stated(group: Group, body: Sequence[Cells]) -> tuple[Group, list[str]]:
    """The columns with the units that their numbers can only have, and what was taken for granted."""
    bare = {column.key: _bare_numbers(i, column, body) for i, cs in group.items() for column in cs}
    said: list[str] = []
    changed: Group = {}
    for i, columns in group.items():
        changed[i] = list(columns)
        for at, column in enumerate(columns):
            numbers = bare[column.key]
            if column.key not in ("params", "flops") or column.exponent is not None or not numbers:
                continue
            word, middle = column.word, median(numbers)
            params = bare.get("params") or [0.0]
            if middle >= _A_COUNT:
                continue
            if column.key == "flops" and median(params) and middle / median(params) > _MILLIONS:
                changed[i][at] = replace(column, exponent=MEGA)
                said.append(f"'{word}' has no unit and is taken as millions: write {word} (M) or {word} (G) there")
            elif middle > (_MANY if column.key == "flops" else 10 * _MANY):
                unit = "G" if column.key == "flops" else "M"
                said.append(f"'{word}' has no unit and is taken as {unit}: write {word} (M) or {word} (G) there")
    return changed, said


_MANY = 200
"""Few networks have more FLOPs in G, or ten times as many params in M."""


def _bare_numbers(place: int, column: Column, body: Sequence[Cells]) -> list[float]:
    """The numbers of a column that have no unit of their own."""
    texts = (_part(cells[place], column) for _, cells in body if place < len(cells))
    plain = (re.sub(r",(?=\d{3}(?!\d))|[*†‡%]|\(.*?\)", "", text).strip() for text in texts)
    return [float(text) for text in plain if re.fullmatch(r"\d+(\.\d+)?", text)]
