"""Derived numbers: rates by hand, the interval against the published table and against its own promise."""

from __future__ import annotations

import bisect
import itertools
import math
import random
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median

import pytest
from scipy.stats import wilcoxon

from visionbench.record.record import Environment, Failure, Measurement, Record
from visionbench.record.spec import SWIN, Spec
from visionbench.record.statistics import (
    MIN_LAUNCHES,
    Walsh,
    _cut,
    estimate,
    images_per_second,
    p_above,
    signed_rank_chance,
    signed_rank_chances,
    throughput,
)

# Critical values of the Wilcoxon signed-rank statistic, two-sided 5 % and 1 %, as textbooks print them (n: T).
CRITICAL = {6: 0, 7: 2, 8: 3, 9: 5, 10: 8, 11: 10, 12: 13, 13: 17, 14: 21, 15: 25, 16: 29, 17: 34, 18: 40, 19: 46}
CRITICAL |= {20: 52}
CRITICAL_ONE_PERCENT = {8: 0, 9: 1, 10: 3, 12: 7, 15: 15, 20: 37}


def _measured(values=(1.5,), iterations=30, batch_size=64, metric="throughput") -> Record:
    taken = Measurement(
        metric=metric, unit="s", better="lower", assume="nothing", values=tuple(values), iterations=iterations
    )
    return Record(
        spec=Spec(model="timm:convnext_tiny", batch_size=batch_size),
        protocol=SWIN,
        environment=Environment(device_type="cpu"),
        measurements=(taken,),
        source="measured",
    )


@pytest.mark.parametrize(
    ("record", "rate"),
    [
        (_measured((1.5,), iterations=30, batch_size=64), 1280.0),
        (_measured((0.5,), iterations=1, batch_size=1), 2.0),
        (_measured((2.0, 9.0, 1.0), iterations=10, batch_size=8), 40.0),  # the median block, not the mean
        (_measured((1.0, 3.0), iterations=1, batch_size=6), 3.0),  # a rate of a cost; the mean of rates would be 4
        (_measured((9.0, 2.0, 1.0), iterations=10, batch_size=8), 40.0),
    ],
)
def test_images_per_second_by_hand(record, rate):
    assert images_per_second(record) == pytest.approx(rate, rel=1e-12)


def test_no_throughput_is_none():
    failed = replace(_measured(), measurements=(), failure=Failure(kind="timeout", stage="time", message="too slow"))
    assert images_per_second(failed) is None
    assert images_per_second(_measured(())) is None
    for seconds in (5e-324, 1e-300, 1e300, 1.7e308, 0.0, -1.0):
        assert images_per_second(_measured((seconds,) * 5)) is None  # no machine's
    assert images_per_second(_measured(metric="latency")) is None
    assert throughput([]) is None
    assert throughput([failed, failed]) is None


def test_throughput_is_over_launches_and_failed_ones_are_none():
    failed = replace(_measured(), measurements=())
    found = throughput([_measured((2.0, 2.1, 1.9)), failed, _measured((2.0, 2.0, 2.0))])
    assert found.centre == pytest.approx(64 * 30 / 2.0)
    assert (found.launches, found.low, found.high) == (2, None, None)


@pytest.mark.parametrize(
    ("values", "centre"),
    [
        ([5.0], 5.0),
        ([2.0, 8.0], 4.0),  # the geometric mean of two
        ([1.0, 4.0, 16.0], 4.0),
        # log2: 0 1 4; Walsh averages 0, 0.5, 1, 2, 2.5, 4; their median 1.5
        ([1.0, 2.0, 16.0], 2.0**1.5),
        ([16.0, 1.0, 2.0], 2.0**1.5),
        # log2: 0 0 0 10; Walsh averages six 0, three 5, one 10; their median 0: one outlier moves nothing
        ([1.0, 1.0, 1.0, 1024.0], 1.0),
    ],
)
def test_the_centre_by_hand(values, centre):
    assert estimate(values).centre == pytest.approx(centre, rel=1e-12)


def test_a_rate_and_its_time_tell_the_same():
    times = [1.9, 2.0, 2.2, 2.05, 1.95, 2.4, 2.01, 1.99]
    of_times, of_rates = estimate(times), estimate([1 / time for time in times])
    assert of_rates.centre == pytest.approx(1 / of_times.centre)
    assert (of_rates.low, of_rates.high) == (pytest.approx(1 / of_times.high), pytest.approx(1 / of_times.low))


@pytest.mark.parametrize("values", [[], [1.0, 0.0], [1.0, -2.0]])
def test_an_estimate_needs_positive_values(values):
    with pytest.raises(ValueError, match="positive"):
        estimate(values)


@pytest.mark.parametrize("launches", range(1, 7))
def test_fewer_than_seven_launches_get_no_interval(launches):
    found = estimate([1.0 + 0.01 * n for n in range(launches)])
    assert (found.low, found.high, found.launches) == (None, None, launches)
    assert MIN_LAUNCHES == 7


@pytest.mark.parametrize(("n", "critical"), CRITICAL.items())
def test_the_cut_is_the_published_critical_value(n, critical):
    assert _cut(n, 0.025) == critical


@pytest.mark.parametrize(("n", "critical"), CRITICAL_ONE_PERCENT.items())
def test_the_cut_is_the_published_critical_value_at_one_percent(n, critical):
    assert _cut(n, 0.005) == critical


