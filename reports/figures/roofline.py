"""A network's operators under a device's roofline: which kinds of work the memory holds up, and which the arithmetic.

The roof is the data sheet's (Williams et al. 2009): at an intensity of I FLOPs per byte no more than min(peak,
bandwidth * I) FLOP/s are possible. Kinds of operators are drawn *on* it, at what their exact counts allow at best:
nothing here is measured but what is called so. Operators that the MAC rule counts no FLOPs of (norms, activations,
copies) have no intensity; their bytes are in the bars beside, in proportion to all others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from visionbench.record.devices import DeviceSpec, select
from visionbench.record.errors import BenchError
from visionbench.record.program import program_name
from visionbench.record.record import Record
from visionbench.record.spec import Precision, Spec
from visionbench.record.statistics import throughput
from visionbench.record.units import GIGA, TERA
from visionbench.record.units import size as in_bytes
from visionbench.reports.figures import canvas, labels, panels
from visionbench.reports.figures.canvas import Entry, Sheet
from visionbench.reports.figures.figure import Choice, Drawing, Evidence, MissingError, Need
from visionbench.reports.figures.labels import Tag
from visionbench.reports.figures.place import Box
from visionbench.reports.figures.style import POINT, SMALL, Look, Theme
from visionbench.reports.launches import grouped
from visionbench.reports.settings import doubted, doubts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME, TITLE = "roofline", "Operators under the roofline"

BYTES, MACS = "bytes.", "macs."
BATCH = 64
"""Images per step of a trace made for this figure: the paper's batch."""

ENOUGH = 32
"""A smaller batch moves mostly weights: its trace is drawn where there is no other, but not asked for."""

AREA = 260.0
"""Square millimetres of a bubble that stands for all bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of operators: bytes and FLOPs of a step; `attainable` FLOP/s, None where no FLOPs are counted."""

    name: str
    bytes: float
    flops: float
    share: float
    attainable: float | None

    @property
    def intensity(self) -> float:
        """FLOPs per byte."""
        return self.flops / self.bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a measurement of the same network on this device reached, in FLOP/s, and why that is doubtful.

    `over` is what its interval is over.
    """

    flops: float
    low: float | None
    high: float | None
    spec: Spec
    doubts: tuple[str, ...] = ()
    over: str = "launches"


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """The roof and what is under it: `peak` in FLOP/s for `precision`, `kinds` by bytes."""

    spec: Spec
    device: DeviceSpec
    precision: str
    peak: float
    kinds: tuple[Kind, ...]
    measured: tuple[Measured, ...]

    @property
    def ridge(self) -> float:
        """The intensity at which the memory stops to be the limit."""
        return self.peak / self.device.bandwidth

    @property
    def intensity(self) -> float:
        """Of the whole step."""
        return sum(kind.flops for kind in self.kinds) / sum(kind.bytes for kind in self.kinds)


def _recorded(evidence: Evidence) -> Record | None:
    """The trace of the chosen model's inference at the largest batch that tells its MACs by kind."""
    choice = evidence.choice
    size, as_stored = choice.image_size or 224, _bytewise(precision(choice))
    largest: Record | None = None
    for record in evidence.records:
        spec = record.spec
        step = record.source == "computed" and spec.task == "inference" and not spec.inputs
        chosen = (spec.model, spec.image_size, _bytewise(spec.precision)) == (choice.model, size, as_stored)
        larger = largest is None or spec.batch_size > largest.spec.batch_size
        if step and chosen and larger and any(its.metric.startswith(MACS) for its in record.measurements):
            largest = record
    return largest


def precision(choice: Choice) -> Precision:
    """As chosen, else the paper's on such a device."""
    return choice.precision or ("tf32" if select(choice.device)[0].tf32 else "fp32")


def _bytewise(precision: str) -> str:
    """TF32 is fp32 in memory."""
    return "fp32" if precision == "tf32" else precision


def needs(evidence: Evidence) -> tuple[Need, ...]:
    """A trace of the chosen model at a batch that keeps a GPU busy, unless there is one."""
    found, choice = _recorded(evidence), evidence.choice
    if found and found.spec.batch_size >= ENOUGH:
        return ()
    size, how = choice.image_size or 224, precision(choice)
    spec = Spec(model=choice.model, image_size=size, batch_size=BATCH, precision=how)
    return (Need(spec=spec, metric="bytes"),)


def data(evidence: Evidence) -> Data:
    """The chosen model on the chosen device."""
    choice, record = evidence.choice, _recorded(evidence)
    if record is None:
        raise MissingError(
            f"{NAME}: {choice.model} has not been counted kind by kind; "
            f"`{program_name()} figures {NAME} --model {choice.model}` does."
        )
    device = select(choice.device)[0]
    peak = device.peak(precision(choice))
    if peak is None:
        raise BenchError(f"{NAME}: {device.key} has no {choice.precision}: choose another --precision.")
    return Data(
        spec=record.spec,
        device=device,
        precision=precision(choice),
        peak=peak,
        kinds=_kinds(record, peak, device.bandwidth),
        measured=_measured(evidence, record, device),
    )


