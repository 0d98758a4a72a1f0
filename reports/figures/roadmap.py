"""Figure 2 of the ConvNeXt paper: from a ResNet to a ConvNeXt, one step at a time, as bars.

Accuracy (and its scatter over three runs) is as published in Tables 10 and 11; GFLOPs are ours, exact. Where the paper
prints other GFLOPs than its network has, the step carries a mark and the figure says what is printed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from visionbench.record.program import program_name
from visionbench.record.units import GIGA
from visionbench.reports.figures import canvas, panels
from visionbench.reports.figures.canvas import Entry, Sheet
from visionbench.reports.figures.figure import Drawing, Evidence, MissingError, Need, lacking
from visionbench.reports.figures.style import SMALL, Look
from visionbench.reports.paper import counts
from visionbench.reports.paper.counts import Counts
from visionbench.reports.printed import Number, PaperRow, rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME, TITLE = "figure2", "From a ResNet to a ConvNeXt, step by step (Figure 2 of the ConvNeXt paper)"

Regime = Literal["T", "B"]
REGIMES: dict[Regime, tuple[str, str, str]] = {
    "T": ("10", "ResNet-50 / Swin-T regime", "blue"),
    "B": ("11", "ResNet-200 / Swin-B regime", "grey"),
}
"""Table of the paper, name and hue."""

STEPS: dict[str, tuple[str, ...]] = {
    "baseline": ("ResNet, original recipe", "ResNet, enhanced recipe"),
    "macro design": ("stage ratio", "patchify stem"),
    "ResNeXt-ify": ("depthwise conv", "increase width"),
    "inverted bottleneck": ("inverting dimensions",),
    "large kernel": ("move up depthwise conv", *(f"kernel size {size}" for size in (5, 7, 9, 11))),
    "micro design": (
        "ReLU → GELU",
        "fewer activations",
        "fewer norms",
        "BN → LN",
        "separate d.s. conv: ConvNeXt",
    ),
    "for comparison": ("Swin",),
}
"""Sections of the rows of Tables 10 and 11, which have the same steps, and words of each row."""

TRIED = frozenset({"kernel size 9", "kernel size 11"})
"""Steps that the road does not go on from: they bring nothing, and it goes on from kernel size 7."""

START = 75.0
"""Where the axis of accuracy begins, %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One step in one regime: published accuracy and scatter in %, exact MACs, and the printed count beside them."""

    regime: Regime
    top1: float
    std: float | None
    macs: float
    printed: Number
    row: PaperRow

    @property
    def slip(self) -> bool:
        """Whether rounding cannot explain the printed count."""
        return abs(self.printed.value - self.macs) > self.printed.half_unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One step: its section of the roadmap, its words, whether it was kept, and a bar per regime."""

    section: str
    words: str
    kept: bool
    bars: tuple[Bar, ...]


def needs(evidence: Evidence) -> tuple[Need, ...]:
    """Traces of the steps' networks that are not recorded."""
    return lacking(evidence, (row.network for table, _, _ in REGIMES.values() for row in rows(table)))


def data(evidence: Evidence) -> tuple[Rung, ...]:
    """The steps in order. All of them: a roadmap with gaps would tell another story."""
    exact = counts.index(evidence.records)
    if missing := needs(evidence):
        raise MissingError(
            f"{NAME}: {len(missing)} networks of the roadmap have not been counted; "
            f"`{program_name()} figures {NAME}` counts them."
        )
    steps = [(section, words) for section, its in STEPS.items() for words in its]
    printed = [[(regime, row) for row in rows(table)] for regime, (table, _, _) in REGIMES.items()]
    rungs = []
    for (section, words), *of_regimes in zip(steps, *printed, strict=True):
        bars = tuple(_bar(regime, row, exact) for regime, row in of_regimes)
        rungs.append(Rung(section=section, words=words, kept=words not in TRIED, bars=bars))
    return tuple(rungs)


def _bar(regime: Regime, row: PaperRow, exact: Counts) -> Bar:
    std, macs = row.printed.get("top1_std"), exact.exact(*row.network, "macs") or 0.0
    top1, printed = row.printed["top1"].value, row.printed["macs"]
    return Bar(regime=regime, top1=top1, std=std.value if std else None, macs=macs, printed=printed, row=row)


STEP, SECTION = 6.2, 3.8
"""Millimetres of a step's two bars, and of a section's heading above its first."""


