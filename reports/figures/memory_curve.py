"""Live memory over one training step of one network: who holds it, and where the peak is.

All of it is counted, on no hardware (`visionbench.tracing.live`): the horizontal axis is the order of allocations and
releases, not time, and the peak is a lower bound of what an allocator reports. Parameters and optimizer state are there
throughout, so they are separate layers; what the rest is made of is known exactly at the peak, and shown beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from visionbench.record import units
from visionbench.record.program import program_name
from visionbench.record.record import Record
from visionbench.record.spec import Spec
from visionbench.record.units import GIB
from visionbench.reports.figures import canvas, panels
from visionbench.reports.figures.canvas import Entry, Sheet
from visionbench.reports.figures.figure import Drawing, Evidence, MissingError, Need
from visionbench.reports.figures.style import BODY, SMALL, Look
from visionbench.reports.paper.counts import TRAIN_BATCH

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME, TITLE = "memory_curve", "Live memory of a training step"

CURVE, PEAK = "live_memory.", "peak_memory_live"
PHASES = ("forward", "backward", "optimizer")

LAYERS: tuple[tuple[str, str, str], ...] = (
    ("parameters", "blue", ""),
    ("optimizer", "orange", "////"),
    ("gradients", "purple", "\\\\\\\\"),
    ("activations", "green", ""),
    ("temporaries", "grey", "xx"),
)
"""Categories of `visionbench.tracing.live`, from the bottom up, with hue and hatch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """One step of `spec`: bytes after (groups of) events by phase, the peak, and its exact parts."""

    spec: Spec
    phases: tuple[tuple[str, tuple[float, ...]], ...]
    peak: float
    parts: tuple[tuple[str, float], ...]

    @property
    def totals(self) -> tuple[float, ...]:
        """The whole curve."""
        return tuple(value for _, values in self.phases for value in values)

    @property
    def standing(self) -> float:
        """What is there from the first event to the last: parameters (with buffers) and optimizer state."""
        return sum(value for name, value in self.parts if name in ("parameters", "optimizer"))


def _recorded(evidence: Evidence) -> Record | None:
    """The newest trace of a training step of the chosen model that has a curve."""
    choice = evidence.choice
    for record in reversed(evidence.records):
        spec = record.spec
        step = record.source == "computed" and spec.task == "train" and spec.parallel is None
        chosen = spec.model == choice.model and choice.image_size in (None, spec.image_size)
        if step and chosen and record.get(f"{CURVE}{PHASES[0]}"):
            return record
    return None


def needs(evidence: Evidence) -> tuple[Need, ...]:
    """A trace of the chosen model's training step, as Table 2's batch, unless there is one."""
    if _recorded(evidence):
        return ()
    size = evidence.choice.image_size or 224
    spec = Spec(model=evidence.choice.model, image_size=size, task="train", batch_size=TRAIN_BATCH)
    return (Need(spec=spec, metric=f"{CURVE}{PHASES[0]}"),)


def data(evidence: Evidence) -> Data:
    """The curve of the chosen model."""
    record = _recorded(evidence)
    if record is None:
        model = evidence.choice.model
        raise MissingError(
            f"{NAME}: no training step of {model} has been traced; "
            f"`{program_name()} figures {NAME} --model {model}` does."
        )
    curves = ((phase, record.get(f"{CURVE}{phase}")) for phase in PHASES)
    return Data(
        spec=record.spec,
        phases=tuple((phase, curve.values) for phase, curve in curves if curve),
        peak=record.value(PEAK) or 0.0,
        parts=tuple((name, record.value(f"{PEAK}.{name}") or 0.0) for name, _, _ in LAYERS),
    )


def paint(evidence: Evidence, look: Look) -> Figure:
    """The curve, and beside it (below it, where it is narrow: in a narrower column) the parts of its peak."""
    shown = data(evidence)
    each = 66.0 if look.narrow else 80.0
    theme = look.theme
    legend = [
        Entry(word=f"{name} state" if name == "optimizer" else name, marker="#", colour=theme.hues[hue], hatch=hatch)
        for name, hue, hatch in LAYERS
    ]
    sheet = canvas.sheet(look, f"{TITLE}: {shown.spec.model}", each, _sentences(shown), legend, flexible=True)
    split = 20.0 if look.narrow else 42.0
    bottom, tall = sheet.bottom + panels.BELOW, sheet.top - sheet.bottom - panels.ABOVE - panels.BELOW
    curve = canvas.axes(sheet, panels.LEFT, bottom, look.width - panels.LEFT - split - 2.0, tall)
    bar = canvas.axes(sheet, look.width - split + 1.0, bottom, 6.0, tall)
    _curve(sheet, curve, shown)
    _split(sheet, bar, shown, look.width - split + 8.2)
    return sheet.figure


