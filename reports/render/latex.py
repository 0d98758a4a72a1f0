r"""A table as LaTeX: a `table` environment that compiles where `booktabs` is loaded, and needs nothing else.

Marks hang over the column's edge (`\rlap`), so that numbers stay aligned. Sources by typography: published
roman, computed sans serif, measured bold, predicted italic; bold never means best.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from visionbench.record.record import Source
from visionbench.reports.fold import fold, short_spans
from visionbench.reports.table import (
    DASH,
    Cell,
    Heading,
    Row,
    Table,
    column_notes,
    footnotes,
    head_lines,
    shortened,
    spans,
)

STYLES: dict[Source | None, str] = {
    "computed": r"\textsf{{{}}}",
    "measured": r"\textbf{{{}}}",
    "predicted": r"\textit{{{}}}",
}

_GREEK = (
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu", "xi",
    "", "pi", "rho", "", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega",
)  # fmt: skip

_SYMBOLS = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": "$<$", ">": "$>$", "|": "$|$", '"': "''", "`": "`",
    "●": r"$\bullet$", "○": r"$\circ$", "–": "--", "—": "---", "‐": "-", "‑": "-", "−": "$-$", "±": r"$\pm$",
    "×": r"$\times$", "·": r"$\cdot$", "→": r"$\rightarrow$", "↑": r"$\uparrow$", "↓": r"$\downarrow$",
    "…": r"\dots{}", "‘": "`", "’": "'", "“": "``", "”": "''", "†": r"$^{\dagger}$", "‡": r"$^{\ddagger}$",
    "§": r"\S{}", "¶": r"\P{}", "≈": r"$\approx$", "≤": r"$\leq$", "≥": r"$\geq$", "≠": r"$\neq$", "∞": r"$\infty$",
    "⋆": r"$\star$", "★": r"$\star$", "¹": "$^{1}$", "²": "$^{2}$", "³": "$^{3}$", "°": r"$^{\circ}$",
    "®": r"\textregistered{}", "™": r"\texttrademark{}", "ß": r"\ss{}", "ø": r"\o{}", "Ø": r"\O{}", "ł": r"\l{}",
    "Ł": r"\L{}", "æ": r"\ae{}", "Æ": r"\AE{}", "Δ": r"$\Delta$", "Σ": r"$\Sigma$", "Ω": r"$\Omega$",
    **{chr(ord("α") + i): rf"$\{name}$" for i, name in enumerate(_GREEK) if name},
}  # fmt: skip
"""What LaTeX would read as a command, what we write ourselves, and the marks and letters of printed labels."""

_ACCENTS = {
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u", "\u0307": ".",
    "\u0308": '"', "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0327": "c", "\u0328": "k",
}  # fmt: skip
"""Accents, as Unicode combines them with a letter and as TeX does."""


def escape(text: str) -> str:
    """Text that any LaTeX engine shows as it is; a foreign character becomes its nearest ASCII, or a question mark."""
    quoted = re.sub(r'"([^"]*)"', "``\\1''", unicodedata.normalize("NFC", text)).replace("->", "→")
    safe = "".join(_SYMBOLS.get(char) or (char if char.isascii() else _ascii(char)) for char in quoted)
    return re.sub(r"\\textasciicircum\{\}(\d+)", r"$^{\1}$", safe)


def _ascii(char: str) -> str:
    letter, *accents = tuple(unicodedata.normalize("NFD", char))
    if len(accents) == 1 and letter.isascii() and letter.isalpha() and accents[0] in _ACCENTS:
        return rf"\{_ACCENTS[accents[0]]}{{{letter}}}"
    whole = unicodedata.normalize("NFKD", char)
    if fraction := re.fullmatch("([0-9]+)\u2044([0-9]+)", whole):  # ½
        return rf"$^{{{fraction[1]}}}/_{{{fraction[2]}}}$"
    # Without its stroke a sign says the reverse.
    plain = "" if "\u0338" in whole else whole.encode("ascii", "ignore").decode()
    return "".join(_SYMBOLS.get(part, part) for part in plain) or "?"


SIZES = ((90, "footnotesize"), (130, "scriptsize"), (150, "tiny"))
"""Up to how many characters across a table is set in which size. What is wider than the last is folded: it would not
fit on a page of A4."""

TALL = 25
"""A table of more rows is set one size smaller, so that it stays on one page with its footnotes."""

PAGE, WHOLE = 50, 60
"""Lines of a page for rows, the headings of sections, and footnotes, and what a table may have that is not divided: the
lines are estimated, and the others need room for an error. What is more goes on in another float."""

SECTION, NOTE = 2.0, 95
"""Lines that a section's heading takes with its rule, and characters of a line of footnotes."""

