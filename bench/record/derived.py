"""What is shown, computed from what is stored: rates, centres and intervals. Standard library only.

The statistics of a measurement are over *launches* (fresh processes). Iterations of one process are autocorrelated, so
an interval over them is too narrow by factors (Kalibera & Jones 2013; Georges et al. 2007): a launch gives one value,
the median of its blocks. Over launches the centre is the Hodges-Lehmann estimate and the interval inverts the exact
Wilcoxon signed-rank test, which assumes a symmetric distribution and nothing about its shape.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from bench.record.record import Record

MIN_LAUNCHES = 7
"""Fewer launches get no interval: with 5 the exact 95 % interval does not exist, with 6 it is the whole range."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A centre with its interval at `confidence`; `low` and `high` are None where `launches` allow no interval."""

    centre: float
    low: float | None
    high: float | None
    launches: int
    confidence: float = 0.95


def images_per_second(record: Record) -> float | None:
    """The throughput of one launch: batch size / (median block's time / iterations), a rate of a cost.

    Never a mean of rates (Hoefler & Belli 2015, rule 3). None if the record has no throughput.
    """
    found = record.get("throughput")
    if found is None or not found.values:
        return None
    return record.spec.batch_size * found.iterations / median(found.values)


def throughput(records: Sequence[Record]) -> Estimate | None:
    """Images per second over the launches of one key. None if none of them has a number."""
    rates = [rate for rate in map(images_per_second, records) if rate is not None]
    return estimate(rates) if rates else None


def estimate(values: Sequence[float], confidence: float = 0.95) -> Estimate:
    """Hodges-Lehmann centre and exact signed-rank interval of positive `values`, on the logarithmic scale.

    Walsh averages W = (x_i + x_j) / 2, i <= j; the centre is their median (Hodges & Lehmann 1963), the interval is
    [W_(t+1), W_(N-t)] with t the largest value for which P(T <= t) <= (1 - confidence) / 2 under the null distribution
    of the signed-rank statistic T. Raises ValueError for no values or a value that is not positive.
    """
    if not values or min(values) <= 0:
        raise ValueError("an estimate needs positive values")
    logs = [math.log(value) for value in values]
    walsh = sorted((a + b) / 2 for i, a in enumerate(logs) for b in logs[i:])
    low = high = None
    if len(values) >= MIN_LAUNCHES:
        cut = _cut(len(values), (1 - confidence) / 2)
        low, high = math.exp(walsh[cut]), math.exp(walsh[-1 - cut])
    return Estimate(centre=math.exp(median(walsh)), low=low, high=high, launches=len(values), confidence=confidence)


@functools.cache
def _cut(n: int, tail: float) -> int:
    """How many Walsh averages to leave out at each end: the largest t for which P(T <= t) <= tail.

    The interval misses the centre by exactly that event: at most t of the Walsh averages lie on one side of it.
    """
    ways = [1] + [0] * (n * (n + 1) // 2)  # ways[t]: subsets of {1..n} that sum to t
    for rank in range(1, n + 1):
        for total in range(len(ways) - 1, rank - 1, -1):
            ways[total] += ways[total - rank]
    cumulative = list(itertools.accumulate(ways))
    return bisect.bisect_right(cumulative, tail * 2**n) - 1
