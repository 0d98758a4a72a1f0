"""Panels of a body and their axes: where they stand, what they are called, and ticks that read as numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from visionbench.record.units import first_of
from visionbench.reports.figures import canvas
from visionbench.reports.figures.canvas import Entry, Sheet
from visionbench.reports.figures.figure import MissingError
from visionbench.reports.figures.style import BODY, SMALL, Look

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from visionbench.reports.figures.figure import Evidence
    from visionbench.reports.printed import PaperRow

T = TypeVar("T")

LEFT, RIGHT, ABOVE, BELOW, BETWEEN = 9.0, 2.5, 8.0, 8.5, 3.0
"""Millimetres around a panel's frame: tick labels, name and unit, and the distance to its neighbour."""


def sheet(
    look: Look,
    title: str,
    count: int,
    each: float,
    sentences: Sequence[str],
    legend: Sequence[Entry],
    flexible: bool = True,
) -> tuple[Sheet, list[Axes]]:
    """A sheet with panels of `each` mm and their axes: two in a row, or above each other where it is narrow."""
    body = each * (count if look.narrow else math.ceil(count / 2))
    made = canvas.sheet(look, title, body, sentences, legend, flexible=flexible)
    return made, _stand(made, count)


def tops(sections: Iterable[str], row: float, section: float) -> list[float]:
    """The upper edge of each row, in mm below the body's top: `row` mm each, and `section` more where one begins."""
    edges, at, before = [], 0.0, ""
    for name in sections:
        at += section if name != before else 0.0
        edges.append(at)
        at, before = at + row, name
    return edges


MOST = 2
"""Panels that a slide has room for."""


def of_files(shown: Iterable[PaperRow]) -> str:
    """One sentence about the accuracy of the user's own rows, which no paper of the figure prints; "" without any."""
    own = dict.fromkeys((row.label, row.printed["top1"].source) for row in shown if row.own)
    said = ", ".join(f"{label} ({source})" if source else label for label, source in own)
    return f"Emphasised: accuracy as their own table states it: {said}." if said else ""


def whose_accuracy(evidence: Evidence, published: str, shown: Iterable[PaperRow]) -> tuple[str, str]:
    """Where the accuracy of what is `shown` stands: in a table that is drawn alone, or as `published` and in the user's
    own tables.
    """
    if not evidence.alone:
        return published, of_files(shown)
    sources = dict.fromkeys(row.printed["top1"].source for row in evidence.rows if "top1" in row.printed)
    return f"Accuracy: as printed ({first_of(tuple(sources))}); 224 px unless @ says otherwise.", ""


def chosen(figure: str, named: Mapping[str, T], words: Sequence[str], look: Look) -> list[T]:
    """The panels whose names contain one of the words (all without any), in the words' order.

    Raises `MissingError` for a word that no panel has, and for more panels than a slide holds.
    """
    found: dict[str, T] = {} if words else dict(named)
    listed = "; ".join(f"'{name}'" for name in named)
    for word in words:
        its = {name: panel for name, panel in named.items() if word.lower() in name.lower()}
        if not its:
            raise MissingError(f"{figure} has no panel '{word}': --panels takes parts of these names: {listed}.")
        found |= its
    if look.slide and len(found) > MOST:
        raise MissingError(
            f"{figure} has {len(found)} panels and a slide holds {MOST}: name parts of some of {listed} with --panels."
        )
    return list(found.values())


def _stand(sheet: Sheet, count: int) -> list[Axes]:
    """Axes for that many panels, row by row, in the sheet's body; one that would be alone in its row gets all of it."""
    columns = 1 if sheet.look.narrow or count == 1 else 2
    each = (sheet.top - sheet.bottom) / math.ceil(count / columns)
    width = (sheet.look.width - BETWEEN * (columns - 1)) / columns
    made = []
    for place in range(count):
        row, column = divmod(place, columns)
        left = column * (width + BETWEEN) + LEFT
        bottom = sheet.top - (row + 1) * each + BELOW
        wide = sheet.look.width if columns == 2 and column == 0 and place == count - 1 else width
        made.append(canvas.axes(sheet, left, bottom, wide - LEFT - RIGHT, each - ABOVE - BELOW))
    return made


