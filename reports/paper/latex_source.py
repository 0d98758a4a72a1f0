r"""The tables of a LaTeX source: lines of cells, each cell as it is read on the page.

Macros that the source defines are put in with their arguments. Others lose their name and keep their text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

from visionbench.reports.paper.markup import LONGEST_CELL, MOST_TABLES, SPAN, Block, Cells

_ENVIRONMENT = r"(?:(?:long)?tabular[xy]?|tabulary|longtable|supertabular|NiceTabular[X*]?|(?:long|tall)?tblr)\*?"
_BEGIN = re.compile(rf"\\begin\s*\{{{_ENVIRONMENT}\}}")
_END = re.compile(rf"\\end\s*\{{{_ENVIRONMENT}\}}")

_RULES = re.compile(
    r"\\(?:(?:top|mid|bottom)rule\s*(?:\[[^\]]{0,200}\])?(?![A-Za-z])|(?:hline|hdashline|centering|raggedright|small"
    r"|footnotesize|scriptsize|tiny"
    r"|normalsize|end(?:first|last)?(?:head|foot)|morecmidrules|noindent|addlinespace(?!\s*\[))(?![A-Za-z])"
    r"|(?:noalign|cline|cdashline|Xhline|[vh]space\*?)\s*\{[^}]{0,200}\}"
    r"|c?(?:mid)?rule(?:\([^)]{0,200}\))?\s*\{[^}]{0,200}\}(?:\([^)]{0,200}\))?"
    r"|Xcline\{[^}]{0,200}\}(?:\{[^}]{0,200}\})?|[hc]dashline(?:\[[^\]]{0,200}\]|\{[^}]{0,200}\})+|addlinespace\s*\[[^\]]{0,200}\]"
    r"|(?:row|cell|column|arrayrule)color(?:\[[^\]]{0,200}\])*\s*\{[^}]{0,200}\}(?:\[[^\]]{0,200}\])*|rowcolors(?:\{[^}]{0,200}\}){3}"
    r"|specialrule(?:\{[^}]{0,200}\}){3})"
)
_SYMBOLS = {
    r"\%": "%", r"\&": "\0", r"\#": "#", r"\_": "_", r"\$": "", r"\,": "\u2009", r"\;": " ", r"\:": " ", r"\ ": " ",
    r"\!": "", r"\/": "", r"\-": "", "$": "", r"\(": "", r"\)": "", "``": '"', "''": '"',
    r"\times": "x", r"\pm": "±", r"\uparrow": "↑", r"\downarrow": "↓", r"\rightarrow": "↑", r"\to": "↑",
    r"\dagger": "†", r"\ddagger": "‡", r"\dag": "†", r"\textdagger": "†", r"\textdaggerdbl": "‡",
    r"\textasteriskcentered": "*", r"\ddag": "‡", r"\S": "§", r"\P": "¶", r"\alembic": " distilled",
    r"\alambic": " distilled", r"\textemdash": "—", r"\textendash": "–", r"\textbackslash": "", r"\infty": "inf",
    r"\text{-}": "-", r"\xmark": "", r"\cmark": "", r"\ie": "i.e.", r"\eg": "e.g.", r"\ast": "*", r"\star": "*",
    r"\cdot": "x", r"\quad": " ", r"\qquad": " ", r"\slash": "/", r"\newline": " ", r"\linebreak": " ",
    r"\mega": "M", r"\giga": "G", r"\tera": "T", r"\kilo": "k",
    r"\checkmark": "", r"\bullet": "", r"\circ": "", r"\sim": "~", r"\approx": "~",
}  # fmt: skip
_SYMBOL = re.compile("|".join(
    re.escape(symbol) + (r"(?![A-Za-z])" if symbol[-1].isalpha() else "")
    for symbol in sorted(_SYMBOLS, key=len, reverse=True)
))  # fmt: skip

_NOTHING = {
    **dict.fromkeys(("ref", "label", "cref", "Cref", "autoref", "eqref", "footnote", "tablefootnote", "tnote"), 1),
    **dict.fromkeys(("phantom", "hphantom", "vphantom", "hspace", "vspace", "footnotetext", "includegraphics"), 1),
    **dict.fromkeys(("color", "ding", "definecolor", "vrule", "pagecolor", "fontshape", "caption"), 1),
    "setlength": 2, "fontsize": 2, "rule": 2, "footnotemark": 0, "strut": 0,
}  # fmt: skip
"""Macros that print no text of a cell, with how many arguments they have."""

_BEFORE_TEXT = {
    "multirow": 2, "multirowcell": 1, "textcolor": 1, "colorbox": 1, "fcolorbox": 2, "scalebox": 1, "rotatebox": 1,
    "resizebox": 2, "raisebox": 1, "adjustbox": 1, "href": 1, "parbox": 1, "hyperlink": 1, "hyperref": 0,
    "texorpdfstring": 0, "makebox": 0, "multicolumn": 2,
}  # fmt: skip
"""Macros with arguments before the one that is printed."""

_KNOWN = frozenset(
    """
    textbf textit textsl textsf texttt textsc textrm textmd textup textnormal emph underline uline mathbf mathrm mathit
    mathsf mathtt mathcal boldsymbol bm text bf it rm sc tt sf em sl best second makecell shortstack thead mbox hbox
    fbox bfseries itshape scshape upshape mdseries rmfamily sffamily ttfamily selectfont textsuperscript textsubscript
    num SI si qty unit percent xspace rlap llap mathrlap mathllap mathop ensuremath relax protect hfill hskip kern
    displaystyle textstyle scriptstyle large Large nobreakspace ensuremath leavevmode smash left right centerline
    """.split()  # noqa: SIM905 -- a list of names is read more easily without quotes
)
"""Macros whose text is a cell's."""


