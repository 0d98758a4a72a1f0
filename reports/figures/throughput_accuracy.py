"""Images per second against accuracy, a panel per device: which networks nothing else beats in both.

Accuracy is as published, for networks trained on ImageNet-1K alone. Throughput is the paper's (V100, A100),
predicted, or measured here, never two of them in one panel. Predictions carry their 80 % interval, measurements their
95 % one over launches, where there are enough of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from visionbench.record.prediction import prediction
from visionbench.record.program import program_name
from visionbench.record.record import Record, Source
from visionbench.record.units import first_of
from visionbench.reports.figures import labels, panels
from visionbench.reports.figures.accuracy_flops import Family, family, legend_of, short
from visionbench.reports.figures.canvas import Entry, Sheet
from visionbench.reports.figures.figure import Drawing, Evidence, MissingError
from visionbench.reports.figures.labels import Tag
from visionbench.reports.figures.style import POINT, Look
from visionbench.reports.paper.rates import by_card
from visionbench.reports.printed import Network, PaperRow, rows
from visionbench.reports.settings import Group, describe, doubted, doubts, groups, heads

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME, TITLE = "throughput_accuracy", "Throughput against accuracy, device by device"

TABLES = ("1", "2", "12")
SECTION_22K = "ImageNet-22K pre-trained models"

PUBLISHED = (("V100", ("1", "2")), ("A100", ("12",)))
"""GPUs of the paper, and the tables that print their throughput."""

COPIED = "throughput-v100-deit"
"""Rows under this protocol were not measured beside the others: they are drawn hollow and make no front."""

ACCURACY = "Accuracy: as published (arXiv 2201.03545v2), trained on ImageNet-1K alone; 224 px unless @ says otherwise."

GROUPS = 2
"""Groups of measurements that are shown, and cards of predictions: the newest."""

DOT = 0.85


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One network on one device: `top1` in %, `rate` in images/s with its interval, or None.

    What is not `comparable` makes no front; that and what has `doubts` is drawn hollow.
    """

    label: str
    family: Family
    top1: float
    rate: float
    low: float | None
    high: float | None
    comparable: bool
    row: PaperRow
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One device under one protocol. `over` is what its intervals are over."""

    name: str
    source: Source
    points: tuple[Point, ...]
    note: str = ""
    over: str = "launches"

    @property
    def front(self) -> tuple[Point, ...]:
        """The Pareto front: points that no other equals or beats in both, most accurate first and fastest last."""
        kept: list[Point] = []
        comparable = (point for point in self.points if point.comparable)
        for point in sorted(comparable, key=lambda point: (-point.top1, -point.rate)):
            if not kept or point.rate > kept[-1].rate:
                kept.append(point)
        return tuple(kept)


def data(evidence: Evidence) -> tuple[Panel, ...]:
    """The paper's two GPUs, then what was predicted, then what was measured, newest first."""
    rows = _rows(evidence)
    measured = groups(evidence.records, (row.network for row in rows), "inference")[:GROUPS]
    names = heads(measured)
    predicted = list(by_card(evidence.records).items())[-GROUPS:]
    estimated = (_predicted(card, by_network, rows) for card, by_network in predicted)
    timed = (_measured(group, name, rows) for group, name in zip(measured, names, strict=True))
    found = [*(_printed(rows) if evidence.alone else _published()), *estimated, *timed]
    # In a table of the user's own a panel that has none of the user's points is beside the point.
    own = (panel for panel in found if panel.source == "published" or any(point.row.own for point in panel.points))
    kept = tuple(panel for panel in (own if evidence.alone else found) if panel.points)
    if not kept:
        raise MissingError(
            f"{NAME}: no throughput is printed or measured; `{program_name()} run --table convnext_table1`."
        )
    return kept


def _rows(evidence: Evidence) -> tuple[PaperRow, ...]:
    """The rows of the figure: the paper's with the user's own, or those of a table that is drawn alone."""
    own = tuple(row for row in evidence.rows if "top1" in row.printed)
    return own if evidence.alone else _each_once([*(row for row in own if row.model), *_of_paper(TABLES)])