COLUMN = 52
"""About how many characters a column of a two-column page holds. A wider table goes over both (`table*`)."""


def latex(table: Table, *, notes: bool = True) -> str:
    r"""The environment, from `\begin{table}` to `\end{table}`, and with `notes` a paragraph about its columns.

    Without it there is nothing outside of the float, so that a paper of one or two columns can `\input` it.
    """
    if _across(table) > SIZES[-1][0]:
        table = shortened(table)
    table = fold(table, lambda narrow: _across(narrow) <= SIZES[-1][0])
    splits = [any(row.cells[i].span for row in table.rows) for i in range(len(table.columns))]
    parts = [replace(table, rows=rows) for rows in _parts(table.rows)]
    float_name = "table" if notes or _across(table) <= COLUMN else "table*"
    start = [rf"\begin{{{float_name}}}[{'p' if notes else 'tp'}]"]
    start += [rf"\centering\{_size(parts[0])}\setlength{{\tabcolsep}}{{4pt}}\renewcommand{{\arraystretch}}{{0.95}}"]
    lines = [r"% needs \usepackage{booktabs}", *_lost(table)]
    for number, part in enumerate(parts, 1):
        title = escape(table.title) + (f" ({number} of {len(parts)})" if len(parts) > 1 else "")
        label = rf"\label{{tab:{table.name}}}" if number == 1 else ""
        lines += [*start, rf"\caption{{{title}}}{label}", *_body(part, splits), rf"\end{{{float_name}}}"]
        lines += [r"\clearpage"] if notes and len(parts) > 1 else []  # LaTeX keeps only so many floats waiting
    return "\n".join([*lines, *(_notes(table) if notes else ())]) + "\n"


def _parts(rows: tuple[Row, ...]) -> list[tuple[Row, ...]]:
    """The rows of each float: as many as fit on a page with their footnotes; one empty float for none."""
    if _lines(rows) <= WHOLE:
        return [rows]
    parts: list[tuple[Row, ...]] = [()]
    for row in rows:
        if parts[-1] and _lines((*parts[-1], row)) > PAGE:
            parts.append(())
        parts[-1] += (row,)
    return parts


def _lines(rows: Sequence[Row]) -> float:
    sections = sum(row.section != above for row, above in zip(rows, ("", *(row.section for row in rows)), strict=False))
    notes = {note for row in rows for cell in row.cells for note in cell.notes}
    return len(rows) + SECTION * sections + sum(map(len, notes)) / NOTE


def _body(table: Table, splits: Sequence[bool]) -> Iterator[str]:
    """The tabular, and its legend below. A column is `split` into two of TeX's where some cells have an interval."""
    kinds = zip(table.columns, splits, strict=True)
    aligns = (r"r@{\,}l" if split else "l" if column.align == "left" else "r" for column, split in kinds)
    # A wide table grows over both margins alike instead of over the right one alone.
    yield rf"\makebox[\linewidth][c]{{\begin{{tabular}}{{@{{}}{''.join(aligns)}@{{}}}}"
    yield from (r"\toprule", *_heads(table.columns, splits), r"\midrule", *_rows(table, splits))
    yield from (r"\bottomrule", r"\end{tabular}}")
    yield r"\par\medskip\begin{minipage}{\linewidth}\scriptsize\raggedright"
    yield from _legend(table)
    yield r"\end{minipage}"


PREAMBLE = r"""\documentclass[10pt]{article}
\usepackage[a4paper,margin=20mm]{geometry}
\usepackage{booktabs}
\begin{document}
"""
"""What a document needs: an engine that reads ASCII, and `booktabs`."""


def _lost(table: Table) -> list[str]:
    """A comment about the letters of other scripts, for which question marks stand, if there are any."""
    texts = [table.title, *(row.section for row in table.rows), *(c.text for row in table.rows for c in row.cells)]
    lost = dict.fromkeys(char for char in "".join(texts) if not char.isascii() and escape(char) == "?")
    codes = " ".join(f"U+{ord(char):04X}" for char in lost)
    return [f"% A ? stands for each of {codes}: LaTeX's own fonts have none of them."] if lost else []


