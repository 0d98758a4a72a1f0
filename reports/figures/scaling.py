"""Efficiency of training on several processes: what is kept of N times one, and of a step without communication.

One panel per device and way of running, one line per network. Measured alone: both quotients are of blocks in turns
within a launch, with a 95 % interval over launches where there are enough of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from visionbench.record.efficiency import communication_efficiency, scaling_efficiency
from visionbench.record.program import program_name
from visionbench.record.spec import Spec
from visionbench.record.statistics import MIN_LAUNCHES, Estimate, over_launches
from visionbench.reports.figures import panels
from visionbench.reports.figures.canvas import Entry, Sheet
from visionbench.reports.figures.figure import Drawing, Evidence, MissingError
from visionbench.reports.figures.style import POINT, Look
from visionbench.reports.launches import grouped
from visionbench.reports.settings import doubted, doubts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME, TITLE = "scaling", "Training on several processes: what is kept of N times one"

HUES = ("blue", "orange", "purple", "green", "grey")
MARKERS = ("o", "s", "^", "D", "v")

MOST_LINES = 5
"""Networks in a panel: the newest."""

DOT = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One key: so many processes, the scaling efficiency and the communication efficiency (1 = all is kept).

    `doubts` says why they are doubtful.
    """

    processes: int
    scaling: Estimate
    communication: Estimate | None
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One network on one device, at one batch per process, over the numbers of processes."""

    spec: Spec
    device: str
    points: tuple[Point, ...]


def data(evidence: Evidence) -> tuple[Line, ...]:
    """The lines, the newest last. Raises `MissingError` where nothing was measured on several processes."""
    measured = (record for record in evidence.records if record.source == "measured" and record.failure is None)
    together = (record for record in measured if record.spec.processes is not None)
    lines: dict[tuple[object, ...], Line] = {}
    for launches in grouped(together, lambda record: record.key).values():
        scaling = over_launches(launches, scaling_efficiency)
        if scaling is None:
            continue
        spec = launches[-1].spec
        _, *rest = launches[-1].key
        lone = replace(spec, processes=None)
        line = lines.pop((lone, *rest), Line(spec=spec, device=launches[-1].environment.device, points=()))
        communication = over_launches(launches, communication_efficiency)
        point = Point(
            processes=spec.processes or 1, scaling=scaling, communication=communication, doubts=doubts(launches)
        )
        lines[lone, *rest] = replace(line, points=(*line.points, point))
    if not lines:
        raise MissingError(
            f"{NAME}: nothing was trained on several processes; "
            f"`{program_name()} run resnet50 --task train --processes 2` does."
        )
    return tuple(lines.values())[-MOST_LINES:]


def paint(evidence: Evidence, look: Look) -> Figure:
    """Two panels: scaling efficiency, and communication efficiency, over the number of processes."""
    lines = data(evidence)
    looks = zip(lines, HUES, MARKERS, strict=False)
    legend = [Entry(word=_name(line, lines), marker=marker, colour=look.theme.hues[hue]) for line, hue, marker in looks]
    each = 60.0 if look.narrow else 66.0
    sheet, stood = panels.sheet(look, TITLE, 2, each, _sentences(lines), legend, flexible=False)
    for axes, which in zip(stood, ("scaling", "communication"), strict=True):
        _panel(sheet, axes, lines, f"{which.capitalize()} efficiency", which)
    return sheet.figure


def _name(line: Line, lines: Sequence[Line]) -> str:
    """The network, and what tells two lines apart."""
    words = [line.spec.model.partition(":")[2] or line.spec.model, f"b{line.spec.batch_size}"]
    words += [line.spec.parallel or ""] if len({other.spec.parallel for other in lines}) > 1 else []
    words += [line.spec.precision] if len({other.spec.precision for other in lines}) > 1 else []
    words += [line.device] if len({other.device for other in lines}) > 1 else []
    return " ".join(words)


def _sentences(lines: Sequence[Line]) -> tuple[str, ...]:
    devices = ", ".join(dict.fromkeys(line.device for line in lines))
    few = any(point.scaling.low is None for line in lines for point in line.points)
    return (
        f"Measured on {devices}. Weak scaling: the batch (b) is each process's.",
        "Scaling: the rate of N processes over N times one alone. Communication: time of a step under no_sync over "
        "that of a step.",
        "Blocks take turns within a launch. Bars: 95 % interval over launches.",
        f"A point without a bar has fewer than {MIN_LAUNCHES} launches." if few else "",
        doubted("Hollow", (point.doubts for line in lines for point in line.points)),
    )


def _panel(sheet: Sheet, axes: Axes, lines: Sequence[Line], title: str, which: str) -> None:
    theme = sheet.look.theme
    estimates = [[(p, e) for p in line.points if (e := getattr(p, which)) is not None] for line in lines]
    ends = [100 * end for row in estimates for _, e in row for end in (e.low or e.centre, e.high or e.centre)]
    numbers = sorted({point.processes for row in estimates for point, _ in row})
    least, *_, most = (*numbers, *numbers) or (1, 2)
    panels.logarithmic(axes, least / 1.3, most * 1.3)
    axes.set_xticks(numbers, labels=[str(number) for number in numbers])
    panels.linear(axes, min([0.0, *ends]), max([105.0, *ends]) * 1.05, upward=True)
    panels.name(sheet, axes, title, "% of what nothing lost would be", "processes")
    axes.axhline(100.0, color=theme.muted, linewidth=0.6, linestyle=(0, (4, 3)), zorder=1)
    for row, hue, marker in zip(estimates, HUES, MARKERS, strict=False):
        colour = theme.hues[hue]
        row.sort(key=lambda pair: pair[0].processes)
        across, up = [p.processes for p, _ in row], [100 * e.centre for _, e in row]
        axes.plot(across, up, color=colour, linewidth=0.8, zorder=4)
        for point, e in row:
            face, number, centre = theme.ground if point.doubts else colour, point.processes, 100 * e.centre
            dot: dict[str, Any] = {"color": colour, "markerfacecolor": face, "markersize": 2 * DOT / POINT, "zorder": 5}
            axes.plot([number], [centre], marker, **dot)
            if e.low is not None and e.high is not None:
                span = [[100 * (e.centre - e.low)], [100 * (e.high - e.centre)]]
                axes.errorbar(number, centre, yerr=span, ecolor=colour, elinewidth=1.0, capsize=2.0, zorder=3)


DRAWING = Drawing(name=NAME, title=TITLE, paint=paint)
