"""Figure 1 of the ConvNeXt paper: accuracy against FLOPs, a bubble's area in proportion to its FLOPs.

Accuracy is as published; FLOPs are ours, exact, one image's multiply-accumulates. The paper's figure has families side
by side; here FLOPs have an axis, so that "better at equal cost" is "above", and the networks of Table 1
are shown at the sizes at which it prints them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from visionbench.record.program import program_name
from visionbench.record.spec import ImageSize, sides
from visionbench.record.units import GIGA
from visionbench.reports.figures import labels, panels
from visionbench.reports.figures.canvas import Entry, Sheet
from visionbench.reports.figures.figure import Drawing, Evidence, MissingError, Need, lacking
from visionbench.reports.figures.labels import Tag
from visionbench.reports.figures.style import POINT, Look, Theme
from visionbench.reports.launches import grouped
from visionbench.reports.paper import counts
from visionbench.reports.paper.counts import count_spec
from visionbench.reports.printed import PaperRow, rows
from visionbench.reports.settings import doubted, flags

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME, TITLE = "figure1", "Accuracy against FLOPs (Figure 1 of the ConvNeXt paper)"

SECTIONS = {
    "ImageNet-1K trained models": "trained on ImageNet-1K",
    "ImageNet-22K pre-trained models": "pre-trained on ImageNet-22K",
}
"""Table 1's sections, and how a panel calls them."""

RESNETS = (("10", 2, "ResNet-50"), ("11", 2, "ResNet-200"))
"""The ResNets of the paper's figure: trained with the enhanced recipe, printed in Tables 10 and 11."""

AREA = 0.28
"""Square millimetres of a bubble per GFLOP."""

DOT = 0.85
"""Radius of the mark in the middle of a bubble, mm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A family's name, the beginnings of its models' printed labels, its hue of the palette and its marker's shape.

    `whole`: its members' labels stay whole, because their beginnings tell them apart.
    """

    name: str
    begins: tuple[str, ...]
    hue: str
    marker: str
    whole: bool = False


FAMILIES: tuple[Family, ...] = (
    Family(name="ConvNeXt (isotropic)", begins=(), hue="sky", marker="P"),
    Family(name="ConvNeXt", begins=("ConvNeXt-",), hue="blue", marker="o"),
    Family(name="Swin", begins=("Swin-",), hue="vermillion", marker="s"),
    Family(name="DeiT, ViT", begins=("DeiT-", "ViT-"), hue="green", marker="^", whole=True),
    Family(name="EfficientNet", begins=("EffNet-", "EffNet"), hue="purple", marker="D"),
    Family(name="ResNet", begins=("ResNet-", "R-"), hue="grey", marker="v"),
    Family(name="RegNet", begins=("RegNet",), hue="orange", marker="X"),
)

OTHER = Family(name="other", begins=(), hue="black", marker="*")

_ISOTROPIC = " (iso.)"


def family(label: str) -> Family:
    """The family of a printed label: `Swin-T` -> Swin. What is none of them is `OTHER`."""
    if label.endswith(_ISOTROPIC):
        return FAMILIES[0]
    return next((one for one in FAMILIES if label.startswith(one.begins or "\0")), OTHER)


def short(label: str, image_size: ImageSize) -> str:
    """What the legend does not say: `ConvNeXt-B` at 384 px -> `B@384`; 224 px goes without saying."""
    plain = label.removesuffix(_ISOTROPIC)
    its = family(plain)
    begin = next((begin for begin in its.begins if plain.startswith(begin)), "")
    name = plain if its.whole else plain.removeprefix(begin) or plain
    return name if image_size == 224 else f"{name}@{image_size}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bubble:
    """One network: `top1` in % as published in `row`, `macs` of one image counted by a trace, and its doubts."""

    label: str
    family: Family
    panel: str
    top1: float
    macs: float
    row: PaperRow
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """What the figure shows, and which printed rows it cannot show for want of a count."""

    bubbles: tuple[Bubble, ...]
    uncounted: tuple[str, ...]


def _printed(evidence: Evidence) -> tuple[tuple[str, str, PaperRow], ...]:
    """(panel, label, row) of everything that belongs into the figure; the user's own beside the paper's, or alone."""
    first, *_ = SECTIONS.values()
    other = evidence.title if evidence.alone else first
    added = [(SECTIONS.get(row.section, other), row.label, row) for row in evidence.rows if "top1" in row.printed]
    if evidence.alone:
        return tuple(added)
    resnets = [(first, label, row) for table, at, label in RESNETS for row in rows(table) if row.number == at]
    table1 = [(SECTIONS[row.section], row.label, row) for row in rows("1")]
    return (*resnets, *table1, *added)


def needs(evidence: Evidence) -> tuple[Need, ...]:
    """Traces of printed rows that are not recorded."""
    return lacking(evidence, (row.network for _, _, row in _printed(evidence) if row.model))


def data(evidence: Evidence) -> Data:
    """The bubbles of all printed rows whose FLOPs have been counted."""
    exact = counts.index(evidence.records)
    bubbles: list[Bubble] = []
    uncounted: dict[str, None] = {}
    for panel, label, row in _printed(evidence):
        macs = exact.exact(*row.network, "macs") if row.model else None
        if macs is None:
            uncounted[label] = None
            continue
        bubble = Bubble(
            label=short(label, row.image_size),
            family=family(label),
            panel=panel,
            top1=row.printed["top1"].value,
            macs=macs,
            row=row,
            doubts=flags((exact.by_spec[count_spec(*row.network)],), "macs"),
        )
        bubbles.append(bubble)
    if not bubbles:
        raise MissingError(f"{NAME}: no FLOPs have been counted; `{program_name()} figures {NAME}` counts them.")
    return Data(bubbles=tuple(bubbles), uncounted=tuple(uncounted))