def document(tables: str) -> str:
    """Tables as a document, which any LaTeX engine compiles."""
    return PREAMBLE + tables + "\\end{document}\n"


def _size(table: Table) -> str:
    sizes = SIZES if len(table.rows) <= TALL else SIZES[1:]
    return next((size for limit, size in sizes if _across(table) <= limit), sizes[-1][1])


def _across(table: Table) -> int:
    """About how many characters wide the table is, gaps included."""
    widths = []
    for i, column in enumerate(table.columns):
        cells = [row.cells[i] for row in table.rows]
        lengths = [len(cell.text + cell.short_span) for cell in cells]
        widths.append(max((*map(len, column.head), *lengths), default=0))
    return sum(width + 2 for width in widths)


def _heads(columns: tuple[Heading, ...], splits: Sequence[bool]) -> Iterator[str]:
    starts = [1 + at + sum(splits[:at]) for at in range(len(columns) + 1)]
    if any(column.group for column in columns):
        over, rules = [], ""
        for group, begin, end in spans(columns):
            first, last = starts[begin], starts[end] - 1
            wide = rf"\multicolumn{{{last - first + 1}}}{{{'c' if last > first else 'r'}}}{{{escape(group)}}}"
            over.append(wide if group or last > first else "")
            rules += rf"\cmidrule(lr){{{first}-{last}}}" if group else ""
        yield _line(over)
        yield rules
    for line in head_lines(columns):
        yield _line(_wide(escape(text), split) for text, split in zip(line, splits, strict=True))


def _wide(text: str, split: bool) -> str:
    """A text over the whole of a column, also where that is two in TeX."""
    return rf"\multicolumn{{2}}{{r}}{{{text}}}" if split else text


def _line(parts: Iterable[str]) -> str:
    return " & ".join(parts) + r" \\"


def _rows(table: Table, splits: Sequence[bool]) -> Iterator[str]:
    marks = footnotes(table)
    across = len(splits) + sum(splits)
    section = ""
    for row in table.rows:
        if row.section != section:
            yield from [r"\midrule"] if section else []
            heading = rf"\multicolumn{{{across}}}{{@{{}}l}}{{\textit{{{escape(row.section)}}}}} \\"
            yield from [heading] if row.section else []
            section = row.section
        elif row.gap:
            yield r"\addlinespace"
        yield _line(_cell(cell, split, marks) for cell, split in zip(row.cells, splits, strict=True))


def _cell(cell: Cell, split: bool, marks: dict[str, str]) -> str:
    notes = ",".join(marks[note] for note in cell.notes)
    mark = rf"\rlap{{\smash{{\textsuperscript{{{notes}}}}}}}" if notes else ""
    if cell.text == DASH and cell.value is None:
        return escape(DASH) + (" & " if split else "")
    if cell.value is None:
        return _wide(escape(cell.text) + mark, split)
    text = dress(cell.text, cell.source)
    return f"{text} & {escape(cell.short_span)}{mark}" if split else text + mark


def dress(text: str, source: Source | None) -> str:
    """A text in the typography of its source."""
    return STYLES.get(source, "{}").format(escape(text))


def _legend(table: Table) -> Iterator[str]:
    """What belongs right under the table: typography and footnotes, in one paragraph."""
    legend = "; ".join(f"{dress(note.term, note.source)}: {escape(note.text)}" for note in table.legend)
    yield from [f"{legend}."] if legend else []
    yield from map(escape, short_spans(table))
    yield from map(_remark, table.caveats)
    for text, mark in footnotes(table).items():
        yield rf"\textsuperscript{{{mark}}}~{escape(text)}"


def _notes(table: Table) -> Iterator[str]:
    """How the columns' numbers came about, as a paragraph of the text."""
    notes = [rf"\emph{{{escape(note.term)}}}: {escape(note.text)}" for note in column_notes(table)]
    notes += [_remark(remark) for remark in table.remarks if remark not in table.caveats]
    if notes:
        start = rf"\textbf{{Notes to Table~\ref{{tab:{table.name}}}.}}"
        yield r"\par\medskip{\footnotesize\sloppy\noindent" + " ".join((start, *notes)) + r"\par}\medskip"


def _remark(remark: str) -> str:
    """A remark, its `commands` in typewriter."""
    parts = re.split(r"`([^`]*)`", remark)
    return "".join(rf"\texttt{{{escape(part)}}}" if i % 2 else escape(part) for i, part in enumerate(parts))