def tables(text: str) -> list[Block]:
    """The tables of a source, in order; one that only has lines with `&` is a table, too."""
    plain = _defined(_uncommented(text))
    spans = list(islice(_environments(plain), MOST_TABLES + 1)) or [(0, 0, len(plain))]
    return [_block(plain, *span) for span in spans]


def _uncommented(text: str) -> str:
    """The source without comments, every line in its place."""
    plain = re.sub(r"(?<!\\)((?:\\\\)*)%.*", r"\1", text)
    for begin, end in ((r"\iffalse", r"\fi"), (r"\begin{comment}", r"\end{comment}")):
        kept, at = [], 0
        while (first := plain.find(begin, at)) >= 0 and (last := plain.find(end, first)) >= 0:
            kept += [plain[at:first], "\n" * plain.count("\n", first, last)]
            at = last + len(end)
        plain = "".join((*kept, plain[at:]))
    return _LATER_PAGES.sub(lambda found: "\n" * found.group().count("\n"), plain)


_INSIDE = r"(?:(?!\\end\{).)*?"
_LATER_PAGES = re.compile(
    rf"\\endfirsthead\b{_INSIDE}\\end(?:head|foot)\b(?:{_INSIDE}\\end(?:last)?foot\b)*", re.DOTALL
)
"""What a table of several pages repeats on later ones, and below each."""


def _environments(plain: str) -> Iterator[tuple[int, int, int]]:
    """Where each outer tabular begins, where its first cell does, and where it ends."""
    marks = sorted([(m.start(), m.end(), 1) for m in _BEGIN.finditer(plain)] + [
        (m.start(), m.end(), -1) for m in _END.finditer(plain)
    ])  # fmt: skip
    depth, begin, start = 0, 0, 0
    for at, after, step in marks:
        if step > 0 and depth == 0:
            begin, start = at, _past_arguments(plain, after)
        depth = max(depth + step, 0)
        if step < 0 and depth == 0 and start:
            yield begin, start, at
            start = 0
    if start:  # never closed
        yield begin, start, len(plain)


def _past_arguments(text: str, at: int) -> int:
    """Past a tabular's width and its columns."""
    while match := re.compile(r"\s*(\[[^\]]{0,200}\]|\{)").match(text, at):
        at = match.end() if match.group(1).startswith("[") else braced(text, match.end() - 1)[1]
    return at


def _block(plain: str, begin: int, start: int, end: int) -> Block:
    block = Block(title=_caption(plain, begin, end))
    if start and not _END.match(plain, end):
        said = "the table is never closed: what stands there is read, and it may not be all"
        block.problems.append((plain.count("\n", 0, begin) + 1, said))
    carried: dict[int, tuple[str, int]] = {}
    for at, parts in _lines(plain, start, end):
        row = "&".join(parts)
        shown = [_RULES.sub(" ", part) for part in parts]
        if not any(part.strip() for part in shown):
            continue
        lead = next(m.end() for m in [re.compile(rf"(?:\s|{_RULES.pattern})*").match(row)] if m)
        number = plain.count("\n", 0, at + lead) + 1
        block.problems.extend((number, f"macro \\{name} is not known: its text is kept") for name in _unknown(shown))
        block.lines.append((number, _cells(shown, carried, block.lines)))
    return block