def _of_paper(tables: Iterable[str]) -> list[PaperRow]:
    """Printed rows with an accuracy on ImageNet-1K without further data."""
    return [row for table in tables for row in rows(table) if row.section != SECTION_22K and "top1" in row.printed]


def _each_once(found: Sequence[PaperRow]) -> tuple[PaperRow, ...]:
    """Each network once, as it stands first."""
    return tuple({row.network: row for row in reversed(found)}.values())[::-1]


def _printed(rows: Sequence[PaperRow]) -> Iterator[Panel]:
    """A panel per card of the rows' printed images per second."""
    timed = [(row, rate) for row in rows for rate in row.of_every_card("throughput")]
    for gpu in dict.fromkeys(rate.gpu for _, rate in timed):
        points = tuple(_point(row, rate.value) for row, rate in timed if rate.gpu == gpu)
        yield Panel(name=f"{gpu}, as printed" if gpu else "as printed", source="published", points=points)


def _published() -> Iterator[Panel]:
    for gpu, tables in PUBLISHED:
        points = [
            _point(row, rate.value, comparable=rate.protocol != COPIED)
            for row in _each_once(_of_paper(tables))
            if (rate := row.printed.get("throughput"))
        ]
        yield Panel(name=f"{gpu}, as published", source="published", points=tuple(points))


def _predicted(card: str, by_network: Mapping[Network, Record], rows: Sequence[PaperRow]) -> Panel:
    points = []
    for row in rows:
        record = by_network.get(row.network)
        if record and (estimate := prediction(record)):
            points.append(_point(row, estimate.centre, estimate.low, estimate.high))
    spec = next(iter(by_network.values())).spec
    note = f"{card}: predicted for {spec.precision}, {spec.memory_format}, batch {spec.batch_size}; not measured."
    return Panel(name=f"{card}: predicted", source="predicted", points=tuple(points), note=note)


def _measured(group: Group, name: tuple[str, ...], rows: Sequence[PaperRow]) -> Panel:
    points, over = [], "launches"
    for row in rows:
        launches = group.launches.get(row.network)
        if launches and (rate := launches.throughput):
            together, why = not launches.scatter_factor, doubts(launches)
            points.append(_point(row, rate.centre, rate.low, rate.high, comparable=together, doubts=why))
            over = "nodes" if rate.nodes > 1 else over
    named = ", ".join(name)
    note = f"{named}: {describe(group)}."
    return Panel(name=f"{named}: measured", source="measured", points=tuple(points), note=note, over=over)


def _point(
    row: PaperRow,
    rate: float,
    low: float | None = None,
    high: float | None = None,
    *,
    comparable: bool = True,
    doubts: tuple[str, ...] = (),
) -> Point:
    return Point(
        label=short(row.label, row.image_size),
        family=family(row.label),
        top1=row.printed["top1"].value,
        rate=rate,
        low=low,
        high=high,
        comparable=comparable,
        row=row,
        doubts=doubts,
    )


def paint(evidence: Evidence, look: Look) -> Figure:
    """The panels."""
    shown = panels.chosen(NAME, {panel.name: panel for panel in data(evidence)}, evidence.choice.panels, look)
    legend = (
        *legend_of((point.family for panel in shown for point in panel.points), look.theme),
        Entry(word="nothing is both faster and more accurate", marker="-", colour=look.theme.ink),
    )
    each = 68.0 if look.narrow else 78.0
    sheet, stood = panels.sheet(look, TITLE, len(shown), each, _sentences(shown, evidence), legend)
    for axes, panel in zip(stood, shown, strict=True):
        _panel(sheet, axes, panel)
    return sheet.figure


