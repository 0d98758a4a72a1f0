"""Figures of a paper, regenerated: records and comparisons in, an SVG, PDF or PNG out. No torch, no GPU, no display.

    file = draw("figure1", Evidence(records=store.read(path).records), theme="dark", file_format="svg")

A new figure is one file with a pure function from evidence to frozen data, a function that paints it, and its entry
here. Importing this costs nothing: matplotlib is loaded by the first `draw`.
"""

from __future__ import annotations

from visionbench.record.errors import choose
from visionbench.reports.figures import (
    accuracy_flops,
    canvas,
    effects,
    memory_curve,
    roadmap,
    roofline,
    scaling,
    throughput_accuracy,
)
from visionbench.reports.figures.canvas import FORMATS, Format
from visionbench.reports.figures.figure import Choice, Drawing, Evidence, MissingError, Need
from visionbench.reports.figures.style import COLUMN, PAGE, THEMES, Look, ThemeName

FIGURES: dict[str, Drawing] = {
    module.DRAWING.name: module.DRAWING
    for module in (accuracy_flops, roadmap, throughput_accuracy, memory_curve, roofline, effects, scaling)
}

WIDTHS: dict[str, float] = {"page": PAGE, "column": COLUMN}
"""Millimetres by name."""

__all__ = ["FIGURES", "FORMATS", "THEMES", "WIDTHS", "Choice", "Evidence", "MissingError", "Need", "ThemeName", "draw"]


def draw(
    name: str,
    evidence: Evidence,
    *,
    theme: ThemeName = "light",
    file_format: Format = "svg",
    width: float = PAGE,
) -> bytes:
    """The figure of that name as a file. The same evidence gives the same bytes with the same matplotlib.

    Raises `BenchError` for an unknown name, `MissingError` (a `BenchError`) where there is nothing to draw.
    """
    chosen = FIGURES[choose("figure", name, FIGURES)]
    look = Look(theme=THEMES[theme], width=width)
    with canvas.styled(look):
        figure = chosen.paint(evidence, look)
        return canvas.encode(figure, file_format, canvas.words(figure, canvas.HEAD), canvas.words(figure))