def radius(macs: float) -> float:
    """Of a bubble, in mm: its area is in proportion."""
    return math.sqrt(macs / GIGA * AREA / math.pi)


def paint(evidence: Evidence, look: Look) -> Figure:
    """The panels, one per training set."""
    shown = data(evidence)
    held = dict.fromkeys(bubble.panel for bubble in shown.bubbles)
    there = [name for name in dict.fromkeys((*SECTIONS.values(), *held)) if name in held]
    names = panels.chosen(NAME, {name: name for name in there}, evidence.choice.panels, look)
    shown = replace(shown, bubbles=tuple(bubble for bubble in shown.bubbles if bubble.panel in names))
    title = TITLE.partition(" (")[0] if evidence.alone else TITLE
    legend = legend_of((bubble.family for bubble in shown.bubbles), look.theme)
    each = 78.0 if look.narrow else 92.0
    sheet, stood = panels.sheet(look, title, len(names), each, _sentences(shown, evidence), legend)
    for axes, name in zip(stood, names, strict=True):
        _panel(sheet, axes, name, [bubble for bubble in shown.bubbles if bubble.panel == name])
    return sheet.figure


def _sentences(shown: Data, evidence: Evidence) -> tuple[str, ...]:
    published = (
        "Accuracy: as published (arXiv 2201.03545v2, Table 1; ResNets with the enhanced recipe: Tables 10 and 11), "
        "224 px unless @ says otherwise."
    )
    # The marks, all of one size, hide the discs of small networks.
    seen = any(radius(bubble.macs) > DOT for bubble in shown.bubbles)
    disc = "; a disc's area is in proportion to them" if seen else ""
    accuracy, files = panels.whose_accuracy(evidence, published, (bubble.row for bubble in shown.bubbles))
    return (
        accuracy,
        f"FLOPs: exact, counted by a trace (multiply-accumulates of one image, the paper's FLOPs){disc}.",
        files,
        doubted("Hollow", (bubble.doubts for bubble in shown.bubbles)),
        f"Not shown, because not counted: {', '.join(shown.uncounted)}." if shown.uncounted else "",
    )


def legend_of(families: Iterable[Family], theme: Theme) -> tuple[Entry, ...]:
    """The families that occur, in the palette's order."""
    there = set(families)
    order = [*(one for one in FAMILIES if one in there), *sorted(there - set(FAMILIES), key=lambda one: one.name)]
    return tuple(Entry(word=one.name, marker=one.marker, colour=theme.hues[one.hue]) for one in order)


def _panel(sheet: Sheet, axes: Axes, name: str, bubbles: Sequence[Bubble]) -> None:
    (width, height), radii = panels.inner(axes), [radius(bubble.macs) for bubble in bubbles]
    low, high = panels.around([math.log10(bubble.macs / GIGA) for bubble in bubbles], radii, width)
    panels.logarithmic(axes, 10**low, 10**high)
    panels.linear(axes, *panels.around([bubble.top1 for bubble in bubbles], radii, height), upward=True)
    panels.name(sheet, axes, name, "ImageNet-1K top-1 accuracy, %", "GFLOPs of one image (exact)")
    # A line joins what was scaled: a family in one regime of image sizes, by FLOPs.
    ascending = sorted(bubbles, key=lambda one: (one.macs, one.top1))
    families = grouped(ascending, lambda one: (one.family.name, max(sides(one.row.image_size)) > 224))
    lines = [_draw_family(sheet, axes, kin) for kin in families.values()]
    tags = []
    for b in bubbles:
        x, mark = b.macs / GIGA, DOT * (2 if b.row.own else 1)
        tag = Tag(x=x, y=b.top1, text=b.label, radius=mark, bubble=radius(b.macs), hue=b.family.hue, bold=b.row.own)
        tags.append(tag)
        if b.row.own:
            labels.ring(axes, x, b.top1, mark, sheet.look.theme.ink)
    labels.left_out(sheet, axes, labels.attach(sheet, axes, tags, lines=lines))


def _draw_family(sheet: Sheet, axes: Axes, kin: Sequence[Bubble]) -> tuple[tuple[float, float], ...]:
    """Discs, marks and the line that joins them; returns the line."""
    colour = sheet.look.theme.hues[kin[0].family.hue]
    points = tuple((one.macs / GIGA, one.top1) for one in kin)
    across, up = zip(*points, strict=True)
    discs = [(2 * radius(one.macs) / POINT) ** 2 for one in kin]
    axes.scatter(across, up, s=discs, color=colour, alpha=0.16, linewidths=0, zorder=2)
    axes.plot(across, up, color=colour, linewidth=0.7, alpha=0.7, zorder=3)
    for doubtful, face, edge in ((False, colour, 0.0), (True, sheet.look.theme.ground, 0.9)):
        if marks := [point for point, one in zip(points, kin, strict=True) if bool(one.doubts) is doubtful]:
            dot: dict[str, Any] = {"color": colour, "markerfacecolor": face, "markeredgewidth": edge}
            axes.plot(*zip(*marks, strict=True), kin[0].family.marker, **dot, markersize=2 * DOT / POINT, zorder=4)
    return points


DRAWING = Drawing(name=NAME, title=TITLE, paint=paint, needs=needs)