def _caption(plain: str, begin: int, end: int) -> str:
    """The caption of the float that the tabular stands in."""
    floats = [m.start() for m in re.finditer(r"\\begin\{(?:wrap)?table\*?\}|\\begin\{longtable\}", plain[: begin + 1])]
    first = floats[-1] if floats else 0
    last = re.compile(r"\\end\{(?:wrap)?table\*?\}|\\begin\{(?:wrap)?table\*?\}").search(plain, end)
    match = re.compile(r"\\(?:caption|captionof\{table\})(\[[^\]]{0,200}\])?\s*\{").search(
        plain, first, last.start() if last else len(plain)
    )
    return words(braced(plain, match.end() - 1)[0]) if match else ""


_MARK = re.compile(
    rf"{_BEGIN.pattern}|{_END.pattern}|\\tabularnewline"
    rf"|\\\\(?:\*)?(?:[ \t]*\[[^\]]{{0,200}}\])?|\\cr\b|\\[{{}}&]|[{{}}&]"
)


def _lines(text: str, start: int, end: int) -> Iterator[tuple[int, list[str]]]:
    """Where each line of a tabular begins, with its cells; what stands in braces or in a table of a cell parts none."""
    closed = _matched(text, start, end)
    depth, line, cell = 0, start, start
    parts: list[str] = []
    for match in _MARK.finditer(text, start, end):
        mark = match.group()
        if mark.startswith((r"\begin", r"\end")):
            depth += 1 if mark.startswith(r"\begin") else -1
        elif mark in "{}":
            depth += (1 if mark == "{" else -1) if match.start() in closed else 0
        elif depth == 0 and mark == "&":
            parts.append(text[cell : match.start()])
            cell = match.end()
        elif depth == 0 and mark not in (r"\{", r"\}", r"\&"):
            yield line, [*parts, text[cell : match.start()]]
            parts, line, cell = [], match.end(), match.end()
    yield line, [*parts, text[cell:end]]


def _matched(text: str, start: int, end: int) -> frozenset[int]:
    """Where the braces stand that have a partner."""
    opened: list[int] = []
    pairs: set[int] = set()
    for match in re.compile(r"\\.|[{}]", re.DOTALL).finditer(text, start, end):
        if match.group() == "{":
            opened.append(match.start())
        elif match.group() == "}" and opened:
            pairs |= {opened.pop(), match.start()}
    return frozenset(pairs)


def braced(text: str, at: int) -> tuple[str, int]:
    """What stands between the brace at `at` and its partner, and where that ends."""
    depth = 0
    for i in range(at, len(text)):
        if text[i] in "{}" and text[i - 1] != "\\":
            depth += 1 if text[i] == "{" else -1
            if depth == 0:
                return text[at + 1 : i], i + 1
    return text[at + 1 :], len(text)


# --- macros of the source --------------------------------------------------------------------------------------------

_DEFINITION = re.compile(
    r"\\(?:newcommand|renewcommand|providecommand|DeclareRobustCommand|def|gdef)\*?\s*\{?\\([A-Za-z]+)\}?"
    r"\s*(?:\[(\d)\])?(?:\[([^\]]{0,200})\])?((?:#\d)*)\s*\{"
)
_ROUNDS, _LONGEST = 5, 1_000_000
"""Macros in macros are put in so many times, and no text grows beyond so many characters."""


def _defined(text: str) -> str:
    """The text with its own macros put in, every line in its place."""
    macros: dict[str, tuple[int, str | None, str]] = {}
    while match := _DEFINITION.search(text):
        body, end = braced(text, match.end() - 1)
        count = int(match.group(2) or 0) or match.group(4).count("#")
        macros[match.group(1)] = (count, match.group(3), " ".join(body.split()))
        text = text[: match.start()] + "\n" * text.count("\n", match.start(), end) + text[end:]
    if not macros:
        return text
    names = "|".join(sorted(macros, key=len, reverse=True))
    pattern = re.compile(rf"\\({names})(?![A-Za-z])(\{{\}}|[ \t]+(?=[A-Za-z]))?")
    for _ in range(_ROUNDS):
        before = text
        text = _put_in(text, pattern, macros)
        if text == before or len(text) > _LONGEST:
            break
    return text


def _put_in(text: str, pattern: re.Pattern[str], macros: dict[str, tuple[int, str | None, str]]) -> str:
    pieces: list[str] = []
    at = size = 0
    while size < _LONGEST and (match := pattern.search(text, at)):
        count, default, body = macros[match.group(1)]
        end = match.start() + 1 + len(match.group(1)) if count else match.end()
        values: list[str] = []
        if default is not None:
            option = re.compile(r"\s*\[([^\]]{0,200})\]").match(text, end)
            values, end = [option.group(1) if option else default], option.end() if option else end
        while len(values) < count and (opening := re.compile(r"\s*\{").match(text, end)):
            value, end = braced(text, opening.end() - 1)
            values.append(value)
        for number in range(1, 10):
            body = body.replace(f"#{number}", values[number - 1] if number <= len(values) else "")
        pieces += [text[at : match.start()], body[:_LONGEST]]
        size += len(pieces[-1]) + len(pieces[-2])
        at = end
    return "".join([*pieces, text[at:]])


