"""Shares of a whole as horizontal bars, each with its name on the left and its percentage at its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from visionbench.reports.figures import canvas, panels
from visionbench.reports.figures.canvas import Sheet
from visionbench.reports.figures.style import SMALL

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw(sheet: Sheet, axes: Axes, bars: Sequence[tuple[str, float, str]]) -> None:
    """(name, share of 1, hue) from the top down. The frame moves right as far as the names need."""
    theme, frame = sheet.look.theme, axes.get_position()
    shift = (max(canvas.size(name, SMALL)[0] for name, _, _ in bars) - panels.LEFT + 4.0) / sheet.look.width
    axes.set_position((frame.x0 + shift, frame.y0, frame.width - shift, frame.height))
    panels.linear(axes, 0, max(share for _, share, _ in bars) * 118)
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.set_yticks(range(len(bars)), [name for name, _, _ in bars], color=theme.ink)
    axes.grid(False, axis="y")
    for place, (_, share, hue) in enumerate(bars):
        axes.barh(place, share * 100, 0.62, color=theme.hues[hue], zorder=2)
        _percentage(sheet, axes, share, (place + 0.6) / (len(bars) + 0.2))


def _percentage(sheet: Sheet, axes: Axes, share: float, down: float) -> None:
    """Beyond the bar's end; `down` is its share of the frame's height from above."""
    frame, (width, height) = axes.get_position(), panels.inner(sheet, axes)
    x = frame.x0 * sheet.look.width + share * 100 / axes.get_xlim()[1] * width + 0.8
    text = f"{100 * share:.1f} %" if share >= 0.001 else "< 0.1 %"
    canvas.write(sheet, x, frame.y1 * sheet.height - down * height, text, points=SMALL, vertical="center")
