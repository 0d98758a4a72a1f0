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
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist, median, quantiles
from typing import TypeVar

from visionbench.record.metrics import DENSE_PHASES, POST_PHASES
from visionbench.record.record import Record

Node = TypeVar("Node")

MIN_LAUNCHES = 7
"""Fewer launches get no interval: with 5 the exact 95 % interval does not exist, with 6 it is the whole range."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A centre with its interval at `confidence`; `low` and `high` are None where `launches` allow no interval.

    With several `nodes` it is over nodes: of equal cards, not of one. Where they are too few for an interval, `least`
    and `most` are the range of the nodes' values. `nodes` is 0 where no record names one.
    """

    centre: float
    low: float | None
    high: float | None
    launches: int
    confidence: float = 0.95
    nodes: int = 0
    least: float | None = None
    most: float | None = None


def images_per_second(record: Record) -> float | None:
    """The throughput of one launch: batch size / (median block's time / iterations), a rate of a cost.

    Of several processes that train together it is the rate of each, by its own batch (`efficiency` has that of all).
    Never a mean of rates (Hoefler & Belli 2015, rule 3). None if the record has no throughput, or one that no machine
    has (`POSSIBLE`): its square, its inverse or its axis may be beyond a float.
    """
    blocks = record.get("throughput")
    seconds = _middle(blocks.values) if blocks and blocks.values else 0
    rate = record.spec.batch_size * blocks.iterations / seconds if blocks and seconds > 0 else 0.0
    return rate if POSSIBLE[0] <= rate <= POSSIBLE[1] else None


POSSIBLE = 1e-12, 1e15
"""Images per second of any machine."""


_middle = functools.lru_cache(maxsize=2**16)(median)
"""The median of a launch's blocks, which a table's cell, its interval and its doubts each ask for."""

FACTOR = 1.5
"""From such a ratio of its quartiles on, a number's blocks, or its launches, differ by a factor."""


def scatter_factor(records: Iterable[Record]) -> float | None:
    """How many times the slow quarter of a launch's blocks takes as long as the fast one, where that is a factor.

    The largest of the launches; or, where it is larger, the same between their medians. None where all agree.
    """
    blocks = [found.values for record in records if (found := record.get("throughput"))]
    sets = [*blocks, [_middle(values) for values in blocks if values]]
    wide = [values for values in sets if len(values) >= 4 and max(values) >= FACTOR * min(values)]  # else never so far
    factors = [high / low for values in wide for low, _, high in [quantiles(values, n=4)] if low > 0]
    largest = max(factors, default=1.0)
    return largest if largest >= FACTOR else None


def latency(records: Sequence[Record], quantile: float = 0.5) -> Estimate | None:
    """A percentile of the seconds of one batch over the launches of one key.

    Each launch gives one value, if it has iterations enough for that percentile (`percentile`). None if none has.
    """

    def of_launch(record: Record) -> float | None:
        iterations = record.get("latency")
        of_one = percentile(iterations.values, quantile) if iterations else None
        return of_one.value if of_one else None

    return over_launches(records, of_launch)


def typical(record: Record, metric: str) -> float | None:
    """The median of a launch's raw values of `metric`, or None where it has none."""
    measurement = record.get(metric)
    return median(measurement.values) if measurement and measurement.values else None


def end_to_end(record: Record) -> float | None:
    """Seconds of a detector's phases added up, its dense part and its post-processing; None where one is missing."""
    return _sum(record, (*DENSE_PHASES, *POST_PHASES))


def post_processing(record: Record) -> float | None:
    """Seconds of a detector's post-processing: proposals, detections and pasted masks of one step."""
    return _sum(record, POST_PHASES)


def _sum(record: Record, metrics: Iterable[str]) -> float | None:
    parts = [typical(record, metric) for metric in metrics]
    seconds = [part for part in parts if part is not None]
    return sum(seconds) if len(seconds) == len(parts) else None


def over_launches(records: Sequence[Record], value: Callable[[Record], float | None]) -> Estimate | None:
    """The estimate over the launches that have a value, or over their nodes where they name several (`over_nodes`).

    Values of zero or less are meter faults and are ignored.
    """
    pairs = [(record.environment.node, value(record)) for record in records]
    values = [(node, number) for node, number in pairs if number is not None and number > 0]
    return over_nodes(values) if values else None


