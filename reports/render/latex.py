r"""A table as LaTeX: a `table` environment that compiles where `booktabs` is loaded, and needs nothing else.

Marks hang over the column's edge (`\rlap`), so that numbers stay aligned. Sources by typography: published
roman, computed sans serif, measured bold, predicted italic; bold never means best.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from bench.record.record import Source
from reports.table import Cell, Column, Row, Table, column_notes, footnotes, head_lines, spans

STYLES: dict[Source, str] = {
    "computed": r"\textsf{{{}}}",
    "measured": r"\textbf{{{}}}",
    "predicted": r"\textit{{{}}}",
}

_SYMBOLS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    '"': "''",
    "`": "`",
    "●": r"$\bullet$",
    "○": r"$\circ$",
    "–": "--",
    "−": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "→": r"$\rightarrow$",
    "…": r"\dots{}",
}
"""What LaTeX would read as a command, and every character beyond ASCII that we write ourselves."""


def escape(text: str) -> str:
    """Text that any LaTeX engine shows as it is; a foreign character becomes its nearest ASCII, or a question mark."""
    quoted = re.sub(r'"([^"]*)"', "``\\1''", text).replace("->", "→")
    return "".join(_SYMBOLS.get(char) or (char if char.isascii() else _ascii(char)) for char in quoted)


def _ascii(char: str) -> str:
    plain = unicodedata.normalize("NFKD", char).encode("ascii", "ignore").decode()
    return "".join(_SYMBOLS.get(part, part) for part in plain) or "?"


def latex(table: Table) -> str:
    r"""The whole environment, from `\begin{table}` to `\end{table}`."""
    align = "".join("l" if column.align == "left" else "r" for column in table.columns)
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}[p]",
        r"\centering\footnotesize\setlength{\tabcolsep}{4pt}",
        rf"\caption{{{escape(table.title)}}}\label{{tab:{table.name}}}",
        rf"\begin{{tabular}}{{@{{}}{align}@{{}}}}",
        r"\toprule",
        *_heads(table.columns),
        r"\midrule",
        *_rows(table),
        r"\bottomrule",
        r"\end{tabular}",
        r"\par\medskip\begin{minipage}{\linewidth}\scriptsize\raggedright",
        *_notes(table),
        r"\end{minipage}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _heads(columns: tuple[Column, ...]) -> Iterator[str]:
    runs = list(spans(columns))
    if any(group for group, _, _ in runs):
        yield _line(_over(group, last - first) for group, first, last in runs)
        yield "".join(rf"\cmidrule(lr){{{first + 1}-{last}}}" for group, first, last in runs if group)
    for line in head_lines(columns):
        yield _line(escape(text) for text in line)


def _over(group: str, count: int) -> str:
    return rf"\multicolumn{{{count}}}{{{'c' if count > 1 else 'r'}}}{{{escape(group)}}}" if group else ""


def _line(parts: Iterator[str]) -> str:
    return " & ".join(parts) + r" \\"


def _rows(table: Table) -> Iterator[str]:
    marks = footnotes(table)
    section = ""
    for row in table.rows:
        if row.section != section:
            yield from [r"\midrule"] if section else []
            yield rf"\multicolumn{{{len(row.cells)}}}{{@{{}}l}}{{\textit{{{escape(row.section)}}}}} \\"
            section = row.section
        elif row.gap:
            yield r"\addlinespace"
        yield _row(row, marks)


def _row(row: Row, marks: dict[str, str]) -> str:
    return _line(_cell(cell, marks) for cell in row.cells)


def _cell(cell: Cell, marks: dict[str, str]) -> str:
    span = f" {escape(cell.span)}" if cell.span else ""
    notes = ",".join(marks[note] for note in cell.notes)
    return dress(cell.text, cell.source) + span + (rf"\rlap{{\textsuperscript{{{notes}}}}}" if notes else "")


def dress(text: str, source: Source | None) -> str:
    """A text in the typography of its source."""
    style = STYLES.get(source, "{}") if source else "{}"
    return style.format(escape(text))


def _notes(table: Table) -> Iterator[str]:
    legend = [f"{dress(note.term, note.source)}: {escape(note.text)}" for note in table.legend]
    yield from [rf"{'; '.join(legend)}.\par"] if legend else []
    for note in column_notes(table):
        yield rf"{escape(note.term)}: {escape(note.text)}\par"
    for text, mark in footnotes(table).items():
        yield rf"\textsuperscript{{{mark}}} {escape(text)}\par"
    for remark in table.remarks:
        code = re.split(r"`([^`]*)`", remark)
        yield (
            "".join(rf"\texttt{{{escape(part)}}}" if i % 2 else escape(part) for i, part in enumerate(code)) + r"\par"
        )