def _sentences(shown: Data) -> tuple[str, ...]:
    spec = shown.spec
    return (
        f"Exact, counted by a trace of {spec}: forward, loss, backward, AdamW. Live tensors alone: without the "
        "allocator's fragmentation, workspaces and the driver's context; a lower bound.",
        "From left to right: allocations and releases in their order, each phase in its own scale; not time. Pale: "
        "what the step itself holds (gradients, activations, temporaries); its parts are known exactly at the peak.",
    )


def _curve(sheet: Sheet, axes: Axes, shown: Data) -> None:
    theme, totals = sheet.look.theme, [value / GIB for value in shown.totals]
    events = range(len(totals))
    floor = [dict(shown.parts)["parameters"] / GIB] * len(totals)
    standing = [shown.standing / GIB] * len(totals)
    hues = {name: (theme.hues[hue], hatch) for name, hue, hatch in LAYERS}
    axes.fill_between(events, 0, floor, color=hues["parameters"][0], linewidth=0, zorder=2)
    fill: dict[str, Any] = {"facecolor": hues["optimizer"][0], "hatch": hues["optimizer"][1]}
    axes.fill_between(events, floor, standing, linewidth=0, zorder=2, edgecolor=theme.ground, **fill)
    axes.fill_between(events, standing, totals, color=hues["activations"][0], alpha=0.35, linewidth=0, zorder=2)
    axes.plot(events, totals, color=theme.ink, linewidth=0.9, zorder=4)
    axes.set_xlim(0, len(totals) - 1)
    axes.set_xticks([])
    axes.grid(False, axis="x")
    panels.linear(axes, 0, shown.peak / GIB * 1.16, upward=True)
    spec = shown.spec
    words = f"batch {spec.batch_size}, {spec.image_size} px, {spec.precision}, {spec.attention} attention"
    panels.name(sheet, axes, words, "live tensors, GiB", "")
    at, border = 0, (0, (3, 2))
    for number, (phase, values) in enumerate(shown.phases):
        if number:
            axes.plot([at, at], [0, totals[at]], color=theme.ink, linewidth=0.7, linestyle=border, zorder=3)
        middle = canvas.spot(axes, at + len(values) / 2, 0)[0]
        canvas.write(sheet, middle, sheet.bottom + panels.BELOW - 4.0, phase, points=BODY, across="center")
        at += len(values)
    # A ring on the peak, and above it how much that is.
    top = max(totals)
    axes.plot([totals.index(top)], [top], "o", color=theme.ink, markersize=4, zorder=5)
    frame, (x, y), text = (
        canvas.frame(axes),
        canvas.spot(axes, totals.index(top), top),
        f"peak {units.size(shown.peak)}",
    )
    half = canvas.size(text, BODY, bold=True)[0] / 2
    x = min(max(x, frame.left + half + 1), frame.right - half)
    canvas.write(sheet, x, y + 1.6, text, points=BODY, bold=True, across="center")


def _split(sheet: Sheet, axes: Axes, shown: Data, words: float) -> None:
    """The peak's parts as one stacked bar, with their sizes beside it."""
    theme, at = sheet.look.theme, 0.0
    axes.set_ylim(0, shown.peak / GIB * 1.16)
    axes.set_axis_off()
    middles: list[float] = []
    for (_, value), (_, hue, hatch) in zip(shown.parts, LAYERS, strict=True):
        fill: dict[str, Any] = {"facecolor": theme.hues[hue], "hatch": hatch, "edgecolor": theme.ground}
        axes.bar(0, value / GIB, 1, bottom=at / GIB, linewidth=0.4, **fill)
        middles.append(canvas.spot(axes, 0, (at + value / 2) / GIB)[1])
        at += value
    for (name, value), y in zip(shown.parts, apart(middles, canvas.line(SMALL)), strict=True):
        text = units.size(value) if sheet.look.narrow else f"{units.size(value)} {name}"
        canvas.write(sheet, words, y, text, points=SMALL, vertical="center")
    top = canvas.spot(axes, 0, shown.peak / GIB)[1] + 3.2
    canvas.write(sheet, words - 7.2, top, "at the peak", points=SMALL, bold=True)


def apart(middles: Sequence[float], distance: float) -> list[float]:
    """Ascending heights, moved up where needed, so that no two are nearer than `distance`."""
    moved: list[float] = []
    for middle in middles:
        moved.append(max(middle, moved[-1] + distance) if moved else middle)
    return moved


DRAWING = Drawing(name=NAME, title=TITLE, paint=paint, needs=needs)
