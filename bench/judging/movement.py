"""How far a ratio moves within one job: what is too slow for launches to average out.

The gate takes its launches one after the other. If one side becomes slower than the other meanwhile, for a reason that
is not in the code, no test that forgets their order can tell. What the launches themselves show of it are their slow
cosines c_k = sqrt(2 / n) sum_i x_i cos(pi k (i - 1/2) / n), k = 1 ... 6. Of launches that forget each other each has
the variance of one launch, so their mean square is an estimate of it with six degrees of freedom that sees a drift, a
random walk or a slow wander as what it is; a centre divided by it is Student's t, exactly so for normal noise (Mueller
2007; Lazarus, Lewis, Stock & Watson 2018). Whether they are larger than the quick rest is an F test.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

from visionbench.record.statistics import EQUAL, FEWEST_FOR_MEMORY

SLOW = 6
"""How many cosines are slow: with fewer the test finds less of what is there, with more it sees less of a wander."""

SHOWN = 0.01
"""The level of the F test: below it the ratio is taken to have moved, and not to have scattered."""

MOST_MOVED = 12.0
"""A ratio that has moved must be so many of its errors off the margin.

The three numbers are from simulation: tests/judge/test_judge_power.py counts what they come to.
"""


def needed(logs: Sequence[float], level: float) -> float:
    """How far from a margin the centre of `logs`, in their order, must be: a logarithm.

    Nearer to it, launches that move as slowly as these are off the margin by chance more often than `level`. 0 for
    fewer than `FEWEST_FOR_MEMORY` launches, which tell nothing of it.
    """
    n = len(logs)
    if n < FEWEST_FOR_MEMORY:
        return 0.0
    slow = math.fsum(value * value for value in _cosines(logs)) / SLOW
    centre = math.fsum(logs) / n
    rest = (math.fsum((value - centre) ** 2 for value in logs) - SLOW * slow) / (n - 1 - SLOW)
    if slow <= EQUAL**2:
        return 0.0
    student, fisher = _critical(n, level)
    return math.sqrt(slow / n) * (MOST_MOVED if slow > fisher * rest else student)


def spread(logs: Sequence[float]) -> float:
    """How far apart the highest and the lowest point of the slow movement are: a logarithm."""
    n, cosines = len(logs), _cosines(logs)
    heights = [
        math.sqrt(2 / n) * math.fsum(size * wave[i] for size, wave in zip(cosines, _waves(n), strict=True))
        for i in range(n)
    ]
    return max(heights) - min(heights)


def _cosines(logs: Sequence[float]) -> list[float]:
    n = len(logs)
    return [math.sqrt(2 / n) * math.fsum(map(float.__mul__, logs, wave)) for wave in _waves(n)]


@functools.lru_cache(maxsize=64)
def _waves(n: int) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(math.cos(math.pi * k * (i + 0.5) / n) for i in range(n)) for k in range(1, SLOW + 1))


@functools.lru_cache(maxsize=64)
def _critical(n: int, level: float) -> tuple[float, float]:
    """Student's t at `level`, and Fisher's F at `SHOWN`."""
    from scipy.stats import f, t

    return float(t.isf(level, SLOW)), float(f.isf(SHOWN, SLOW, n - 1 - SLOW))
