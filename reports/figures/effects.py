"""What a switch brings: speed-up of each setting over the plain run, network by network, from comparisons in turns.

A dot is the centre over launches of the ratio of times, without the switch over with it, so above 1 is faster; its bar
is the exact 95 % interval. What may be said of it has the words of the table of effects
(`visionbench.reports.paired_ratio`): filled is faster or slower, a hollow square a tie, a hollow dot is undecided.
A number with a doubt (a flag, launches left out) has a `?`, as in tables.
What failed has its row and its cause.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from visionbench.comparison.comparison import Comparison, speed_up
from visionbench.comparison.switches import SWITCHES, switch_of
from visionbench.record.clean import clean
from visionbench.record.program import program_name
from visionbench.record.spec import Spec
from visionbench.record.statistics import Estimate
from visionbench.record.units import plural
from visionbench.reports import paired_ratio
from visionbench.reports.cells import CAUSES, DOUBTFUL
from visionbench.reports.figures import canvas, panels
from visionbench.reports.figures.canvas import Entry, Sheet
from visionbench.reports.figures.figure import Drawing, Evidence, MissingError
from visionbench.reports.figures.style import SMALL, Look
from visionbench.reports.settings import doubted, ends

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME, TITLE = "effects", "What a switch brings: speed-up, network by network"

FIELDS = ("precision", "memory_format", "compile_mode", "attention", "batch_size", "image_size")
"""Fields of a spec that are ways of running one network."""

FILLED, TIE = ("faster", "slower"), "tie"


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """One row: `speedup` of a switch (`group`) for a network, above 1 is faster, and what may be said of it.

    Without one, `cause` says why.
    """

    group: str
    model: str
    speedup: Estimate | None
    finding: str
    cause: str
    comparison: Comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """The effects of one machine, switch by switch, and how many comparisons of others are left out."""

    effects: tuple[Effect, ...]
    left_out: int


def data(evidence: Evidence) -> Data:
    """One effect per comparison of two ways of running one network, of the newest machine."""
    shown = paired_ratio.newest([comparison for comparison in evidence.comparisons if switch(comparison)])
    if not shown.comparisons:
        raise MissingError(
            f"{NAME}: no switch has been compared; `{program_name()} effects convnext_tiny` measures what each does."
        )
    groups = list(dict.fromkeys([*map(paired_ratio.heading, SWITCHES), *map(switch, shown.comparisons)]))
    made = []
    for one in shown.comparisons:
        found = speed_up(one) if one.failure is None else None
        cause = "" if found else "not measured"
        if one.failure is not None:
            side = {"baseline": " without it", "candidate": "", None: " on both sides"}[one.failed]
            cause = f"{CAUSES[one.failure.kind]}{side}"
        model, finding = _name(one.candidate.spec), paired_ratio.finding(one)
        made.append(Effect(group=switch(one), model=model, speedup=found, finding=finding, cause=cause, comparison=one))
    made.sort(key=lambda effect: groups.index(effect.group))
    return Data(effects=tuple(made), left_out=shown.left_out)


def switch(one: Comparison) -> str:
    """What the candidate does otherwise, in words; "" if it is another network or revision, or nothing differs."""
    if name := switch_of(one):
        return paired_ratio.heading(name)
    a, b = one.baseline, one.candidate
    if a.spec.model != b.spec.model or a.spec.task != b.spec.task or a.commit != b.commit:
        return ""
    pairs = ((field, getattr(a.spec, field), getattr(b.spec, field)) for field in FIELDS)
    return ", ".join(f"{field.replace('_', ' ')} {x or 'eager'} → {y or 'eager'}" for field, x, y in pairs if x != y)


def _name(spec: Spec) -> str:
    """The network, `@` another size than 224 px; of a very long name the end, where names differ."""
    name = clean(spec.model.removeprefix("timm:"))
    name = name if len(name) <= LONGEST else f"…{name[1 - LONGEST :]}"
    task = "" if spec.task == "inference" else ", training"
    return f"{name}{task}" if spec.size == "224" else f"{name}@{spec.size}{task}"


ROW, SECTION = 4.4, 5.6
"""Millimetres of a row, and of a switch's heading above its first."""

LONGEST = 28
"""Letters of a network's name that are shown."""


def paint(evidence: Evidence, look: Look) -> Figure:
    """Rows from the top down: network, dot with its bar, and the numbers."""
    found = data(evidence)
    names = list(dict.fromkeys(effect.group for effect in found.effects))
    kept = panels.chosen(NAME, {name: name for name in names}, evidence.choice.panels, replace(look, slide=False))
    shown = tuple(effect for effect in found.effects if effect.group in kept)
    tops = panels.tops([effect.group for effect in shown], ROW, SECTION)
    body = tops[-1] + ROW + panels.BELOW
    theme = look.theme
    legend = (
        Entry(word="faster or slower", marker="o", colour=theme.hues["blue"]),
        Entry(word="tie", marker="s", colour=theme.hues["blue"], hollow=True),
        Entry(word="cannot tell", marker="o", colour=theme.hues["blue"], hollow=True),
        Entry(word="failed", marker="X", colour=theme.hues["vermillion"]),
    )
    sheet = canvas.sheet(look, TITLE, body, _sentences(found), legend)
    left = canvas.EDGE + max(canvas.size(effect.model, SMALL)[0] for effect in shown) + 3.0
    right = canvas.EDGE + max(canvas.size(_numbers(effect), SMALL)[0] for effect in shown) + 2.0
    axes = canvas.axes(sheet, left, sheet.bottom + panels.BELOW, look.width - left - right, body - panels.BELOW)
    _scale(sheet, axes, shown, body - panels.BELOW)
    _rows(sheet, axes, shown, tops)
    return sheet.figure