def over_nodes(values: Sequence[tuple[str | None, float]]) -> Estimate:
    """The estimate of a kind of card from launches on several nodes, each a node and a positive value.

    Equal cards differ by more than launches of one card, so launches of one node are no repetitions: a node's value is
    the median of its launches, and the estimate is over nodes. Launches of one node, or of none that is named, give the
    estimate of that card alone. Raises ValueError for no values or a value that is not positive.
    """
    by_node = _by_node(values)
    named = sum(node is not None for node in by_node)
    if len(by_node) < 2:
        return replace(estimate([value for _, value in values]), nodes=named)
    medians = [median(its) for its in by_node.values()]
    over = replace(estimate(medians), launches=len(values), nodes=len(by_node))
    return over if over.low is not None else replace(over, least=min(medians), most=max(medians))


def _by_node(values: Iterable[tuple[Node, float]]) -> dict[Node, list[float]]:
    by_node: dict[Node, list[float]] = {}
    for node, value in values:
        by_node.setdefault(node, []).append(value)
    return by_node


def ratio_over_nodes(
    above: Sequence[Record], below: Sequence[Record], value: Callable[[Record], float | None]
) -> Estimate | None:
    """The ratio of two rows over nodes, each card against itself: what sets a card apart is in both and cancels.

    None where fewer than two nodes have both rows.
    """
    sides = []
    for records in (above, below):
        cards = [((record.environment.node, record.environment.gpu_uuid), value(record)) for record in records]
        known = [(card, number) for card, number in cards if card[0] is not None and number is not None and number > 0]
        sides.append({card: median(its) for card, its in _by_node(known).items()})
    ratios = [
        (node, number / sides[1][node, card]) for (node, card), number in sides[0].items() if (node, card) in sides[1]
    ]
    return over_nodes(ratios) if len({node for node, _ in ratios}) > 1 else None


def throughput(records: Sequence[Record]) -> Estimate | None:
    """Images per second over the launches of one key. None if none of them has a number."""
    return over_launches(records, images_per_second)


def estimate(values: Sequence[float], confidence: float = 0.95) -> Estimate:
    """Hodges-Lehmann centre and exact signed-rank interval of positive `values`, on the logarithmic scale.

    Walsh averages W = (x_i + x_j) / 2, i <= j; the centre is their median (Hodges & Lehmann 1963), the interval is
    [W_(t+1), W_(N-t)] with t the largest value for which P(T <= t) <= (1 - confidence) / 2 under the null distribution
    of the signed-rank statistic T. Raises ValueError for no values or a value that is not positive.
    """
    if not values or min(values) <= 0:
        raise ValueError("an estimate needs positive values")
    return _estimate(tuple(values), confidence)


@functools.lru_cache(maxsize=4096)
def _estimate(values: tuple[float, ...], confidence: float) -> Estimate:
    walsh = Walsh([math.log(value) for value in values])
    low = high = None
    cut = _cut(len(values), (1 - confidence) / 2) if len(values) >= MIN_LAUNCHES else -1
    if cut >= 0:  # below, not even the outermost averages are that certain
        low, high = math.exp(walsh[cut]), math.exp(walsh[-1 - cut])
    return Estimate(centre=math.exp(walsh.median), low=low, high=high, launches=len(values), confidence=confidence)


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentile:
    """The value that a share `quantile` of single iterations is below, with its interval at `confidence`."""

    quantile: float
    value: float
    low: float
    high: float
    samples: int
    confidence: float = 0.95


def percentile(values: Sequence[float], quantile: float, confidence: float = 0.95) -> Percentile | None:
    """The empirical quantile, the ceil(n q)-th smallest of n values; None where n is too small to say.

    The number of values below the true quantile is binomial(n, q), whatever their distribution, so two of the sorted
    values are an interval of at least that confidence (David & Nagaraja 2003, "Order Statistics", section 7.1). It
    exists if the largest value is above the quantile with enough certainty, q^n <= (1 - confidence) / 2, and the
    smallest below it, (1 - q)^n <= (1 - confidence) / 2: at 95 % from 6 values for the median, 36 for the 90th
    percentile and 368 for the 99th. The interval takes the iterations for independent; those of one process are not
    quite, so it speaks for this launch alone. Raises ValueError for a quantile outside (0, 1).
    """
    if not 0 < quantile < 1:
        raise ValueError(f"a quantile is between 0 and 1, not {quantile}")
    ranks = _ranks(len(values), quantile, (1 - confidence) / 2)
    if ranks is None:
        return None
    ordered = sorted(values)
    centre = math.ceil(round(len(ordered) * quantile, 9))  # 10 * 0.7 is 7.000000000000001
    return Percentile(
        quantile=quantile,
        value=ordered[max(centre, 1) - 1],
        low=ordered[ranks[0] - 1],
        high=ordered[ranks[1] - 1],
        samples=len(ordered),
        confidence=confidence,
    )