# --- cells -----------------------------------------------------------------------------------------------------------


def _unknown(parts: list[str]) -> list[str]:
    names = re.findall(r"(?<!\\)\\([A-Za-z]+)", " ".join(parts).replace(r"\\", " "))
    known = {*_KNOWN, *_NOTHING, *_BEFORE_TEXT, "begin", "end"}
    strange = (n for n in names if n not in known and f"\\{n}" not in _SYMBOLS and not n.lower().startswith("cite"))
    return list(dict.fromkeys(strange))


def _cells(parts: list[str], carried: dict[int, tuple[str, int]], above: list[Cells]) -> list[str]:
    """The texts of one line; cells over several rows (`carried`) are filled up, wide ones have `SPAN` behind them. A
    cell that reaches up is put into the lines `above`.
    """
    cells: list[str] = []
    for part in parts:
        width, part = _spanning(part)
        text = words(part)
        column = len(cells)
        if match := re.match(r"[\s{]*\\multirow(?:\[[^\]]{0,200}\])?\s*\{\s*(-?\d{1,3})(?:\.\d{0,9})?\s*\}", part):
            height = int(match.group(1))
            if height > 0:
                carried[column] = (text, height)
            for _, cells_above in above[height + 1 :] if height < -1 else ():
                if column < len(cells_above) and not cells_above[column]:
                    cells_above[column] = text
        if not text and column in carried:
            text = carried[column][0]
        if column in carried:
            carried[column] = (carried[column][0], carried[column][1] - 1)
            if carried[column][1] <= 0:
                del carried[column]
        cells += [text, *[SPAN] * (width - 1)]
    return cells


def _spanning(part: str) -> tuple[int, str]:
    """How many columns a cell is wide, and what is in it."""
    if not (match := re.match(r"\s*\\multicolumn\s*\{\s*(\d{1,3})\s*\}\s*\{", part)):
        return 1, part
    _, end = braced(part, match.end() - 1)
    opening = part.find("{", end)
    return int(match.group(1)), braced(part, opening)[0] if opening >= 0 else part[end:]


def words(part: str) -> str:
    """The text of a cell: macros lose their name, marks are kept."""
    part = part[:LONGEST_CELL]
    text = re.sub(
        rf"{_BEGIN.pattern}\s*(\[[^\]]{{0,200}}\])?\{{(?:[^{{}}]|\{{[^{{}}]*\}})*\}}|{_END.pattern}", " ", part
    )
    text = re.sub(r"\\\\(\[[^\]]{0,200}\])?", " ", text)
    text = _SYMBOL.sub(lambda match: _SYMBOLS[match.group()], text)
    text = _without_macros(text)
    text = re.sub(r"\{\s*\}", "", text)
    text = re.sub(r"\}\s*\{", "} {", text)
    text = re.sub(r"\^\s*\{?\s*(?=[^\w\s{+-])|(?<=\w)\^\{?(?=[a-z]\b)", "", text)  # marks that are raised
    text = text.replace("\0", "&").replace("{", "").replace("}", "").replace("~", " ").replace("\\", "")
    return re.sub(r"[ \t\r\n]+", " ", text).strip().rstrip("^")


_MACRO = re.compile(r"\\([A-Za-z]+)\*?[ \t]*")


def _without_macros(text: str) -> str:
    pieces: list[str] = []
    at = 0
    while match := _MACRO.search(text, at):
        pieces.append(text[at : match.start()])
        name, at = match.group(1), match.end()
        cited = name.lower().startswith("cite")
        if not cited and name not in _NOTHING and name not in _BEFORE_TEXT:
            pieces.append({"textsuperscript": "^", "textsubscript": "_"}.get(name, ""))
            while option := re.compile(r"\[[^\]]{0,200}\](?=\s*[{\[])").match(text, at):
                at = option.end()
            continue
        count = 1 if cited else _NOTHING.get(name, _BEFORE_TEXT.get(name, 0))
        while option := re.compile(r"\s*\[[^\]]{0,200}\]").match(text, at):
            at = option.end()
        for _ in range(count):
            if name == "multirow" and (starred := re.compile(r"\s*[*=]").match(text, at)):
                at = starred.end()
            elif opening := re.compile(r"\s*\{").match(text, at):
                at = braced(text, opening.end() - 1)[1]
            while option := re.compile(r"\s*\[[^\]]{0,200}\]").match(text, at):
                at = option.end()
    return "".join([*pieces, text[at:]])