def paint(evidence: Evidence, look: Look) -> Figure:
    """Bars from the top down, words on the left, GFLOPs on the right."""
    shown = data(evidence)
    heights = panels.tops([rung.section for rung in shown], STEP, SECTION)
    body = heights[-1] + STEP + panels.BELOW + 8.0
    legend = [Entry(word=name, marker="#", colour=look.theme.hues[hue]) for _, name, hue in REGIMES.values()]
    legend.append(Entry(word="tried, not kept", marker="#", colour=look.theme.hues["blue"], hatch="////////"))
    sheet = canvas.sheet(look, TITLE, body, _sentences(shown), legend)
    words = max(canvas.size(rung.words, SMALL)[0] for rung in shown)
    left, right = canvas.EDGE + words + 2.0, 19.0 if look.narrow else 24.0
    axes = canvas.axes(sheet, left, sheet.bottom + panels.BELOW, look.width - left - right, body - panels.BELOW - 8.0)
    _bars(sheet, axes, shown, heights)
    canvas.write(
        sheet, left, sheet.bottom + 1.0, "ImageNet-1K top-1 accuracy, %", points=SMALL, colour=look.theme.muted
    )
    _words(sheet, shown, heights, look.width - right)
    return sheet.figure


def _sentences(shown: Sequence[Rung]) -> tuple[str, ...]:
    slips = [f"{rung.words}, {bar.regime}: {bar.printed.text}" for rung in shown for bar in rung.bars if bar.slip]
    told = (
        "Accuracy: as published (arXiv 2201.03545v2, Tables 10 and 11); whiskers: one standard deviation over three "
        f"runs, where printed. The axis begins at {START:.0f} %.",
        "GFLOPs: exact, counted by a trace (multiply-accumulates of one image).",
    )
    return (*told, f"* The paper prints other GFLOPs: {'; '.join(slips)}.") if slips else told


def _bars(sheet: Sheet, axes: Axes, shown: Sequence[Rung], heights: Sequence[float]) -> None:
    """A bar per regime, and the accuracy beyond its end."""
    theme, thick = sheet.look.theme, STEP * 0.4
    axes.set_ylim(heights[-1] + STEP, 0)
    axes.yaxis.set_ticks([])
    panels.linear(axes, START, 88.0 if sheet.look.narrow else 85.5)
    axes.grid(False, axis="y")
    for rung, top in zip(shown, heights, strict=True):
        hatch = "" if rung.kept else "////////"
        for number, bar in enumerate(rung.bars):
            middle = top + STEP * (0.28 + 0.42 * number)
            colour = theme.hues[REGIMES[bar.regime][2]]
            axes.barh(middle, bar.top1 - START, thick, left=START, color=colour, hatch=hatch, zorder=2)
            if bar.std:
                axes.errorbar(bar.top1, middle, xerr=bar.std, ecolor=theme.ink, elinewidth=0.7, capsize=1.2, zorder=3)
            x, y = canvas.spot(axes, bar.top1 + (bar.std or 0), middle)
            canvas.write(sheet, x + 0.9, y, bar.row.printed["top1"].text, points=SMALL, vertical="center")


def _words(sheet: Sheet, shown: Sequence[Rung], heights: Sequence[float], right: float) -> None:
    """Sections, steps and GFLOPs beside the bars."""
    top = sheet.top - 8.0
    muted, columns = sheet.look.theme.muted, [right + 8.5, sheet.look.width - canvas.EDGE]
    canvas.write(sheet, columns[1], top + 4.2, "GFLOPs, exact", points=SMALL, bold=True, across="right")
    for (_, name, _), x in zip(REGIMES.values(), columns, strict=True):
        word = name.partition(" ")[0].replace("ResNet-", "R-")
        canvas.write(sheet, x - 1.4, top + 1.2, word, points=SMALL, colour=muted, across="right")
    canvas.write(sheet, canvas.EDGE, top + 4.2, "step", points=SMALL, bold=True)
    section = ""
    for rung, at in zip(shown, heights, strict=True):
        if rung.section != section:
            section = rung.section
            y = top - at + SECTION * 0.35
            canvas.write(sheet, canvas.EDGE, y, section, points=SMALL, bold=True, colour=muted, vertical="center")
        middle = top - at - STEP * 0.49
        canvas.write(sheet, canvas.EDGE, middle, rung.words, points=SMALL, vertical="center")
        for bar, x in zip(rung.bars, columns, strict=True):
            flops = f"{bar.macs / GIGA:.2f}"
            canvas.write(sheet, x - 1.4, middle, flops, points=SMALL, across="right", vertical="center")
            if bar.slip:
                canvas.write(sheet, x - 1.2, middle, "*", points=SMALL, vertical="center")


DRAWING = Drawing(name=NAME, title=TITLE, paint=paint, needs=needs)
