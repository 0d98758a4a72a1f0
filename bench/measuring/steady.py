"""When is a run warm? A stated rule, because "ten iterations" is a hope.

An idle GPU ramps its clocks for about a second; caches, autotuning and lazy initialisation take a few calls; and
fewer than half of all benchmarks reach a steady state reliably (Barrett et al. 2017: 43.5 % of VM and benchmark
pairs). So two consecutive windows of blocks are compared, as pyperf does when it calibrates its warm-up, and what
is still moving is named. A run that is not steady when the time is up is measured all the same, and its number says
so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from statistics import median, quantiles

WINDOW = 10
"""Blocks per window."""

TOLERANCE = {"cuda": 0.01, "cpu": 0.02}
"""How far the medians of two windows may differ, and how far a window may drift, as shares."""

QUARTILE_TOLERANCE = 0.05
OUTLIER = 1.5
"""Interquartile ranges above the third quartile beyond which a window's first value is still warming up (Tukey
1977).
"""


def unsteady(blocks: Sequence[float], device_type: str) -> str | None:
    """What still moves in the last two windows of block times (s), in a few words; None if the run is steady.

    Fewer than two windows are not steady: there is nothing to compare.
    """
    if len(blocks) < 2 * WINDOW:
        return "fewer than two windows of blocks"
    before, after = blocks[-2 * WINDOW : -WINDOW], blocks[-WINDOW:]
    tolerance = TOLERANCE["cpu" if device_type == "cpu" else "cuda"]
    if _apart(median(before), median(after)) > tolerance:
        return "the median moves"
    first, third = (_quartiles(window) for window in (before, after))
    if max(_apart(one, other) for one, other in zip(first, third, strict=True)) > QUARTILE_TOLERANCE:
        return "the quartiles move"
    low, high = third
    if after[0] > high + OUTLIER * (high - low):
        return "the window begins slowly"
    if abs(drift(after)) > tolerance:
        return "the blocks drift"
    return None


def drift(blocks: Sequence[float]) -> float:
    """How much the blocks change from the first to the last, as a share of their median, by the Theil-Sen slope.

    The slope is the median of the slopes of all pairs (Sen 1968): a burst moves it little.
    """
    slopes = [(b - a) / (j - i) for (i, a), (j, b) in combinations(enumerate(blocks), 2)]
    return median(slopes) * (len(blocks) - 1) / median(blocks)


def _quartiles(window: Sequence[float]) -> tuple[float, float]:
    low, _, high = quantiles(window, n=4, method="inclusive")
    return low, high


def _apart(one: float, other: float) -> float:
    return abs(math.log(other / one)) if one > 0 and other > 0 else math.inf