def name(sheet: Sheet, axes: Axes, title: str, upward: str, across: str) -> None:
    """A panel's title, the words of its vertical axis below it, and those of its horizontal axis."""
    frame, muted = canvas.frame(axes), sheet.look.theme.muted
    left = frame.left - LEFT + canvas.EDGE
    sizes = (BODY, (BODY + SMALL) / 2, SMALL)
    room = frame.right + RIGHT - left
    points = next((size for size in sizes if len(canvas.wrapped(title, size, room, bold=True)) == 1), SMALL)
    canvas.write(sheet, left, frame.top + 4.2, title, points=points, bold=True)
    canvas.write(sheet, left, frame.top + 1.2, upward, points=SMALL, colour=muted)
    below(sheet, axes, across)


def below(sheet: Sheet, axes: Axes, words: str) -> None:
    """The words of a horizontal axis, in the middle below its ticks."""
    frame, colour = canvas.frame(axes), sheet.look.theme.muted
    middle = (frame.left + frame.right) / 2
    canvas.write(sheet, middle, frame.bottom - BELOW + 1.0, words, points=SMALL, colour=colour, across="center")


FEWEST_TICKS = 3
"""With fewer a value cannot be read off."""


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2, 5, 10, 20, ...: those within; 1, 10, 100, ... where that would be many, even steps where too few."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if len(decades) <= 4 else (1, 3) if len(decades) <= 5 else (1,)
    found = [tick for decade in decades for step in steps if low <= (tick := step * 10.0**decade) <= high]
    return found if len(found) >= FEWEST_TICKS else even_ticks(low, high)


def even_ticks(low: float, high: float, about: int = 6) -> list[float]:
    """Round numbers in even steps: those within."""
    rough = (high - low) / about
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(m * magnitude for m in (1, 2, 5, 10) if m * magnitude >= rough)
    return [step * k for k in range(math.ceil(low / step), math.floor(high / step + 1e-9) + 1)]


def number(value: float) -> str:
    """`0.5`, `20`, `1,000`: a tick as a number."""
    return f"{value:,.0f}" if value >= 1000 or float(value).is_integer() else f"{value:g}"


def logarithmic(axes: Axes, low: float, high: float, *, upward: bool = False) -> None:
    """One axis on a logarithmic scale from `low` to `high`, with plain numbers at its ticks."""
    axis = axes.yaxis if upward else axes.xaxis
    (axes.set_yscale if upward else axes.set_xscale)("log")
    (axes.set_ylim if upward else axes.set_xlim)(low, high)
    ticks = log_ticks(low, high)
    axis.set_ticks(ticks, labels=[number(tick) for tick in ticks])
    axis.set_ticks([], minor=True)


def linear(axes: Axes, low: float, high: float, *, upward: bool = False, about: int = 6) -> None:
    """One axis from `low` to `high`, with round numbers at its ticks."""
    axis = axes.yaxis if upward else axes.xaxis
    (axes.set_ylim if upward else axes.set_xlim)(low, high)
    ticks = even_ticks(low, high, about)
    digits = 0 if all(abs(tick - round(tick)) < 1e-9 for tick in ticks) else 1
    axis.set_ticks(ticks, labels=[f"{tick:,.{digits}f}" for tick in ticks])


def margins(values: Sequence[float], share: float = 0.08) -> tuple[float, float]:
    """A little more than the values span."""
    low, high = min(values), max(values)
    margin = (high - low or abs(high) or 1.0) * share
    return low - margin, high + margin


def around(values: Sequence[float], radii: Sequence[float], length: float, pad: float = 4.0) -> tuple[float, float]:
    """Limits of an axis of `length` mm within which every value has room for a disc of its radius in mm, and `pad`."""
    low, high = margins(values)
    for _ in range(30 if max(values) > min(values) else 0):
        unit = (high - low) / length
        low = min(value - (radius + pad) * unit for value, radius in zip(values, radii, strict=True))
        high = max(value + (radius + pad) * unit for value, radius in zip(values, radii, strict=True))
    return low, high


def inner(axes: Axes) -> tuple[float, float]:
    """Width and height of the frame, in mm."""
    frame = canvas.frame(axes)
    return frame.right - frame.left, frame.top - frame.bottom
