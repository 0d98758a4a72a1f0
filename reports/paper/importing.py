r"""A printed table, as LaTeX, Markdown or CSV, read into rows: labels, sections and numbers, as printed.

What cannot be read is kept as a remark with its line. Macros lose their name and keep their text, `\\newcommand` and
`\\def` without arguments are put in.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from visionbench.record.errors import BenchError

HEADERS: tuple[tuple[str, str], ...] = (
    (r"\b(image|input|img|eval|test|train)?\.?\s*(size|res|resolution)\b", "size"),
    (r"train\w*\s*(throughput|img/s|im/s|images/s)", "train img/s"),
    (r"throughput|fps|(img|im|image|images|imgs)\s*\.?\s*/\s*s", "img/s"),
    (r"#?\s*par(a|e)m", "params"),
    (r"flops|macs|madds|mult", "flops"),
    (r"top.?1|acc|imagenet", "top1"),
    (r"mem", "memory"),
    (r"model|method|network|backbone|arch|name|variant", "label"),
)
"""What a column's header says, by the first pattern that it has."""

SCALES = {
    "params": {"": 1.0, "k": 1e-3, "m": 1.0, "b": 1e3, "g": 1e3},
    "flops": {"": 1.0, "m": 1e-3, "g": 1.0, "b": 1.0, "t": 1e3},
}
"""How a suffix, or a unit in the header, moves the decimal point: params in M, FLOPs in G."""

UNIT = re.compile(r"[(\[]\s*([kmbgt])(?:illion|flops|macs|madds?|params?)?\s*[)\]]|\b([kmgt])(?:flops|macs|madds?)\b")
"""A unit in a column's header, in small letters: `FLOPs (M)`, `GMACs`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A row of the printed table: the `number` of its line, and its texts by key of a paper's file."""

    number: int
    section: str
    values: dict[str, str]
    unread: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Printed:
    """A printed table: its rows in order, its caption, and what could not be read, each with its line."""

    title: str
    rows: tuple[Line, ...]
    problems: tuple[str, ...]


Cells = tuple[int, list[str]]
"""A line's number with the texts of its cells."""

Keys = dict[int, tuple[str, str]]
"""What each column is, by its place: the key, and the unit of the header, "" for none."""


def parse(text: str, name: str) -> Printed:
    """The printed table in a text. `name` is the file's. Raises `BenchError` where there is no table in it."""
    title = ""
    problems: list[tuple[int, str]] = []
    if r"\begin{tabular" in text or re.search(r"&.*\\\\", text):
        title, lines, problems = _latex(text)
    elif re.search(r"^\s*\|.*\|", text, re.MULTILINE):
        lines = list(_markdown(text))
    elif "," in text or "\t" in text or ";" in text:
        lines = list(_csv(text, name))
    else:
        raise BenchError(f"{name}: neither LaTeX (&, \\\\), Markdown (|) nor CSV: give a table in one of them.")
    at, keys = _head(lines, name)
    rows = tuple(_rows(lines[at + 1 :], keys))
    if not rows:
        raise BenchError(f"{name}, line {lines[at][0]}: no row stands below the header: give the whole table.")
    unread = [f"line {row.number}: {said}" for row in rows for said in row.unread]
    return Printed(title=title, rows=rows, problems=(*(f"line {n}: {said}" for n, said in problems), *unread))


def _head(lines: Sequence[Cells], name: str) -> tuple[int, Keys]:
    """The (last) line that names the columns, with what each is. Raises `BenchError`."""
    for at, (_, cells) in enumerate(lines):
        words, last = list(cells), at
        # A header may have two lines: the second says more, or the units.
        if at + 1 < len(lines) and _is_words(lines[at + 1][1]):
            below = lines[at + 1][1]
            words = [" ".join(pair) for pair in zip_longest(words, below, fillvalue="")]
            last = at + 1
        keys: dict[int, str] = {}
        for i, word in enumerate(words):
            key = next((key for pattern, key in HEADERS if re.search(pattern, word.lower())), "")
            if key and key not in keys.values():
                keys[i] = key
        if len(keys) >= 2:
            if "label" not in keys.values():
                free = [i for i in range(len(words)) if i not in keys]
                keys |= {free[0]: "label"} if free else {}
            return last, {i: (key, _unit(words[i])) for i, key in keys.items()}
    first = lines[0][0] if lines else 1
    raise BenchError(f"{name}, line {first}: no line names columns such as model, params, FLOPs: add a header.")


