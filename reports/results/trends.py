"""The history of recorded numbers: every change of level that was found, when, and which commits it lies between.

A row is a shift, not a series; how many series were steady, or too short to tell, is a sentence. The commits are those
of the last session that is surely before and the first that is surely after, so that a bisection between them ends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from visionbench.comparison.trend import Series, Session, Shift, Trend
from visionbench.record.units import plural
from visionbench.reports import cells
from visionbench.reports.results.stored import change, metric_name, shown_in
from visionbench.reports.results.verdict_text import clean
from visionbench.reports.table import DASH, Cell, Column, Note, Row, Table

NAME, TITLE = "trends", "Changes of level in the history"

NO_GATE = (
    "A trend is never a gate: a level may move because the machine did (no field of its fingerprint shows a new "
    "neighbour or a firmware). To judge a commit, measure it against its parent in one job: `python bench.py gate`."
)


def layout(trend: Trend) -> Table:
    """The table of all shifts, in the order of the series. Pure."""
    rows = tuple(_row(series, shift) for series in trend.series for shift in series.shifts)
    dash = any(cell.text == DASH for row in rows for cell in row.cells)
    return Table(
        name=NAME,
        title=TITLE,
        columns=_columns(),
        rows=rows,
        legend=(Note(term=DASH, text="not known"),) if dash else (),
        remarks=tuple(_remarks(trend)),
    )


def _columns() -> tuple[Column, ...]:
    level = Note(term="before, after", text="medians over the sessions of the two levels (their numbers under n).")
    cost = Note(term="change", text="of the cost: time per image for img/s; above zero is worse.")
    since = Note(term="since", text="the first session of the new level.")
    between = Note(
        term="between",
        text="the last commit measured that is surely before the change and the first that is surely after it, "
        "at 95 % if sessions are independent.",
    )
    return (
        Column(key="row", head=("row",), align="left"),
        Column(key="metric", head=("metric",), align="left"),
        Column(key="device", head=("device",), align="left", rank=2),
        Column(key="fingerprint", head=("fingerprint",), align="left", rank=4),
        Column(key="since", head=("since",), notes=(since,)),
        Column(key="unit", head=("unit",), align="left", rank=1),
        Column(key="before", head=("before",), unit="1", source="measured", notes=(level,)),
        Column(key="after", head=("after",), unit="1", source="measured"),
        Column(key="change", head=("change",), unit="1", source="measured", notes=(cost,)),
        Column(key="sessions", head=("n",), rank=3),
        Column(key="between", head=("between",), notes=(between,)),
        Column(key="p", head=("p",), rank=3),
    )


def _row(series: Series, shift: Shift) -> Row:
    scale, unit = shown_in(series.unit, min(shift.before, shift.after))
    digits = cells.rate_digits((shift.before / scale, shift.after / scale)) if series.unit != "count" else 0
    first = series.sessions[shift.place]
    filled = (
        cells.word(clean(series.row.removeprefix("timm:")), series.row),
        cells.word(metric_name(series.metric), series.metric),
        cells.word(clean(series.device)),
        cells.word(series.fingerprint),
        cells.word(first.started[:10], first.started),
        cells.word(unit, series.unit),
        _level(shift.before, scale, digits),
        _level(shift.after, scale, digits),
        change(shift.cost),
        cells.word(f"{shift.sessions[0]} + {shift.sessions[1]}"),
        _between(series, shift),
        cells.word(f"{shift.p:.4f}", shift.p),
    )
    return Row(cells=filled, subject=series.subject)


def _level(value: float, scale: float, digits: int) -> Cell:
    return Cell(text=cells.decimals(value / scale, digits), value=value, digits=digits, source="measured")


def _between(series: Series, shift: Shift) -> Cell:
    """`abc1234..def5678`, as git takes it; a dash where the commits are not known."""
    before, after = series.sessions[shift.earliest - 1], series.sessions[shift.latest]
    if not (before.commit and after.commit):
        return Cell()
    if before.commit == after.commit:
        return cells.word(f"within {before.commit[:7]}", before.commit)
    dirty = _dirty(before, after)
    return Cell(text=f"{before.commit[:7]}..{after.commit[:7]}", value=f"{before.commit}..{after.commit}", notes=dirty)


def _dirty(*sessions: Session) -> tuple[str, ...]:
    return ("Measured with uncommitted changes.",) if any(session.dirty for session in sessions) else ()


def _remarks(trend: Trend) -> Iterator[str]:
    courses = Counter(series.course for series in trend.series)
    judged = courses["steady"] + courses["shifted"]
    yield f"{plural(judged, 'series', 'series')} judged: {courses['shifted']} shifted, {courses['steady']} steady."
    if short := courses["too short"]:
        yield f"{short} of fewer than {trend.shortest} sessions: too short to tell."
    if trend.undated:
        yield f"{plural(trend.undated, 'launch', 'launches')} without a date left out."
    rows = {(series.row, series.metric) for series in trend.series}
    if len(rows) < len(trend.series):
        yield "A row on another fingerprint (machine, driver, torch) or by another protocol is a series of its own."
    if courses["shifted"]:
        yield (
            f"Found at the level {trend.alpha:g} per series, with a false-discovery rate of {trend.fdr:g} over all. "
            f"{NO_GATE}"
        )