def _numbers(effect: Effect) -> str:
    """`1.43 [1.40, 1.46]`, `?` behind what is doubtful; or nothing for what failed."""
    one = effect.speedup
    if one is None:
        return ""
    span = f" [{one.low:.2f}, {one.high:.2f}]" if one.low is not None and one.high is not None else ""
    return f"{one.centre:.2f}{span}{DOUBTFUL if any(paired_ratio.doubts_of(effect.comparison)) else ''}"


def _sentences(found: Data) -> tuple[str, ...]:
    shown = found.effects
    numbers = sorted({len(effect.comparison.launches) for effect in shown if effect.speedup})
    launches = ends(numbers) or "no"
    doubts = (tuple(paired_ratio.doubts_of(effect.comparison)) for effect in shown if effect.speedup)
    where = paired_ratio.machine(shown[0].comparison)
    return (
        f"Measured in turns by two processes beside each other ({where}; {launches} launches a row): time without the "
        "switch over time with it. Bar: exact 95 % interval over launches.",
        f"Tie: all of the interval is within {100 * paired_ratio.TIE:g} % of 1. Cannot tell: it holds 1 and more, "
        "there are too few launches for one, or the machine was not fit to measure.",
        doubted(DOUBTFUL.strip(), doubts),
        f"{plural(found.left_out, 'comparison')} of other machines or software left out." if found.left_out else "",
    )


TICKS = (0.05, 0.1, 0.2, 0.33, 0.5, 0.67, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0)


def _scale(sheet: Sheet, axes: Axes, shown: Sequence[Effect], tall: float) -> None:
    """A logarithmic axis on which 1 is always there, and twice as fast as far from it as half as fast."""
    ends = [
        end for effect in shown if (one := effect.speedup) for end in (one.low or one.centre, one.high or one.centre)
    ]
    low, high = min([*ends, 0.9]) / 1.06, max([*ends, 1.1]) * 1.06
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.set_ylim(tall, 0)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    ticks = _thinned([tick for tick in TICKS if low <= tick <= high], panels.inner(axes)[0] / math.log(high / low))
    axes.set_xticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.axvline(1.0, color=sheet.look.theme.ink, linewidth=0.9, zorder=2)
    panels.below(sheet, axes, "speed-up (right of 1: faster)")


def _thinned(ticks: Sequence[float], unit: float) -> list[float]:
    """Ticks whose numbers have room beside each other, 1 first; `unit` is mm of a factor of e."""
    kept: list[float] = []
    for tick in sorted(ticks, key=lambda one: (one != 1.0, abs(math.log(one)))):
        if all(abs(math.log(tick / other)) * unit > 6.0 for other in kept):
            kept.append(tick)
    return sorted(kept)


def _rows(sheet: Sheet, axes: Axes, shown: Sequence[Effect], tops: Sequence[float]) -> None:
    theme, group = sheet.look.theme, ""
    edge = sheet.look.width - canvas.EDGE
    for effect, top in zip(shown, tops, strict=True):
        middle = top + ROW / 2
        if effect.group != group:
            group = effect.group
            y = sheet.top - top + 1.0
            canvas.write(sheet, canvas.EDGE, y, group, points=SMALL, bold=True, colour=theme.muted, boxed=True)
        canvas.write(sheet, canvas.EDGE, sheet.top - middle, effect.model, points=SMALL, vertical="center")
        canvas.write(sheet, edge, sheet.top - middle, _numbers(effect), points=SMALL, across="right", vertical="center")
        axes.plot(axes.get_xlim(), [middle, middle], color=theme.grid, linewidth=0.4, zorder=1)
        _dot(sheet, axes, effect, middle)


def _dot(sheet: Sheet, axes: Axes, effect: Effect, middle: float) -> None:
    """The centre with its bar; of what failed a cross at the left edge, where no speed-up can be meant, and why."""
    theme, one = sheet.look.theme, effect.speedup
    if one is None:
        left = canvas.frame(axes).left
        at = axes.transData.inverted().transform(((left + 2.0) / 25.4 * canvas.DPI, 0.0))[0]
        axes.plot([at], [middle], "X", color=theme.hues["vermillion"], markersize=4.5, markeredgewidth=0, zorder=4)
        y = sheet.top - middle
        canvas.write(sheet, left + 4.0, y, effect.cause, points=SMALL, vertical="center", boxed=True)
        return
    colour = theme.hues["blue"]
    if one.low is not None and one.high is not None:
        axes.plot([one.low, one.high], [middle, middle], color=colour, linewidth=1.2, zorder=3)
    face = colour if effect.finding in FILLED else theme.ground
    marker = "s" if effect.finding == TIE else "o"
    axes.plot([one.centre], [middle], marker, color=colour, markerfacecolor=face, markersize=4.5, zorder=4)


DRAWING = Drawing(name=NAME, title=TITLE, paint=paint)