def _kinds(record: Record, peak: float, bandwidth: float) -> tuple[Kind, ...]:
    everything = record.value("bytes") or 0.0
    made = []
    for measurement in record.measurements:
        if measurement.metric.startswith(BYTES) and (moved := measurement.values[0]):
            name = measurement.metric.removeprefix(BYTES)
            flops = 2 * (record.value(f"{MACS}{name}") or 0.0) * record.spec.batch_size
            possible = min(peak, bandwidth * flops / moved) if flops else None
            made.append(Kind(name=name, bytes=moved, flops=flops, share=moved / everything, attainable=possible))
    return tuple(sorted(made, key=lambda kind: -kind.bytes))


def _measured(evidence: Evidence, traced: Record, device: DeviceSpec) -> tuple[Measured, ...]:
    """Throughput of the same network in this precision on this very device, as FLOP/s; one per way of running it."""
    wanted = (*traced.spec.network, "inference", precision(evidence.choice))
    there = (r for r in evidence.records if r.source == "measured" and r.environment.device_key == device.key)
    same = (r for r in there if (*r.spec.network, r.spec.task, r.spec.precision) == wanted)
    flops, made = 2 * (traced.value("macs") or 0.0), []
    for same_key in grouped(same, lambda record: record.key).values():
        if rate := throughput(same_key):
            reached = Measured(
                flops=flops * rate.centre,
                low=flops * rate.low if rate.low else None,
                high=flops * rate.high if rate.high else None,
                spec=same_key[-1].spec,
                doubts=doubts(same_key),
                over="nodes" if rate.nodes > 1 else "launches",
            )
            made.append(reached)
    return tuple(made)


def bound(kind: Kind, ridge: float) -> tuple[str, str]:
    """What holds a kind up at best, and the hue of that."""
    if kind.attainable is None:
        return "no FLOPs counted", "grey"
    return ("arithmetic", "blue") if kind.intensity >= ridge else ("memory", "vermillion")


def paint(evidence: Evidence, look: Look) -> Figure:
    """The roof with its bubbles, and bars with all kinds' bytes."""
    shown = data(evidence)
    title = f"{TITLE}: {shown.spec.model} on {shown.device.key}, {shown.precision}"
    each, legend = 70.0 if look.narrow else 84.0, _legend(shown, look.theme)
    sheet, (roof, bars) = panels.sheet(look, title, 2, each, _sentences(shown), legend)
    _roof(sheet, roof, shown)
    moved = in_bytes(sum(kind.bytes for kind in shown.kinds))
    panels.name(sheet, bars, "where the bytes go", f"{moved} a step", "share of bytes, %")
    _shares(sheet, bars, shown)
    return sheet.figure


def _legend(shown: Data, theme: Theme) -> list[Entry]:
    entries = []
    for word, hue in dict.fromkeys(bound(kind, shown.ridge) for kind in shown.kinds):
        named = f"bound by {word}" if word in ("arithmetic", "memory") else word
        entries.append(Entry(word=named, marker="o", colour=theme.hues[hue]))
    entries.append(Entry(word="the whole step", marker="D", colour=theme.ink, hollow=True))
    return [*entries, *([Entry(word="measured", marker="*", colour=theme.ink)] if shown.measured else [])]


def _sentences(shown: Data) -> tuple[str, ...]:
    told = [
        f"FLOPs and bytes: exact, counted by a trace of {shown.spec}; every operator reads its inputs and writes its "
        "outputs once. A disc's area is in proportion to its kind's bytes.",
        f"Roof: the data sheet's dense {shown.precision} peak, {shown.peak / TERA:g} TFLOP/s, and "
        f"{shown.device.bandwidth / GIGA:,.0f} GB/s. Discs mark the best that is possible: nothing on the roof is "
        "measured.",
    ]
    if not shown.measured:
        told.append(f"No measurement of this network on a {shown.device.key} is recorded.")
    for one in shown.measured:
        told.append(f"Measured: {one.spec}; bar: 95 % interval over {one.over}, where there are enough.")
    return (*told, doubted("Hollow star", (one.doubts for one in shown.measured)))


