"""The whole document: head with its policy, bar of contents, tables, figures, environments, protocols.

It is a pure function of what is recorded: no clock, no machine, so that the same records give the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import count
from pathlib import Path
from types import MappingProxyType

from visionbench.comparison.comparison import Comparison
from visionbench.record.record import Record
from visionbench.reports.render.html import evidence as behind
from visionbench.reports.render.html import parts, picture
from visionbench.reports.render.html.grid import WIDEST, section
from visionbench.reports.render.html.markup import identifier, text
from visionbench.reports.render.html.picture import Picture
from visionbench.reports.table import Table

FOLDER = Path(__file__).parent

TITLE = "Vision models, counted and measured"


def page(
    tables: Sequence[Table],
    figures: Sequence[Picture] = (),
    records: Sequence[Record] = (),
    comparisons: Sequence[Comparison] = (),
    *,
    summary: Mapping[str, Sequence[str]] = MappingProxyType({}),
    title: str = TITLE,
    version: str = "",
) -> str:
    """The document, ready to be written to a file and opened from there.

    `records` and `comparisons` are what the tables were laid out from: their environments and protocols are listed.
    `summary` is what stands on top: sentences by their heading. `version` is visionbench's own.
    """
    places = behind.places_of(behind.environments(records, comparisons))
    named = list(zip(anchors([table.name for table in tables]), tables, strict=True))
    sections = "".join(section(table, places, ident) for ident, table in named)
    protocols = parts.measuring(records, tables)
    day = parts.newest(records, comparisons)
    by = ("visionbench " + version).strip() + (f", newest record of {day}" if day else "")
    there = [("summary", "In short", summary), ("figures", "Figures", figures)]
    bar = parts.contents([(ident, words) for ident, words, what in there if what], named, protocol=bool(protocols))
    body = (
        f'<a class="skip" href="#tables">Skip to the tables</a>\n{bar}\n'
        f'<header id="top"><p class="by">{text(by)}</p><h1>{text(title)}</h1>{parts.lead(tables)}</header>\n'
        f'<main id="tables">\n{parts.summary(summary)}{parts.tiles(tables)}{picture.section(figures)}\n{sections}'
        f"{parts.environments(records, comparisons, places)}{protocols}</main>\n"
        f"<footer><p>{text(by)}. One file: nothing is fetched, nothing is sent.</p></footer>\n"
    )
    return _document(title, body)


PARTS = frozenset(("top", "tip", "tables", "summary", "figures", "environments", "protocols"))
"""Ids of the page's own parts."""


def anchors(names: Sequence[str]) -> list[str]:
    """An id per table: its name, so that a link can be written by hand; with a number where that is taken."""
    taken, made = set(PARTS), []
    for word in map(identifier, names):
        number = next(number for number in count(1) if (word if number == 1 else f"{word}-{number}") not in taken)
        made.append(word if number == 1 else f"{word}-{number}")
        taken.add(made[-1])
    return made


def _document(title: str, body: str) -> str:
    style, script = _asset("page.css") + _widths(), _asset("page.js")
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<meta name="referrer" content="no-referrer">\n'
        f"<title>{text(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n{body}"
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


@lru_cache(maxsize=2)
def _asset(file: str) -> str:
    return (FOLDER / file).read_text(encoding="utf-8")


def _widths() -> str:
    """A class for each width of the place behind a number: inline styles are forbidden by the policy."""
    return "".join(f".w{width}{{min-width:{width * 0.5 + 0.3:.2f}em}}" for width in range(1, WIDEST + 1)) + "\n"


def _hash(inline: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()}'"
