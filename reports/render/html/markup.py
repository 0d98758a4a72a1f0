"""Text into HTML. Whatever comes from a record, a model's name or a note is hostile until it has been through here."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

from visionbench.record.clean import clean
from visionbench.record.record import Source
from visionbench.reports.table import HEADS, Cell

SOURCES: dict[Source, tuple[str, str]] = {
    "published": ("p", "span"),
    "computed": ("c", "code"),
    "measured": ("m", "b"),
    "predicted": ("e", "i"),
}
"""Source -> its class, and the element that dresses a number: plain, monospaced, bold, italic."""

_LINKS = re.compile(r"`([^`]*)`|\barXiv (\d{4}\.\d{4,5}(?:v\d+)?)\b")


def text(words: str) -> str:
    """Words that a browser shows as they are, in an element or in a quoted attribute."""
    return html.escape("\n".join(map(clean, words.split("\n"))))


def prose(words: str) -> str:
    """As `text`; `commands` become code and papers of arXiv become links."""
    parts, at = [], 0
    for found in _LINKS.finditer(words):
        parts.append(text(words[at : found.start()]))
        command, paper = found.groups()
        parts.append(f"<code>{text(command)}</code>" if paper is None else link(arxiv(paper), f"arXiv {paper}"))
        at = found.end()
    return "".join(parts) + text(words[at:])


def arxiv(paper: str) -> str:
    """The address of a paper's abstract."""
    return f"https://arxiv.org/abs/{paper}"


def link(address: str, words: str) -> str:
    """A link that says nothing about where it was clicked."""
    return f'<a href="{text(address)}" rel="noreferrer">{text(words)}</a>'


def identifier(words: str) -> str:
    """A table's name as an id and as a file's name: `convnext_table12` stays as it is."""
    return re.sub(r"[^\w-]+", "-", words, flags=re.ASCII).strip("-") or "x"


def dress(words: str, source: Source | None) -> str:
    """Words in the typography of their source."""
    if source is None:
        return text(words)
    css, element = SOURCES[source]
    return f'<{element} class="{css}">{text(words)}</{element}>'


def head(column_head: Iterable[str], source: Source | None) -> str:
    """The lines of a column's header; the word of its source in that source's dress."""
    word = HEADS[source] if source else None
    return "<br>".join(dress(line, source) if line == word else text(line) for line in column_head)


def is_number(cell: Cell) -> bool:
    """Whether a cell holds a number rather than a word."""
    return isinstance(cell.value, (int, float)) and not isinstance(cell.value, bool)


def pairs(facts: Iterable[tuple[str, str]]) -> str:
    """A list of terms and what they are, which is HTML already."""
    return "<dl>" + "".join(f"<div><dt>{text(term)}</dt><dd>{what}</dd></div>" for term, what in facts) + "</dl>"
