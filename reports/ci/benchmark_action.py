"""A judgement for github-action-benchmark, tool `customSmallerIsBetter`: a list of entries that it draws over commits.

Two entries per row: the candidate's milliseconds per iteration, which are of this job only and move with the runner,
and the ratio of time, which does not. Its own alert compares one value with the one before; this gate is the judge, so
run it with `fail-on-alert: false`.
"""

from __future__ import annotations

import json

from visionbench.comparison.comparison import TIMER_WORDS
from visionbench.comparison.verdict import Judgement, Verdict
from visionbench.record.statistics import Estimate
from visionbench.record.units import KILO, plural
from visionbench.reports.results import verdict_text as words


def entries(judgement: Judgement) -> str:
    """The list as JSON, rows in the gate's order; a row without a number has no entry."""
    found = [entry for verdict in judgement.verdicts for entry in _entries(verdict)]
    return json.dumps(found, ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def _entries(verdict: Verdict) -> list[dict[str, str | float]]:
    its, name = verdict.comparison, words.clean(verdict.comparison.name)
    made = []
    launches = plural(len(its.launches), "launch", "launches")
    if (found := words.seconds(verdict, "candidate")) is not None:
        extra = f"one iteration of the candidate by {TIMER_WORDS[its.timer]}, of this job only; {launches}"
        made.append(_entry(name, "ms", found, KILO, f"{extra}; {words.clean(its.environment.device)}"))
    if verdict.ratio is not None:
        extra = f"candidate / baseline, measured in turns in this job; {verdict.word}: {words.detail(verdict)}"
        made.append(_entry(f"{name}, time ratio", "x", verdict.ratio, 1.0, extra))
    return made


def _entry(name: str, unit: str, found: Estimate, scale: float, extra: str) -> dict[str, str | float]:
    entry: dict[str, str | float] = {"name": name, "unit": unit, "value": words.rounded(found.centre * scale)}
    entry |= {"range": f"± {half}"} if (half := words.half_width(found)) else {}
    return entry | {"extra": extra}