@functools.cache
def _ranks(n: int, quantile: float, tail: float) -> tuple[int, int] | None:
    """Which of n sorted values (counted from 1) bound the quantile; None if the outermost two do not.

    With B ~ binomial(n, quantile): the largest l with P(B <= l - 1) <= tail, the smallest u with P(B >= u) <= tail.
    """
    if n == 0:
        return None
    ways = [_binomial(n, k, quantile) for k in range(n + 1)]
    below, above = list(itertools.accumulate(ways)), list(itertools.accumulate(reversed(ways)))
    low, beyond = bisect.bisect_right(below, tail), bisect.bisect_right(above, tail)
    return (low, n + 1 - beyond) if low and beyond else None


def _binomial(n: int, k: int, p: float) -> float:
    """P(B = k), by logarithms: the coefficient alone exceeds a float from n = 1030 on."""
    choose = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(choose + k * math.log(p) + (n - k) * math.log1p(-p))


EXACT_UP_TO = 60
"""Launches up to which the signed-rank distribution is counted out; beyond, its normal approximation is as good."""


@functools.cache
def _cut(n: int, tail: float) -> int:
    """How many Walsh averages to leave out at each end: the largest t for which P(T <= t) <= tail, -1 for none.

    The interval misses the centre by exactly that event: at most t of the Walsh averages are on one side of it.
    """
    if n > EXACT_UP_TO:
        return math.floor(_signed_rank_normal(n).inv_cdf(tail) - 0.5)
    return bisect.bisect_right(signed_rank_chances(n), tail) - 1


def _signed_rank_normal(n: int) -> NormalDist:
    return NormalDist(n * (n + 1) / 4, math.sqrt(n * (n + 1) * (2 * n + 1) / 24))


