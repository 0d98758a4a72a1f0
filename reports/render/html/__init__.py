"""Tables, figures and evidence as one HTML file that needs nothing else: no network, no server, no other file.

`page` makes the document: head with its policy, bar of contents, tables, figures, environments, protocols. It is a pure
function of what is recorded: no clock, no machine, so that the same records give the same bytes. `pictures` draws the
figures that it shows. Style and script are data files beside this one and are embedded; a content security policy with
their hashes forbids everything else, so that the page cannot fetch, and a text of a records file cannot run. Without
the script all that it says can be read; with it tables are sorted, filtered and asked.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import chain, count
from pathlib import Path
from types import MappingProxyType

from visionbench.comparison.comparison import Comparison
from visionbench.record.record import Record
from visionbench.reports.render.html import evidence as behind
from visionbench.reports.render.html import parts, picture
from visionbench.reports.render.html.grid import WIDEST, section
from visionbench.reports.render.html.markup import identifier, text
from visionbench.reports.render.html.picture import Picture, pictures
from visionbench.reports.table import Table

__all__ = ["Picture", "page", "pictures"]

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
    day = max((where.started or "" for where in behind.environments(records, comparisons)), default="")[:10]
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
        ids = chain((word,), (f"{word}-{number}" for number in count(2)))
        made.append(next(name for name in ids if name not in taken))
        taken.add(made[-1])
    return made


def _document(title: str, body: str) -> str:
    # A class for each width of the place behind a number: inline styles are forbidden by the policy.
    widths = "".join(f".w{width}{{min-width:{width * 0.5 + 0.3:.2f}em}}" for width in range(1, WIDEST + 1))
    style, script = f"{_asset('page.css')}{widths}\n", _asset("page.js")
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


def _hash(inline: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()}'"