def _unit(word: str) -> str:
    match = UNIT.search(word.lower())
    return (match.group(1) or match.group(2)) if match else ""


def _is_words(cells: Sequence[str]) -> bool:
    """A line of the header: several cells, and no number in any but the 1 of top-1 and what stands in brackets."""
    filled = [cell for cell in cells if cell]
    bare = (re.sub(r"\(.*?\)|top.?[15]|acc.?1", "", cell.lower()) for cell in filled)
    return len(filled) > 1 and not any(re.search(r"\d", cell) for cell in bare)


def _rows(lines: Sequence[Cells], keys: Keys) -> Iterator[Line]:
    section = ""
    for number, cells in lines:
        filled = [cell for cell in cells if cell]
        if not filled:
            continue
        if len(filled) == 1:
            section = filled[0]
            continue
        values: dict[str, str] = {}
        unread = []
        for i, (key, unit) in keys.items():
            text = cells[i].strip() if i < len(cells) else ""
            value = text if key == "label" else _number(key, text, unit)
            if value is None:
                unread.append(f"{key} = '{text}' is no number")
            elif value:
                values[key] = value
        yield Line(number=number, section=section, values=values, unread=tuple(unread))


def _number(key: str, text: str, unit: str) -> str | None:
    """The digits of a printed number in the unit of its key; "" for an empty cell, None for a missing one.

    `unit` is the header's, for a number without a suffix. A comma parts thousands; `25,6` is no number.
    """
    plain = re.sub(r"[\s~]|,(?=\d{3}(?!\d))|\(.*?\)|\[.*?\]|[_^]?±.*|\^?[%*†‡§¶↑↓]", "", text.replace("−", "-")).lower()
    if plain in ("", "-", "--", "---", "–", "—", "n/a", "na", "?"):
        return ""
    if key == "size":
        sides = re.findall(r"\d+", plain.removesuffix("^2").removesuffix("²"))
        same = sides and len(set(sides)) == 1 and 8 <= int(sides[0]) <= 10_000
        return sides[0] if same else None
    if not (match := re.fullmatch(r"(\d+(?:\.\d+)?)(?:(k|m|b|g|t)(?:flops|macs)?)?(?:img/s|gb|mb)?", plain)):
        return None
    digits, suffix = match.group(1), match.group(2) or (unit if key in SCALES else "")
    scale = SCALES.get(key, {"": 1.0, "k": 1e3}).get(suffix)
    return None if scale is None else _moved(digits, scale)


def _moved(digits: str, scale: float) -> str:
    """The decimal point moved and no digit lost: 305 M -> 0.305 G."""
    if scale == 1.0:
        return digits
    places = round({1e-3: 3, 1e3: -3}[scale])
    decimals = len(digits.partition(".")[2]) + places
    return f"{float(digits) * scale:.{max(decimals, 0)}f}"


def _markdown(text: str) -> Iterator[Cells]:
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped.startswith("|") and not re.fullmatch(r"[|\s:-]+", stripped):
            coded = re.sub(r"`[^`]*`", lambda code: re.sub(r"(?<!\\)\|", r"\|", code.group()), stripped.strip("|"))
            cells = re.split(r"(?<!\\)\|", coded)
            yield number, [_bare(cell) for cell in cells]


def _bare(cell: str) -> str:
    """A Markdown or HTML cell without its dress."""
    linked = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", cell)
    return re.sub(r"<[^>]*>|[*`]|__|\\(?=[|_*])", "", linked).strip()