class Walsh:
    """The averages (x_i + x_j) / 2, i <= j, of n values, ascending: looked up by place, and counted up to a bound.

    Beyond `EXACT_UP_TO` values they are not written down: an answer takes O(n) steps for each halving of the range that
    holds it.
    """

    def __init__(self, values: Sequence[float]) -> None:
        # Sorted first: the averages then come as ascending runs, which Python's sort merges instead of sorting.
        self._values = ordered = sorted(values)
        self._size = len(ordered) * (len(ordered) + 1) // 2
        self._counted: dict[float, int] = {}
        self._sorted: tuple[int, list[float]] = (0, [])  # a piece of them, and the place where it begins
        few = len(ordered) <= EXACT_UP_TO
        self._all = sorted((a + b) / 2 for i, a in enumerate(ordered) for b in ordered[i:]) if few else None

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, place: int) -> float:
        if self._all is not None:
            return self._all[place]
        return self._selected(place if place >= 0 else self._size + place)

    @property
    def median(self) -> float:
        """The middle average, or the mean of the two in the middle."""
        return (self[(self._size - 1) // 2] + self[self._size // 2]) / 2

    def count(self, bound: float) -> int:
        """How many averages are at most `bound`."""
        if self._all is not None:
            return bisect.bisect_right(self._all, bound)
        if bound not in self._counted:
            self._counted[bound] = sum(self._ends(bound)) - len(self._values) * (len(self._values) - 1) // 2
        return self._counted[bound]

    def _ends(self, bound: float) -> list[int]:
        """For each i, the place after the last j >= i with (x_i + x_j) / 2 <= bound; i without one."""
        values, last = self._values, len(self._values)
        ends: list[int] = []
        for first, value in enumerate(values):
            while last > first and (value + values[last - 1]) / 2 > bound:
                last -= 1
            if last <= first:
                return [*ends, *range(first, len(values))]
            ends.append(last)
        return ends

    def _selected(self, place: int) -> float:
        """The average at that place: the range is narrowed until few are left in it, and these are sorted."""
        below, few = self._sorted
        if not below <= place < below + len(few):
            below, few = self._sorted = self._around(place)
        return few[place - below]

    def _around(self, place: int) -> tuple[int, list[float]]:
        """The averages about that place, ascending, and the place of the first of them."""
        values = self._values
        self.count(values[0])
        below, low = max(((n, bound) for bound, n in self._counted.items() if n <= place), default=(0, -math.inf))
        upto, high = min(
            ((n, bound) for bound, n in self._counted.items() if n > place), default=(self._size, values[-1])
        )
        while upto - below > 2 * len(values):
            middle = (max(low, values[0]) + high) / 2
            if not low < middle < high:
                return place, [high]  # no number lies between the two: all that are left are equal
            number = self.count(middle)
            low, high, below, upto = (middle, high, number, upto) if number <= place else (low, middle, below, number)
        ranges = zip(values, self._ends(low), self._ends(high), strict=True)
        return below, sorted([(a + b) / 2 for a, first, last in ranges for b in values[first:last]])


def signed_rank_chance(n: int, total: int) -> float:
    """P(T <= total) of Wilcoxon's signed-rank sum of n values without a difference; beyond `EXACT_UP_TO` nearly."""
    return signed_rank_chances(n)[total] if n <= EXACT_UP_TO else _signed_rank_normal(n).cdf(total + 0.5)


@functools.cache
def signed_rank_chances(n: int) -> tuple[float, ...]:
    """P(T <= t) for t = 0 ... n (n + 1) / 2, T Wilcoxon's (1945) signed-rank sum of n values without a difference.

    Counted out: rank k adds k or nothing, each with probability 1/2.
    """
    ways = [1] + [0] * (n * (n + 1) // 2)  # ways[t]: subsets of {1..n} that sum to t
    for rank in range(1, n + 1):
        for total in range(len(ways) - 1, rank - 1, -1):
            ways[total] += ways[total - rank]
    return tuple(count / 2**n for count in itertools.accumulate(ways))


SHOWN_MEMORY, MOST_MEMORY, FEWEST_FOR_MEMORY = 1.0, 0.95, 14
"""Memory counts from so many standard errors on, up to so much of it, and from so many launches on: before, chance
alone shows as much. A row that is regressed has more launches, unless the budget left no second look."""


def spread_of_memory(logs: Sequence[float], fewest: int = FEWEST_FOR_MEMORY) -> float:
    """The factor by which launches that remember each other widen every bound; 1 where they do not.

    Nothing is said of less than `fewest` launches.

    Of AR(1) values with correlation r between neighbours, n are worth n (1 - r) / (1 + r) independent ones. The
    estimate of r is too low by about (1 + 4 r) / n (Marriott & Pope 1954) and is mended for that, and its
    standard error 1 / sqrt(n) is added; the scatter, which correlated values show too small, by (n - 1) / (n - v), of
    which v is at most four fifths of n: of a few launches that move steadily the formula would say anything.
    """
    n = len(logs)
    centre = math.fsum(logs) / n
    away = [value - centre for value in logs]
    total = math.fsum(value * value for value in away)
    if n < fewest or total <= n * EQUAL**2:
        return 1.0
    lag = math.fsum(a * b for a, b in itertools.pairwise(away)) / total
    memory = (n * lag + 1) / (n - 4)
    if lag * math.sqrt(n) < SHOWN_MEMORY:
        return 1.0
    memory = min(memory + 1 / math.sqrt(n), MOST_MEMORY)
    worth = min((1 + memory) / (1 - memory), 0.8 * n)
    return math.sqrt(worth * (n - 1) / (n - worth))


LARGEST = 700.0
"""The logarithm of a ratio that a float holds, about."""


def in_turns(logs: Sequence[float], confidence: float = 0.95) -> Estimate:
    """The ratio exp(x) over a row's launches in their order: `estimate`, widened where its interval says too much.

    By `spread_of_memory`, and to the order statistics that bound the median where those are more than twice as far out:
    the averages of launches of two kinds (x0.7 and x1.4, say) meet in the middle, where no launch is.
    """
    ratios = [math.exp(value) for value in logs]
    plain, spread = estimate(ratios, confidence), spread_of_memory(logs)
    of_median = percentile(ratios, 0.5, confidence)
    if plain.low is None or plain.high is None or of_median is None:
        return plain
    low, high = plain.low / plain.centre, plain.high / plain.centre
    beyond = of_median.low / plain.centre, of_median.high / plain.centre
    low, high = (
        far if far < near**2 * (1 - EQUAL) else near for far, near in ((beyond[0], low), (1 / beyond[1], 1 / high))
    )
    ends = (math.log(plain.centre) + spread * math.log(low), math.log(plain.centre) - spread * math.log(high))
    low, high = (math.exp(max(-LARGEST, min(end, LARGEST))) for end in ends)
    return replace(plain, low=low, high=high)


EQUAL = 1e-12
"""Logarithms that differ by less are equal: the rounding of a division, far below what any clock resolves."""


def p_above(logs: Sequence[float], bound: float) -> float:
    """The one-sided p-value against "the centre of `logs` is at most `bound`"; equal counts as not above.

    Exact for launches that forget each other; others are spread about their centre by `spread_of_memory` first.
    """
    averages = Walsh(logs)
    centre = averages.median
    not_above = averages.count(centre + (bound - centre) / spread_of_memory(logs) + EQUAL)
    return signed_rank_chance(len(logs), not_above)
