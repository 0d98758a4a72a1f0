"""Images per second over commits: one panel per row, a line through the centres and a band of their intervals.

Launches of one commit are one point, in the order in which commits were first measured. A network of the user's own is
told apart by the hash of its code, because a record's commit is that of visionbench.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from visionbench.record.clean import clean
from visionbench.record.program import program_name
from visionbench.record.record import Record
from visionbench.record.statistics import MIN_LAUNCHES, Estimate, throughput
from visionbench.reports.figures import canvas, panels
from visionbench.reports.figures.canvas import Entry, Sheet
from visionbench.reports.figures.figure import Drawing, Evidence, MissingError
from visionbench.reports.figures.style import BODY, SMALL, Look
from visionbench.reports.settings import device_name, doubted, doubts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME, TITLE = "history", "Throughput over commits"

PANELS = 6
"""Rows that are shown: those with most commits, the newest first."""

LETTERS = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What was measured of one state of the code, and why that is doubtful."""

    label: str
    rate: Estimate
    doubts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """One row over commits, the oldest first. `name` is what was run, `where` on what and how."""

    name: str
    where: str
    points: tuple[Point, ...]


def data(evidence: Evidence) -> tuple[Track, ...]:
    """The rows with an interval at two commits or more: without one a line would say what may be chance.

    Raises `MissingError` where there is no such row.
    """
    rows: dict[object, dict[tuple[object, ...], list[Record]]] = {}
    for record in sorted(evidence.records, key=lambda one: one.environment.started or ""):
        where = record.environment
        if record.source == "measured" and record.failure is None and (where.git_commit or record.network):
            protocol = record.protocol.name if record.protocol else None
            row = (record.spec, protocol, where.device, where.torch, where.node)
            state = (where.git_commit, where.git_dirty, record.network)
            rows.setdefault(row, {}).setdefault(state, []).append(record)
    kept = []
    for states in rows.values():
        points = tuple(
            Point(label=_label(launches[0]), rate=rate, doubts=doubts(launches))
            for launches in states.values()
            if (rate := throughput(launches))
        )
        newest = next(reversed(states.values()))[-1]
        protocol = newest.protocol.name if newest.protocol else "no protocol"
        how = f"{device_name(newest.environment)}, torch {clean(newest.environment.torch or 'unknown')}, {protocol}"
        if sum(point.rate.low is not None for point in points) > 1:
            kept.append(Track(name=clean(str(newest.spec)).removeprefix("timm:"), where=how, points=points))
    if not kept:
        raise MissingError(
            f"{NAME}: no row was measured at two commits with an interval; "
            f"`{program_name()} run --launches {MIN_LAUNCHES}` at another commit adds one."
        )
    return tuple(sorted(kept, key=lambda track: -len(track.points)))


def _label(record: Record) -> str:
    """The commit, `+` with uncommitted changes; of a user's network the hash of its code."""
    if record.network:
        return record.network[:LETTERS]
    where = record.environment
    return f"{(where.git_commit or '')[:LETTERS]}{'+' if where.git_dirty else ''}"


def paint(evidence: Evidence, look: Look) -> Figure:
    """The panels."""
    tracks = data(evidence)
    named = {f"{track.name}, {track.where}": track for track in (tracks if evidence.choice.panels else tracks[:PANELS])}
    shown = panels.chosen(NAME, named, evidence.choice.panels, look)
    blue, sky = look.theme.hues["blue"], look.theme.hues["sky"]
    why = [point.doubts for track in shown for point in track.points]
    legend = [
        Entry(word="launches of one commit", marker="o", colour=blue),
        *([Entry(word="doubtful", marker="o", colour=blue, hollow=True)] if any(why) else []),
        Entry(word="95 % interval over launches", marker="#", colour=sky),
    ]
    sentences = _sentences(len(tracks) - len(shown), doubted("Hollow", why))
    sheet, stood = panels.sheet(look, TITLE, len(shown), 52.0 if look.narrow else 58.0, sentences, legend)
    for axes, track in zip(stood, shown, strict=True):
        _panel(sheet, axes, track)
    return sheet.figure


def _sentences(left_out: int, doubt: str) -> tuple[str, ...]:
    return (
        "Measured; commits from left to right in the order in which they were first measured, evenly spaced. Hours "
        "differ, and a machine's speed with them: bands that do not meet may differ for that, too, which a gate, that "
        "measures in turns, rules out.",
        "A point without a band has too few launches for an interval. +: with uncommitted changes.",
        doubt,
        f"Rows left out: {left_out}, with as many commits or fewer." if left_out else "",
    )


def _panel(sheet: Sheet, axes: Axes, track: Track) -> None:
    theme, points = sheet.look.theme, track.points
    across = list(range(len(points)))
    ends = [end for one in points for end in (one.rate.low, one.rate.high, one.rate.centre) if end is not None]
    panels.linear(axes, *panels.margins(ends, 0.12), upward=True)
    axes.set_xlim(-0.5, len(points) - 0.5)
    # As many commits by name as have room beside each other, the newest among them.
    widest = max(canvas.size(one.label, SMALL)[0] for one in points) + 2.0
    step = -(-len(points) * widest // panels.inner(axes)[0]) or 1
    named = [at for at in across if (len(points) - 1 - at) % step == 0]
    axes.set_xticks(named, [points[at].label for at in named])
    room = panels.inner(axes)[0] + panels.LEFT - canvas.EDGE
    name = _cut(track.name, BODY, room, bold=True, end=False)  # names differ at their ends
    panels.name(sheet, axes, name, _cut(f"images per second; {track.where}", SMALL, room), "commit")
    low = [one.rate.centre if one.rate.low is None else one.rate.low for one in points]
    high = [one.rate.centre if one.rate.high is None else one.rate.high for one in points]
    axes.fill_between(across, low, high, color=theme.hues["sky"], alpha=0.3, linewidth=0, zorder=2)
    axes.plot(across, [one.rate.centre for one in points], color=theme.hues["blue"], linewidth=0.9, zorder=3)
    for x, one in zip(across, points, strict=True):
        if one.rate.low is not None and one.rate.high is not None:
            axes.plot([x, x], [one.rate.low, one.rate.high], color=theme.hues["blue"], linewidth=0.9, zorder=3)
        face = theme.ground if one.doubts else theme.hues["blue"]
        axes.plot([x], [one.rate.centre], "o", color=theme.hues["blue"], markerfacecolor=face, markersize=4, zorder=4)


def _cut(text: str, points: float, room: float, *, bold: bool = False, end: bool = True) -> str:
    """The text, cut at its end or its beginning where it is wider than `room` mm."""
    shown = text
    while canvas.size(shown, points, bold)[0] > room and len(text) > 1:
        text = text[:-1] if end else text[1:]
        shown = f"{text}…" if end else f"…{text}"
    return shown


DRAWING = Drawing(name=NAME, title=TITLE, paint=paint)
