"""The history of every number: its sessions in order, and the changes of level in it. Never a gate.

A gate compares a change with its base and so misses what creeps in below its margin, ten times over; a history shows
it. One session gives one value, the median over its launches, because launches of one session share its weather; a
series is of one row on one fingerprint by one protocol, because a new driver is a new level and no drift. Changes are
sought on the sessions (`change_point`), and over all series their number is held down (Benjamini & Hochberg 1995).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from statistics import median

import numpy as np
from scipy.stats import false_discovery_control

from visionbench.comparison.trend import Series, Session, Shift, Trend
from visionbench.comparison.verdict import NOT_MEASURED, OK
from visionbench.judging.change_point import SHORTEST, Change, changed, changes
from visionbench.judging.result_files import Facts, Number, Sample
from visionbench.record.record import Better

ALPHA, FDR = 0.001, 0.05
"""The level of one series' test, and the share of false ones among all series that are called shifted."""

GAP = timedelta(hours=6)
"""Launches of one commit that lie further apart are two sessions: no job of a hosted runner may take longer."""

Launch = tuple[datetime, Sample, Number]


def trend(samples: Iterable[Sample], *, alpha: float = ALPHA, fdr: float = FDR) -> Trend:
    """The series of every timed number of `samples`, in the order of their appearance. Pure; seeded.

    A launch that appears twice (a file and its copy) counts once; one without a date cannot be placed and is left out.
    """
    once = dict.fromkeys(samples)
    grouped: dict[tuple[str, str, str, Facts, Facts], list[Launch]] = {}
    undated = 0
    for sample in once:
        when = _moment(sample.started)
        undated += when is None and bool(sample.numbers)
        for number in sample.numbers if when else ():
            if when and not number.exact:
                key = (sample.row, sample.source, number.metric, sample.how, sample.where)
                grouped.setdefault(key, []).append((when, sample, number))
    series = tuple(_series(launches) for launches in grouped.values())
    return Trend(series=_judged(series, alpha, fdr), alpha=alpha, fdr=fdr, shortest=SHORTEST, undated=undated)


def exit_code(found: Trend) -> int:
    """0, whatever was found: a trend is never a gate; 4 only where there was nothing to look at."""
    return OK if found.series else NOT_MEASURED


def _moment(started: str | None) -> datetime | None:
    """The time of an ISO 8601 text; one without a zone is UTC."""
    try:
        moment = datetime.fromisoformat(started) if started else None
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment and moment.tzinfo is None else moment


def _series(launches: Sequence[Launch]) -> Series:
    _, sample, number = launches[0]
    return Series(
        row=sample.row,
        subject=sample.subject,
        metric=number.metric,
        unit=number.unit,
        better=number.better,
        device=sample.device,
        fingerprint=sample.fingerprint,
        course="too short",
        sessions=tuple(_session(its) for its in _sessions(launches)),
    )


def _sessions(launches: Sequence[Launch]) -> Iterator[list[Launch]]:
    """Runs of launches of one state of the code, none of them more than `GAP` after the one before."""
    together: list[Launch] = []
    for launch in sorted(launches, key=lambda launch: launch[0]):
        if together and not _same_session(together[-1], launch):
            yield together
            together = []
        together.append(launch)
    yield together


def _same_session(a: Launch, b: Launch) -> bool:
    return b[0] - a[0] <= GAP and (a[1].commit, a[1].dirty) == (b[1].commit, b[1].dirty)


def _session(launches: Sequence[Launch]) -> Session:
    when, sample, _ = launches[0]
    return Session(
        started=when.astimezone(UTC).isoformat(timespec="seconds"),
        value=median(number.value for _, _, number in launches),
        launches=len(launches),
        commit=sample.commit,
        dirty=sample.dirty,
    )


def _judged(series: Sequence[Series], alpha: float, fdr: float) -> tuple[Series, ...]:
    """The series with their courses and shifts: those whose test holds on its own and among all the others."""
    long = [one for one in series if len(one.sessions) >= SHORTEST]
    tests = [changed(_values(one)) for one in long]
    adjusted = false_discovery_control(tests) if tests else ()
    held = {id(one) for one, p, q in zip(long, tests, adjusted, strict=True) if p <= alpha and q <= fdr}
    judged = {id(one) for one in long}
    return tuple(
        _shifted(one, alpha) if id(one) in held else replace(one, course="steady") if id(one) in judged else one
        for one in series
    )


def _values(series: Series) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([session.value for session in series.sessions])


def _shifted(series: Series, alpha: float) -> Series:
    values, found = _values(series), changes(_values(series), alpha)
    ends = [0, *(change.place for change in found), len(values)]
    levels = [values[a:b].tolist() for a, b in pairwise(ends)]
    shifts = tuple(
        _shift(change, before, after, series.better)
        for change, (before, after) in zip(found, pairwise(levels), strict=True)
    )
    return replace(series, course="shifted", shifts=shifts)


def _shift(change: Change, before: Sequence[float], after: Sequence[float], better: Better) -> Shift:
    a, b = median(before), median(after)
    over, under = (a, b) if better == "higher" else (b, a)
    return Shift(
        place=change.place,
        earliest=change.earliest,
        latest=change.latest,
        before=a,
        after=b,
        cost=over / under if under > 0 else None,
        sessions=(len(before), len(after)),
        p=change.p,
    )
