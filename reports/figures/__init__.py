"""Figures of a paper, regenerated: records and comparisons in, an SVG, PDF or PNG out. No torch, no GPU, no display.

    file = draw("figure1", Evidence(records=store.read(path).records), theme="dark", file_format="svg")

A new figure is one file with a pure function from evidence to frozen data, a function that paints it, and its entry
here. Importing this costs nothing: matplotlib is loaded by the first `draw`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from visionbench.record.errors import choose
from visionbench.reports.figures import (
    accuracy_flops,
    canvas,
    effects,
    history,
    memory_curve,
    roadmap,
    roofline,
    scaling,
    throughput_accuracy,
)
from visionbench.reports.figures.canvas import FORMATS, Format, height_of
from visionbench.reports.figures.figure import Choice, Drawing, Evidence, MissingError, Need
from visionbench.reports.figures.style import COLUMN, PAGE, SLIDE, SLIDE_ASPECT, THEMES, Look, ThemeName

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURES: dict[str, Drawing] = {
    module.DRAWING.name: module.DRAWING
    for module in (accuracy_flops, roadmap, throughput_accuracy, memory_curve, roofline, effects, scaling, history)
}

WIDTHS: dict[str, float] = {"page": PAGE, "column": COLUMN, "slide": SLIDE}
"""Millimetres by name."""

TALLEST = 230.0
"""Millimetres of a printed page's text: a higher figure fits no page."""

__all__ = [
    "FIGURES",
    "FORMATS",
    "TALLEST",
    "THEMES",
    "WIDTHS",
    "Choice",
    "Evidence",
    "MissingError",
    "Need",
    "ThemeName",
    "draw",
    "height_of",
]


def draw(
    name: str,
    evidence: Evidence,
    *,
    theme: ThemeName = "light",
    file_format: Format = "svg",
    width: float = PAGE,
    slide: bool = False,
) -> bytes:
    """The figure of that name as a file. The same evidence gives the same bytes with the same matplotlib.

    A `slide` is 16:9, without notes, its type as large as its content allows.

    Raises `BenchError` for an unknown name, `MissingError` (a `BenchError`) where there is nothing to draw.
    """
    chosen = FIGURES[choose("figure", name, FIGURES)]
    look = Look(theme=THEMES[theme], width=SLIDE if slide else width, slide=slide)
    with canvas.styled(look):
        return canvas.encode(_painted(chosen, evidence, look), file_format, slide=slide)


def _painted(drawing: Drawing, evidence: Evidence, look: Look) -> Figure:
    """The figure; on a slide that is too small for it everything is laid out smaller."""
    try:
        return drawing.paint(evidence, look)
    except canvas.TooTallError as error:
        return _painted(drawing, evidence, replace(look, width=error.height * SLIDE_ASPECT + 0.1))