def _sentences(shown: Sequence[Panel], evidence: Evidence) -> tuple[str, ...]:
    known = {row.network for row in _rows(evidence)}
    timed = (record.spec for record in evidence.records if record.source == "measured" and record.failure is None)
    networks = dict.fromkeys((spec.model, spec.image_size) for spec in timed if spec.task == "inference")
    unplaced = tuple(dict.fromkeys(model for model, size in networks if (model, size) not in known))
    published = not evidence.alone and any(panel.source == "published" for panel in shown)
    hollow = {panel.source for panel in shown for point in panel.points if not point.comparable}
    measured = [panel for panel in shown if panel.source == "measured"]
    predicted = [panel for panel in shown if panel.source == "predicted"]
    spans = any(point.low is not None for panel in measured for point in panel.points)
    few = dict.fromkeys(panel.over for panel in measured for point in panel.points if point.low is None)
    return (
        *panels.whose_accuracy(evidence, ACCURACY, (point.row for panel in shown for point in panel.points)),
        "Published throughput: Tables 1 and 2 (V100), Table 12 (A100: TF32, channels_last); no interval is printed."
        if published
        else "",
        "Hollow: copied from arXiv 2012.12877, another protocol; not part of the front."
        if "published" in hollow
        else "",
        doubted("Hollow among measured points", (point.doubts for panel in measured for point in panel.points)),
        "A point whose blocks or launches differ by a factor is not part of the front." if "measured" in hollow else "",
        *(panel.note for panel in (*predicted, *measured)),
        _bars(predicted=bool(predicted), over=dict.fromkeys(panel.over for panel in measured) if spans else ()),
        f"A point without a bar has too few {' or '.join(few)} for an interval." if few else "",
        f"Measured, but without an accuracy here: {first_of(unplaced)}." if unplaced and measured else "",
    )


def _bars(*, predicted: bool, over: Iterable[str]) -> str:
    """What the bars are, if there are any; those of measurements are `over` launches or nodes."""
    kinds = ["80 % interval of predictions"] if predicted else []
    measured = " or ".join(over)
    kinds += [f"95 % interval over {measured}"] if measured else []
    end = "the front goes through the centres, and is open where bars meet"
    return f"Bars: {' and '.join(kinds)}; {end}." if kinds else ""


def _panel(sheet: Sheet, axes: Axes, panel: Panel) -> None:
    width, height = panels.inner(axes)
    ends = [math.log10(rate) for one in panel.points for rate in (one.low or one.rate, one.high or one.rate)]
    low, high = panels.around(ends, [DOT] * len(ends), width, 6.0)
    panels.logarithmic(axes, 10**low, 10**high)
    accuracies = [point.top1 for point in panel.points]
    panels.linear(axes, *panels.around(accuracies, [DOT] * len(accuracies), height, 5.0), upward=True)
    panels.name(sheet, axes, panel.name, "ImageNet-1K top-1 accuracy, % (published)", "images per second")
    # The front is a staircase: at least this fast, at most this accurate.
    first, *others = panel.front
    steps = [(first.rate, first.top1)]
    for point in others:
        steps += [(steps[-1][0], point.top1), (point.rate, point.top1)]
    across, up = zip(*steps, strict=True)
    axes.plot(across, up, color=sheet.look.theme.ink, linewidth=0.8, alpha=0.75, zorder=2)
    tags = []
    for point in panel.points:
        _draw(sheet, axes, point)
        radius, own, hue = DOT * (2 if point.row.own else 1.1), point.row.own, point.family.hue
        tags.append(Tag(x=point.rate, y=point.top1, text=point.label, radius=radius, hue=hue, bold=own))
    bars = (((one.low, one.top1), (one.high, one.top1)) for one in panel.points if one.low and one.high)
    labels.left_out(sheet, axes, labels.attach(sheet, axes, tags, lines=(tuple(steps), *bars)))


def _draw(sheet: Sheet, axes: Axes, point: Point) -> None:
    theme = sheet.look.theme
    colour = theme.hues[point.family.hue]
    if point.low is not None and point.high is not None:
        span = [[point.rate - point.low], [point.high - point.rate]]
        axes.errorbar(point.rate, point.top1, xerr=span, ecolor=colour, elinewidth=1.0, capsize=2.0, zorder=3)
    face = colour if point.comparable and not point.doubts else theme.ground
    if point.row.own:
        labels.ring(axes, point.rate, point.top1, 2 * DOT, theme.ink)
    style: dict[str, Any] = {"color": colour, "markersize": 2 * DOT / POINT, "markerfacecolor": face}
    axes.plot([point.rate], [point.top1], point.family.marker, **style, zorder=4)


DRAWING = Drawing(name=NAME, title=TITLE, paint=paint)