def _csv(text: str, name: str) -> Iterator[Cells]:
    first = text.splitlines()[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    # Where semicolons part the cells a comma may be the decimal mark, and a point parts thousands.
    comma = delimiter == ";" and re.search(r"(?:^|;)\s*[\d.]+,\d{1,2}\s*(?:;|$)", text, re.MULTILINE)
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            yield reader.line_num, [_with_points(cell) for cell in stripped] if comma else stripped
    except csv.Error as error:
        raise BenchError(f"{name}, line {reader.line_num}: {error}: mend the quotation marks.") from error


def _with_points(cell: str) -> str:
    """A number with a decimal comma as others write it: `1.226,5` is `1226.5`."""
    if re.fullmatch(r"\d{1,3}(\.\d{3})+(,\d+)?|\d+,\d+", cell):
        return cell.replace(".", "").replace(",", ".")
    return cell


# --- LaTeX -----------------------------------------------------------------------------------------------------------

_RULES = re.compile(
    r"\\(hline|toprule|midrule|bottomrule|centering|small|footnotesize|scriptsize|tiny|noalign\{[^}]*\}"
    r"|c(mid|)rule(\([^)]*\))?\{[^}]*\}|cline\{[^}]*\}|Xhline\{[^}]*\}|addlinespace(\[[^\]]*\])?"
    r"|(row|cell)color(\[[^\]]*\])?\{[^}]*\}|specialrule(\{[^}]*\}){3}|arrayrulecolor\{[^}]*\})"
)
_SYMBOLS = {
    r"\%": "%", r"\&": "\0", r"\#": "#", r"\_": "_", r"\$": "", r"\,": "", r"\;": " ", r"\ ": " ", r"\!": "", "$": "",
    r"\times": "x", r"\pm": "±", r"\uparrow": "", r"\downarrow": "", r"\dagger": "†", r"\ddagger": "‡", r"\dag": "†",
    r"\ddag": "‡",
    r"\checkmark": "", r"\bullet": "", r"\circ": "", r"\sim": "", r"\textbackslash": "",
}  # fmt: skip
_KNOWN = frozenset(
    """
    textbf textit textsf texttt textsc emph underline mathbf mathrm text bf it rm sc tt sf best second
    makecell multicolumn multirow citep citet cite ref footnotemark tablefootnote textcolor color scalebox
    resizebox shortstack rotatebox mbox hbox cellcolor bfseries itshape textsuperscript textsubscript
    num SI si qty unit dag ddag S P thead phantom hphantom xspace
    """.split()  # noqa: SIM905 -- a list of names is read more easily without quotes
)
"""Macros whose text is a cell's, or which have none."""


def _latex(text: str) -> tuple[str, list[Cells], list[tuple[int, str]]]:
    """The caption, the lines of the (first) tabular, and the unknown macros."""
    plain = re.sub(r"(?<!\\)%.*", "", text)
    plain = _on_one_line(_defined(plain))
    caption = re.search(r"\\caption(\[[^\]]*\])?\{", plain)
    title = _words(_braced(plain, caption.end() - 1)[0]) if caption else ""
    if begin := re.search(r"\\begin\{tabular[xy*]?\}", plain):
        end = plain.find(r"\end{tabular", begin.end())
        start = begin.end()
        body = plain[: end if end > 0 else len(plain)]
        while m := re.compile(r"\s*(\[[^\]]*\]|\{)").match(body, start):  # its width and its columns
            start = m.end() if m.group(1).startswith("[") else _braced(body, m.end() - 1)[1]
    else:
        body, start = plain, 0
    lines: list[Cells] = []
    problems: list[tuple[int, str]] = []
    carried: dict[int, tuple[str, int]] = {}
    at = start
    for row in re.split(r"\\\\(?:\[[^\]]*\])?|\\tabularnewline", body[start:]):
        lead = len(row) - len(row.lstrip())
        number = plain.count("\n", 0, at + lead) + 1
        at = body.find(row, at) + len(row)
        stripped = _RULES.sub(" ", row)
        if not stripped.strip():
            continue
        problems += [(number, f"macro \\{name} is not known: its text is kept") for name in _unknown(stripped)]
        lines.append((number, _cells(stripped, carried)))
    return title, lines, problems


_STACKED = re.compile(r"\\(?:makecell|shortstack|thead)\*?(?:\[[^\]]*\])?\{")


def _on_one_line(text: str) -> str:
    """The text with what stands in a cell's lines, which end as a row does, on one."""
    at = 0
    while match := _STACKED.search(text, at):
        body, at = _braced(text, match.end() - 1)
        flat = re.sub(r"\\\\(\[[^\]]*\])?", "  ", body)
        text = text[: match.end()] + flat + text[match.end() + len(body) :]
        at = match.end()
    return text


def _defined(text: str) -> str:
    """The text with its own macros without arguments put in."""
    pattern = re.compile(r"\\(?:newcommand\*?|renewcommand\*?|def)\s*\{?\\([A-Za-z]+)\}?\s*\{")
    macros: dict[str, str] = {}
    while match := pattern.search(text):
        body, end = _braced(text, match.end() - 1)
        macros[match.group(1)] = body
        text = text[: match.start()] + "\n" * text.count("\n", match.start(), end) + text[end:]
    for name, body in macros.items():
        text = re.sub(rf"\\{name}(?![A-Za-z])(\{{\}})?", body.replace("\\", r"\\"), text)
    return text


def _braced(text: str, at: int) -> tuple[str, int]:
    """What stands between the brace at `at` and its partner, and where that ends."""
    depth = 0
    for i in range(at, len(text)):
        if text[i] in "{}" and text[i - 1] != "\\":
            depth += 1 if text[i] == "{" else -1
            if depth == 0:
                return text[at + 1 : i], i + 1
    return text[at + 1 :], len(text)


def _unknown(row: str) -> list[str]:
    names = re.findall(r"\\([A-Za-z]+)", row)
    return list(dict.fromkeys(name for name in names if name not in _KNOWN and f"\\{name}" not in _SYMBOLS))


def _cells(row: str, carried: dict[int, tuple[str, int]]) -> list[str]:
    """The texts of one line; cells over several columns or rows (`carried`) are filled up."""
    cells: list[str] = []
    for part in re.split(r"(?<!\\)&", row):
        width, part = _spanning(part)
        text = _words(part)
        column = len(cells)
        if match := re.match(r"\s*\\multirow(?:\[[^\]]*\])?\{(\d+)\}", part):
            carried[column] = (text, int(match.group(1)))
        if not text and column in carried:
            text = carried[column][0]
        if column in carried:
            carried[column] = (carried[column][0], carried[column][1] - 1)
            if carried[column][1] <= 0:
                del carried[column]
        cells += [text, *[""] * (width - 1)]
    return cells


def _spanning(part: str) -> tuple[int, str]:
    """How many columns a cell is wide, and what is in it."""
    if not (match := re.match(r"\s*\\multicolumn\{(\d+)\}\{", part)):
        return 1, part
    _, end = _braced(part, match.end() - 1)
    opening = part.find("{", end)
    return int(match.group(1)), _braced(part, opening)[0] if opening >= 0 else part[end:]


def _words(part: str) -> str:
    """The text of a cell: macros lose their name, and of several arguments the last is kept."""
    text = part
    for symbol, plain in _SYMBOLS.items():
        text = text.replace(symbol, plain) if not symbol[1:].isalpha() else re.sub(
            re.escape(symbol) + r"(?![A-Za-z])", plain, text
        )  # fmt: skip
    text = re.sub(r"\\(cite[a-z]*|ref|label|footnotemark|tablefootnote)(\[[^\]]*\])?(\{[^}]*\})?", "", text)
    text = re.sub(r"\\(multirow|textcolor|color|scalebox|rotatebox)(\[[^\]]*\])?\{[^}]*\}(\{[^{}]*\}(?=\{))?", "", text)
    text = re.sub(r"\\[A-Za-z]+\*?(\[[^\]]*\])?", "", text)
    text = re.sub(r"\^(?=[^\w\s])|(?<=\w)\^(?=[a-z]\b)", "", text)  # marks that are raised
    text = text.replace("\0", "&").replace("{", "").replace("}", "").replace("~", " ").replace("^2", "")
    return re.sub(r"\s+", " ", text).strip()