@pytest.mark.parametrize(("n", "critical"), [(n, critical) for n, critical in CRITICAL.items() if n >= 7])
def test_the_interval_leaves_out_so_many_walsh_averages_at_each_end(n, critical):
    logs = [2.0 ** (k - n) for k in range(n)]  # no two sums of two powers of two are equal
    walsh = sorted((logs[i] + logs[j]) / 2 for i in range(n) for j in range(i, n))
    assert len(set(walsh)) == n * (n + 1) // 2
    found = estimate([math.exp(x) for x in logs])
    assert math.log(found.low) == pytest.approx(walsh[critical], abs=1e-12)
    assert math.log(found.high) == pytest.approx(walsh[-1 - critical], abs=1e-12)
    assert found.low < found.centre < found.high
    assert (found.launches, found.confidence) == (n, 0.95)


def test_more_confidence_is_a_wider_interval():
    values = [1.0 + 0.01 * n * n for n in range(12)]
    narrow, usual, wide = (estimate(values, confidence=c) for c in (0.8, 0.95, 0.99))
    assert wide.low < usual.low < narrow.low
    assert narrow.high < usual.high < wide.high


def test_equal_launches_give_an_interval_of_no_width():
    found = estimate([3.0] * 8)
    assert (found.low, found.centre, found.high) == (pytest.approx(3.0), pytest.approx(3.0), pytest.approx(3.0))


def _normal(source: random.Random) -> float:
    return source.gauss(0, 0.02)


def _heavy(source: random.Random) -> float:
    return source.choice((-1, 1)) * source.expovariate(1 / 0.02)


@pytest.mark.parametrize("noise", [_normal, _heavy])
def test_the_interval_holds_its_promise(noise):
    # Exact coverage at n = 10 is 1 - 2 * 25/1024 = 95.1 %; over 2000 trials its standard error is 0.5 %.
    source, trials, truth, hits = random.Random(20260211), 2000, 1280.0, 0
    for _ in range(trials):
        found = estimate([truth * math.exp(noise(source)) for _ in range(10)])
        hits += found.low <= truth <= found.high
    assert 0.93 <= hits / trials <= 0.97


def test_a_confidence_that_so_few_launches_cannot_give_has_no_interval():
    seven = [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6]
    assert estimate(seven, confidence=0.95).low is not None
    certain = estimate(seven, confidence=0.99)  # the whole range holds the centre with 1 - 2 * 2^-7 = 98.4 % only
    assert (certain.low, certain.high) == (None, None)
    assert certain.centre == estimate(seven).centre


@pytest.mark.parametrize("launches", [61, 80, 150])
@pytest.mark.parametrize("tail", [0.005, 0.025, 0.05])
def test_beyond_sixty_launches_the_normal_approximation_is_near_the_exact_count(launches: int, tail: float) -> None:
    exact = bisect.bisect_right(signed_rank_chances(launches), tail) - 1
    assert -1 <= exact - _cut(launches, tail) <= 5, "of thousands of averages"


def test_the_approximated_interval_is_that_of_scipys_test() -> None:
    generator = random.Random(61)
    logs = [generator.gauss(0.02, 0.05) for _ in range(61)]
    found = estimate([math.exp(value) for value in logs])
    assert found.low is not None
    assert found.high is not None
    for end, step in ((found.low, 1), (found.high, -1)):
        inside = wilcoxon([value - math.log(end) - step * 2e-3 for value in logs], method="exact")
        outside = wilcoxon([value - math.log(end) + step * 2e-3 for value in logs], method="exact")
        assert outside.pvalue < 0.05 < inside.pvalue


def test_the_signed_rank_chances_are_those_of_all_patterns_of_signs() -> None:
    sums = [sum(rank for rank, sign in enumerate(signs, 1) if sign) for signs in itertools.product((0, 1), repeat=7)]
    assert signed_rank_chances(7) == tuple(sum(total <= t for total in sums) / 2**7 for t in range(29))


KINDS: dict[str, Callable[[random.Random], float]] = {
    "normal": lambda rng: rng.gauss(0, 1),
    "ties": lambda rng: rng.choice([0.0, 1.0, 2.0]),
    "equal": lambda rng: 0.5,
    "far apart": lambda rng: math.exp(rng.gauss(0, 9)),
    "huge": lambda rng: rng.choice([1e-300, -1e300, 1e300, 0.0]),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [59, 60, 61, 100])
def test_averages_that_are_not_written_down_are_the_same_ones(kind, n):
    rng = random.Random(n)
    values = [KINDS[kind](rng) for _ in range(n)]
    written = sorted((a + b) / 2 for i, a in enumerate(sorted(values)) for b in sorted(values)[i:])
    averages = Walsh(values)
    assert len(averages) == len(written)
    assert [averages[place] for place in (0, 1, 7, n, -n, -2, -1)] == [
        written[place] for place in (0, 1, 7, n, -n, -2, -1)
    ]
    assert averages.median == median(written)
    for bound in (written[0] - 1, written[0], written[n], 0.3, written[-2], written[-1]):
        assert averages.count(bound) == sum(average <= bound for average in written)


def test_ten_times_the_launches_take_about_ten_times_as_long():
    rng = random.Random(1)
    seconds = []
    for number in (2_000, 20_000):
        values = [math.exp(rng.gauss(0, 0.03)) for _ in range(number)]
        began = time.process_time()
        estimate(values)
        seconds.append(time.process_time() - began)
    assert seconds[1] < 40 * seconds[0]  # a hundred times where every average is written down


@pytest.mark.parametrize("n", [61, 500, 10_000])
def test_beyond_the_count_the_chances_are_nearly_the_counted_ones(n):
    rng = random.Random(n)
    logs = [rng.gauss(0.05, 0.03) for _ in range(n)]
    assert p_above(logs, 0.0) < 1e-6
    assert p_above(logs, 0.1) > 1 - 1e-6
    middle = signed_rank_chance(n, n * (n + 1) // 4)
    assert middle == pytest.approx(0.5, abs=0.01)
    if n == 61:
        assert signed_rank_chance(n, 700) == pytest.approx(signed_rank_chances(n)[700], abs=2e-4)
