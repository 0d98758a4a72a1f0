"""The figures of a page: each in a light and a dark dress and at two widths, as images that hold all that they need.

An image in a data URI is a separate document: no script runs in it, nothing is fetched, and its ids meet no others. A
figure for which there is nothing to draw is left out. All of them at two widths would outgrow the page, so the narrow
ones stop at a budget; a phone without one scrolls the wide one sideways.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from visionbench.reports.figures import FIGURES, WIDTHS, Evidence, MissingError, ThemeName, draw
from visionbench.reports.render.html.markup import text

BUDGET = 1_900_000
"""Bytes that all images of a page may take."""

THEMES: tuple[ThemeName, ThemeName] = ("light", "dark")


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One figure as SVG, light and dark. `narrow` is the same for a phone, or ()."""

    name: str
    title: str
    wide: tuple[bytes, bytes]
    narrow: tuple[bytes, bytes] | tuple[()] = ()

    @property
    def description(self) -> str:
        """What the picture says of itself for those who cannot see it."""
        found = re.search(r"<desc>(.*?)</desc>", self.wide[0].decode(), flags=re.DOTALL)
        return html.unescape(found[1]).strip() if found else self.title


def pictures(evidence: Evidence, names: Iterable[str] = tuple(FIGURES)) -> tuple[Picture, ...]:
    """The figures of those names for which there is something to draw."""
    wide = []
    for name in names:
        with suppress(MissingError):
            drawn = _both(name, evidence, WIDTHS["page"])
            wide.append(Picture(name=name, title=FIGURES[name].title, wide=drawn))
    room = BUDGET - sum(len(_address(svg)) for one in wide for svg in one.wide)
    made = []
    for one in wide:
        narrow = _both(one.name, evidence, WIDTHS["column"]) if room > 0 else ()
        room -= sum(len(_address(svg)) for svg in narrow)
        made.append(replace(one, narrow=narrow) if room >= 0 else one)
    return tuple(made)


def _both(name: str, evidence: Evidence, width: float) -> tuple[bytes, bytes]:
    light, dark = (draw(name, evidence, theme=theme, width=width) for theme in THEMES)
    return light, dark


_GLYPH = re.compile(r'<use xlink:href="#([^"]+)" transform="translate\(([\d.]+) 0(?:\.0*)?\)"/>')
"""A letter behind the first of its line, as matplotlib writes it."""

COARSER = 16
"""A letter's outline is drawn on a grid of 1/64 of its font's size over 64; a sixteenth of that is enough."""


def _path(found: re.Match[str]) -> str:
    """The outline of a path without needless blanks; of a letter in whole numbers of few digits."""
    drawn, letter = found.groups()
    if letter:
        drawn = re.sub(r"-?[\d.]+", lambda number: str(round(float(number[0]) / COARSER)), drawn)
    scale = f' transform="scale({COARSER / 64:g})"' if letter else ""
    return f' d="{re.sub(r" ?([A-Za-z]) ?", lambda step: step[1], " ".join(drawn.split()))}"{scale}'


def _address(svg: bytes) -> str:
    """A data URI: percent-encoded where an address or an attribute needs it, which is shorter than base64.

    Left out are matplotlib's comments, the ids that nothing refers to, and what is below a tenth of a point.
    """
    compact = re.sub(r"<!--.*?-->| id=\"[A-Za-z2.]+_\d+\"", "", svg.decode(), flags=re.DOTALL)
    compact = re.sub(r"<(title|desc)>.*?</\1>", "", compact, flags=re.DOTALL)  # the image's `alt` says it
    compact = re.sub(r"\b([1-9]\d*\.\d)\d+", r"\1", compact)  # factors of scales are below 1, and stay
    compact = _GLYPH.sub(r'<use href="#\1" x="\2"/>', compact).replace("xlink:href=", "href=")
    compact = re.sub(r' d="([^"]*)"( transform="scale\(0\.015625\)")?', _path, compact)
    compact = re.sub(r'style="[^"]*"', lambda style: style[0].replace(": ", ":").replace("; ", ";"), compact)
    compact = re.sub(r"\s+", " ", re.sub(r">\s+<", "><", compact)).replace(' "', '"').replace("DejaVuSans-", "g")
    for character, code in (("%", "%25"), ("#", "%23"), ("&", "%26"), ("'", "%27"), ('"', "'")):
        compact = compact.replace(character, code)
    return f"data:image/svg+xml,{compact}"


def section(shown: Sequence[Picture]) -> str:
    """The section of all figures; nothing for none."""
    title, body = '<h2 id="figures-title">Figures</h2>', "".join(map(_figure, shown))
    return f'<section id="figures" aria-labelledby="figures-title">{title}{body}</section>' if shown else ""


def _figure(one: Picture) -> str:
    """One image per dress and width; the style sheet shows the one that fits, and hides the others from everybody."""
    alt, images = text(f"{one.title}. {one.description}"), ""
    for width, pair in (("wide", one.wide), ("narrow", one.narrow)):
        for theme, svg in zip(THEMES, pair, strict=False):
            css = f"{theme} {width if one.narrow else 'only'}"
            images += f'<img class="{css}" alt="{alt}" src="{_address(svg)}">'
    css = "" if one.narrow else ' class="scrolls" tabindex="0"'
    hint = "" if one.narrow else "<figcaption>Wider than this window: scroll it sideways.</figcaption>"
    return f'<figure id="figure-{text(one.name)}"{css}>{hint}{images}</figure>\n'
