"""A judgement in Bencher Metric Format, for `bencher run --adapter json`: name -> measure -> value with its interval.

`latency` is Bencher's own measure, in nanoseconds: one iteration of the candidate, in this job only. `time-ratio` is
candidate / baseline, which does not move with the runner; it is the one to put a threshold on.
"""

from __future__ import annotations

import json

from visionbench.comparison.verdict import Judgement
from visionbench.record.statistics import Estimate
from visionbench.record.units import GIGA
from visionbench.reports.results import verdict_text as words


def metrics(judgement: Judgement) -> str:
    """The object as JSON, rows in the gate's order; a row without a number is left out."""
    found = {}
    for verdict in judgement.verdicts:
        seconds = words.seconds(verdict, "candidate")
        measures = {"latency": _metric(seconds, GIGA)} if seconds else {}
        measures |= {"time-ratio": _metric(verdict.ratio, 1.0)} if verdict.ratio else {}
        if measures:
            found[words.clean(verdict.comparison.name)] = measures
    return json.dumps(found, ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def _metric(found: Estimate, scale: float) -> dict[str, float]:
    metric = {"value": words.rounded(found.centre * scale)}
    if found.low is not None and found.high is not None:
        metric |= {
            "lower_value": words.rounded(found.low * scale),
            "upper_value": words.rounded(found.high * scale),
        }
    return metric
