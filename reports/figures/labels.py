"""Labels of points on axes: measured by the renderer, placed by `place`, with a leader line where one had to move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from visionbench.reports.figures import canvas
from visionbench.reports.figures.canvas import Sheet
from visionbench.reports.figures.place import Box, Label, Place, Scene, Segment, place
from visionbench.reports.figures.style import POINT, SMALL, tinted

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARGIN = 0.25
"""Millimetres around a label that stay free."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """A point in data coordinates, what it is called, and the radius of its mark and of its bubble in mm.

    `hue` of the palette tints the text, so that it is known whose it is; the user's own are `bold`.
    """

    x: float
    y: float
    text: str
    radius: float
    bubble: float = 0.0
    hue: str = "black"
    bold: bool = False


def attach(
    sheet: Sheet,
    axes: Axes,
    tags: Sequence[Tag],
    *,
    lines: Sequence[tuple[tuple[float, float], ...]] = (),
    hard: Sequence[Box] = (),
) -> tuple[str, ...]:
    """Write the tags' texts onto the axes (whose limits must be final); returns those for which there was no room.

    `lines` are polylines in data coordinates that labels had better not cross, `hard` boxes in mm that they may not.
    """
    spots = [canvas.spot(axes, tag.x, tag.y) for tag in tags]
    marks = [_square(x, y, tag.radius) for (x, y), tag in zip(spots, tags, strict=True)]
    bubbles = [_square(x, y, 0.8 * tag.bubble) for (x, y), tag in zip(spots, tags, strict=True) if tag.bubble]
    drawn = [[canvas.spot(axes, *point) for point in polyline] for polyline in lines]
    segments = [Segment(x0=a[0], y0=a[1], x1=b[0], y1=b[1]) for line in drawn for a, b in pairwise(line)]
    scene = Scene(canvas=canvas.frame(axes), hard=(*marks, *hard), soft=tuple(bubbles), lines=tuple(segments))
    wanted = []
    for tag, (x, y) in zip(tags, spots, strict=True):
        width, height = (side + 2 * MARGIN for side in canvas.size(tag.text, SMALL, tag.bold))
        wanted.append(Label(x=x, y=y, width=width, height=height, radius=tag.radius))
    missing = []
    for tag, found in zip(tags, place(tuple(wanted), scene), strict=True):
        if found:
            _write(sheet, tag, found)
        else:
            missing.append(tag.text)
    return tuple(missing)


def _write(sheet: Sheet, tag: Tag, found: Place) -> None:
    from matplotlib.lines import Line2D

    box, ends, theme = found.box, found.leader, sheet.look.theme
    x, y, colour = (box.left + box.right) / 2, (box.bottom + box.top) / 2, tinted(theme, tag.hue)
    canvas.write(sheet, x, y, tag.text, points=SMALL, colour=colour, bold=tag.bold, across="center", vertical="center")
    if ends:
        across = [end / sheet.look.width for end in (ends.x0, ends.x1)]
        up = [end / sheet.height for end in (ends.y0, ends.y1)]
        sheet.figure.add_artist(Line2D(across, up, color=theme.muted, linewidth=0.4))


def _square(x: float, y: float, radius: float) -> Box:
    return Box(left=x - radius, bottom=y - radius, right=x + radius, top=y + radius)


def ring(axes: Axes, x: float, y: float, radius: float, colour: str) -> None:
    """What sets a user's own point off from the others: a circle around its mark, of that radius in mm."""
    style: Any = {"markersize": 2 * radius / POINT, "markeredgecolor": colour, "markeredgewidth": 1.0}
    axes.plot([x], [y], "o", markerfacecolor="none", zorder=5, **style)


def left_out(sheet: Sheet, axes: Axes, missing: Sequence[str]) -> None:
    """Say in the axes' upper corner how many labels found no room; nothing where all did."""
    if missing:
        frame, words = canvas.frame(axes), f"{len(missing)} more without a label"
        canvas.write(sheet, frame.right, frame.top + 0.5, words, points=SMALL, across="right", vertical="bottom")