def _roof(sheet: Sheet, axes: Axes, shown: Data) -> None:
    theme = sheet.look.theme
    counted = [kind for kind in shown.kinds if kind.attainable is not None]
    width, height = panels.inner(axes)
    others = (shown.ridge / 10, shown.ridge, shown.intensity)  # a decade of the slope is always in sight
    across = [math.log10(x) for x in (*(kind.intensity for kind in counted), *others)]
    radii = [*(radius(kind) for kind in counted), 1.0, 1.0, 1.0]
    low, high = panels.around(across, radii, width)
    heights = [*(_limit(shown, 10**x) for x in across), *(one.flops / TERA for one in shown.measured)]
    floor, ceiling = panels.around([math.log10(y) for y in heights], [*radii, *(1.0 for _ in shown.measured)], height)
    panels.logarithmic(axes, 10**low, 10**high)
    panels.logarithmic(axes, 10**floor, 10**ceiling, upward=True)
    panels.name(sheet, axes, "roofline", "TFLOP/s at best", "FLOPs per byte")
    corners = tuple((x, _limit(shown, x)) for x in (10**low, shown.ridge, 10**high))
    axes.plot(*zip(*corners, strict=True), color=theme.ink, linewidth=1.0, zorder=3)
    step = (shown.intensity, _limit(shown, shown.intensity))
    axes.plot(*([value] for value in step), "D", color=theme.ink, markerfacecolor=theme.ground, markersize=5, zorder=5)
    tags = [_bubble(sheet, axes, shown, kind) for kind in counted]
    tags.append(Tag(x=step[0], y=step[1], text="whole step", radius=1.1))
    foot = _ridge(sheet, axes, shown, 10**floor)
    tags += [_star(axes, shown, one, theme) for one in shown.measured]
    labels.left_out(sheet, axes, labels.attach(sheet, axes, tags, lines=(corners,), hard=(foot,)))


def _ridge(sheet: Sheet, axes: Axes, shown: Data, floor: float) -> Box:
    """A line from the ridge down to the axis, and its number there, clear of the discs on the roof; returns its box."""
    theme, text = sheet.look.theme, f"ridge: {shown.ridge:.0f}"
    axes.plot([shown.ridge] * 2, [floor, shown.peak / TERA], color=theme.muted, linewidth=0.6, linestyle=":", zorder=1)
    (x, y), (width, height) = canvas.spot(axes, shown.ridge, floor), canvas.size(text, SMALL)
    canvas.write(sheet, x - 0.8, y + 1.0, text, points=SMALL, colour=theme.muted, across="right", vertical="bottom")
    return Box(left=x - 0.8 - width, bottom=y + 1.0, right=x, top=y + 1.0 + height)


def _limit(shown: Data, intensity: float) -> float:
    """The roof at an intensity, in TFLOP/s."""
    return min(shown.peak, shown.device.bandwidth * intensity) / TERA


def radius(kind: Kind) -> float:
    """Of a kind's disc, in mm."""
    return math.sqrt(AREA * kind.share / math.pi)


def _bubble(sheet: Sheet, axes: Axes, shown: Data, kind: Kind) -> Tag:
    hue = bound(kind, shown.ridge)[1]
    colour, spot = sheet.look.theme.hues[hue], (kind.intensity, _limit(shown, kind.intensity))
    disc = (2 * radius(kind) / POINT) ** 2
    axes.scatter([spot[0]], [spot[1]], s=[disc], color=colour, alpha=0.3, linewidths=0, zorder=2)
    axes.plot([spot[0]], [spot[1]], "o", color=colour, markersize=3.5, markeredgewidth=0, zorder=4)
    text = f"{kind.name.replace('_', ' ')}, {100 * kind.share:.0f} %"
    return Tag(x=spot[0], y=spot[1], text=text, radius=0.7, bubble=radius(kind), hue=hue)


def _star(axes: Axes, shown: Data, one: Measured, theme: Theme) -> Tag:
    at = one.flops / TERA
    if one.low and one.high:
        span = [[(one.flops - one.low) / TERA], [(one.high - one.flops) / TERA]]
        axes.errorbar(shown.intensity, at, yerr=span, ecolor=theme.ink, elinewidth=0.8, capsize=2.0, zorder=4)
    face, edge = (theme.ground, 0.9) if one.doubts else (theme.ink, 0.0)
    [star] = axes.plot([shown.intensity], [at], "*", color=theme.ink, markersize=7, zorder=5)
    star.set(markerfacecolor=face, markeredgewidth=edge)
    return Tag(x=shown.intensity, y=at, text=f"measured, b{one.spec.batch_size}: {at:.3g} TFLOP/s", radius=1.2)


def _shares(sheet: Sheet, axes: Axes, shown: Data) -> None:
    """Bars from the top down, each with its name on the left and its percentage beyond its end."""
    theme, frame, names = sheet.look.theme, axes.get_position(), [kind.name.replace("_", " ") for kind in shown.kinds]
    # The frame moves right as far as the names need.
    shift = (max(canvas.size(name, SMALL)[0] for name in names) - panels.LEFT + 4.0) / sheet.look.width
    axes.set_position((frame.x0 + shift, frame.y0, frame.width - shift, frame.height))
    panels.linear(axes, 0, max(kind.share for kind in shown.kinds) * 118)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_yticks(range(len(names)), names, color=theme.ink)
    axes.grid(False, axis="y")
    for place, kind in enumerate(shown.kinds):
        axes.barh(place, kind.share * 100, 0.62, color=theme.hues[bound(kind, shown.ridge)[1]], zorder=2)
        (x, y), text = canvas.spot(axes, kind.share * 100, place), f"{100 * kind.share:.1f} %"
        text = text if kind.share >= 0.001 else "< 0.1 %"
        canvas.write(sheet, x + 0.8, y, text, points=SMALL, vertical="center")


DRAWING = Drawing(name=NAME, title=TITLE, paint=paint, needs=needs)
