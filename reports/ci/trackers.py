"""A judgement for other people's trackers, which draw numbers over commits. A row without a number is left out.

Bencher Metric Format, for `bencher run --adapter json`: name -> measure -> value with its interval. `latency` is
Bencher's own measure, in nanoseconds: one iteration of the candidate, in this job only. `time-ratio` is candidate /
baseline, which does not move with the runner; it is the one to put a threshold on.

github-action-benchmark, tool `customSmallerIsBetter`: two entries per row, the candidate's milliseconds per iteration
and the ratio of time. Its own alert compares one value with the one before; this gate is the judge, so run it with
`fail-on-alert: false`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from visionbench.comparison.comparison import TIMER_WORDS
from visionbench.comparison.verdict import Judgement, Verdict
from visionbench.record.statistics import Estimate
from visionbench.record.units import GIGA, KILO, plural
from visionbench.reports.results import verdict_text as words


def metrics(judgement: Judgement) -> str:
    """For Bencher: the object as JSON, rows in the gate's order."""
    found = {}
    for verdict in judgement.verdicts:
        seconds = words.seconds(verdict, "candidate")
        measures = {"latency": _metric(seconds, GIGA)} if seconds else {}
        measures |= {"time-ratio": _metric(verdict.ratio, 1.0)} if verdict.ratio else {}
        if measures:
            found[words.clean(verdict.comparison.name)] = measures
    return json.dumps(found, ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def _metric(found: Estimate, scale: float) -> dict[str, float]:
    bounds = {"value": found.centre, "lower_value": found.low, "upper_value": found.high}
    return {name: words.rounded(bound * scale) for name, bound in bounds.items() if bound is not None}


def entries(judgement: Judgement) -> str:
    """For github-action-benchmark: the list as JSON, rows in the gate's order."""
    found = [entry for verdict in judgement.verdicts for entry in _entries(verdict)]
    return json.dumps(found, ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def _entries(verdict: Verdict) -> Iterator[dict[str, str | float]]:
    its, name = verdict.comparison, words.clean(verdict.comparison.name)
    launches = plural(len(its.launches), "launch", "launches")
    if (seconds := words.seconds(verdict, "candidate")) is not None:
        extra = f"one iteration of the candidate by {TIMER_WORDS[its.timer]}, of this job only; {launches}"
        yield _entry(name, "ms", seconds, KILO, f"{extra}; {words.clean(its.environment.device)}")
    if verdict.ratio is not None:
        extra = f"candidate / baseline, measured in turns in this job; {verdict.word}: {words.detail(verdict)}"
        yield _entry(f"{name}, time ratio", "x", verdict.ratio, 1.0, extra)


def _entry(name: str, unit: str, found: Estimate, scale: float, extra: str) -> dict[str, str | float]:
    entry: dict[str, str | float] = {"name": name, "unit": unit, "value": words.rounded(found.centre * scale)}
    entry |= {"range": f"± {half}"} if (half := words.half_width(found)) else {}
    return entry | {"extra": extra}
