"""Percentiles and efficiencies: by hand, against published tables, and None wherever something is not known."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from visionbench.record import devices
from visionbench.record.efficiency import (
    images_to_break_even,
    joules_per_image,
    mfu,
)
from visionbench.record.record import Environment, Measurement, Record
from visionbench.record.spec import STEADY, Spec
from visionbench.record.statistics import _ranks, latency, over_launches, percentile, typical

A100 = devices.find("a100-sxm4-80gb")
V100 = devices.find("v100-sxm2-16gb")
META = Environment(device_type="meta")


def taken(metric: str, *values: float, unit: str = "s", iterations: int = 1) -> Measurement:
    return Measurement(metric=metric, unit=unit, better="lower", assume="nothing", values=values, iterations=iterations)


def record(*measurements: Measurement, environment: Environment | None = None, **spec: Any) -> Record:
    """A launch of ten images a step."""
    return Record(
        spec=Spec(model="timm:convnext_tiny", **{"batch_size": 10} | spec),
        protocol=STEADY,
        environment=environment or Environment(device_type="cuda", device_key="a100-sxm4-80gb"),
        measurements=measurements,
        source="measured",
    )


def rate(images_per_second: float, **spec: Any) -> Record:
    return record(taken("throughput", 10 * 5 / images_per_second, iterations=5), **spec)


def traced(macs: float = 4e9, moved: float = 2e9, **spec: Any) -> Record:
    counts = (taken("macs", macs, unit="count"), taken("bytes", moved, unit="B"))
    return replace(record(*counts, environment=META, **spec), protocol=None, source="computed")


# --- percentiles -----------------------------------------------------------------------------------------------------

# The ranks that bound the median at 95 % at least, which are those of the sign test: the critical values of B(n, 1/2),
# two-sided 5 %, as textbooks print them (n = 10: 1; 15: 3; 20: 5; 25: 7; 30: 9), and one further in.
MEDIAN = {6: (1, 6), 7: (1, 7), 8: (1, 8), 9: (2, 8), 10: (2, 9), 15: (4, 12), 20: (6, 15), 25: (8, 18), 30: (10, 21)}


@pytest.mark.parametrize(("n", "ranks"), MEDIAN.items())
def test_the_medians_interval_is_the_published_one(n: int, ranks: tuple[int, int]) -> None:
    assert _ranks(n, 0.5, 0.025) == ranks


@pytest.mark.parametrize(
    ("quantile", "least"), [(0.5, 6), (0.9, 36), (0.1, 36), (0.95, 72), (0.99, 368), (0.999, 3688)]
)
def test_a_percentile_exists_from_exactly_so_many_values(quantile: float, least: int) -> None:
    assert max(quantile, 1 - quantile) ** least <= 0.025 < max(quantile, 1 - quantile) ** (least - 1)
    assert percentile(range(least), quantile) is not None
    assert percentile(range(least - 1), quantile) is None
    assert percentile([], quantile) is None


def test_less_confidence_needs_fewer_values() -> None:
    assert percentile(range(29), 0.9, confidence=0.9) is not None  # 0.9^29 = 0.0471 <= 0.05
    assert percentile(range(28), 0.9, confidence=0.9) is None


@pytest.mark.parametrize(
    ("n", "quantile", "value"),
    [(7, 0.5, 4), (8, 0.5, 4), (100, 0.5, 50), (100, 0.9, 90), (101, 0.9, 91), (1000, 0.99, 990), (100, 0.7, 70)],
)
def test_the_value_is_the_smallest_below_which_enough_lie(n: int, quantile: float, value: int) -> None:
    shuffled = random.Random(5).sample(range(1, n + 1), n)
    found = percentile(shuffled, quantile)
    assert found is not None
    assert (found.value, found.samples, found.quantile) == (value, n, quantile)
    assert found.low <= found.value <= found.high


def test_the_order_is_not_touched_and_many_values_are_no_overflow() -> None:
    values = [3.0, 1.0, 2.0] * 2000
    assert percentile(values, 0.99) is not None
    assert values[:3] == [3.0, 1.0, 2.0]


@pytest.mark.parametrize("quantile", [0.0, 1.0, -0.1, 50.0])
def test_a_percentile_is_asked_for_as_a_share(quantile: float) -> None:
    with pytest.raises(ValueError, match="quantile"):
        percentile([1.0] * 100, quantile)


@pytest.mark.parametrize(("n", "quantile"), [(10, 0.5), (50, 0.9), (400, 0.99)])
def test_the_interval_holds_its_promise(n: int, quantile: float) -> None:
    source, hits, trials = random.Random(7), 0, 1500
    for _ in range(trials):
        found = percentile([source.random() for _ in range(n)], quantile)
        assert found is not None
        hits += found.low <= quantile <= found.high
    assert hits / trials >= 0.94


def test_latency_is_over_launches_and_only_where_it_is_honest() -> None:
    many, few = taken("latency", *(float(k) for k in range(1, 41))), taken("latency", *[1000.0] * 35)
    launches = [record(many), record(few), record()]
    ninetieth = latency(launches, 0.9)
    assert ninetieth is not None
    assert (ninetieth.centre, ninetieth.launches) == (pytest.approx(36.0), 1)
    middle = latency(launches)
    assert middle is not None
    assert (middle.centre, middle.launches) == (pytest.approx((20 * 1000) ** 0.5), 2)
    assert latency([record(few)], 0.9) is None
    assert latency([record()]) is None


def test_seven_launches_give_the_latency_an_interval() -> None:
    found = latency([record(taken("latency", *[1.0 + k / 100] * 6)) for k in range(7)])
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.centre < found.high


def test_a_launchs_typical_value_is_its_median_and_meters_that_read_nothing_are_not_averaged() -> None:
    assert typical(record(taken("first_call", 3.0, 1.0, 9.0)), "first_call") == 3.0
    assert typical(record(), "first_call") is None
    assert typical(record(taken("first_call")), "first_call") is None
    readings = iter([4.0, 0.0, None])
    found = over_launches([record()] * 3, lambda _: next(readings))
    assert found is not None
    assert (found.centre, found.launches) == (pytest.approx(4.0), 1)


# --- efficiencies ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("precision", "share"),
    # 2 * 4e9 * 1950 = 1.56e13 FLOP/s, over the A100's 19.5, 156 and 312 TFLOP/s
    [("fp32", 0.8), ("tf32", 0.1), ("fp16", 0.05), ("bf16", 0.05), ("amp_bf16", 0.05)],
)
def test_mfu_is_over_the_peak_of_that_precision(precision: str, share: float) -> None:
    launches = [rate(1950.0, precision=precision)]
    assert mfu(launches, traced(macs=4e9, batch_size=1), A100) == pytest.approx(share)
    assert mfu(launches, 4e9, A100) == pytest.approx(share)


def test_mfu_is_unknown_where_anything_is() -> None:
    launches = [rate(1950.0)]
    assert mfu(launches, None, A100) is None
    assert mfu(launches, 4e9, None) is None
    assert mfu([record()], 4e9, A100) is None
    assert mfu([], 4e9, A100) is None
    assert mfu([rate(1950.0, precision="bf16")], 4e9, V100) is None
    for other in ({"task": "train"}, {"image_size": 384}):
        assert mfu(launches, traced(**other), A100) is None
    assert mfu(launches, replace(traced(), source="predicted"), A100) is None
    assert mfu(launches, replace(traced(), measurements=()), A100) is None


def compiled(images_per_second: float, seconds: float = 30.0) -> Record:
    its = rate(images_per_second, compile_mode="default")
    return replace(its, measurements=(*its.measurements, taken("compile_seconds", seconds)))


def test_compiling_has_paid_when_the_gain_is_its_cost() -> None:
    # 1/100 - 1/150 s saved per image; 30 s / (1/300 s) = 9000 images, for which both need 90 s
    assert images_to_break_even([rate(100.0)], [compiled(150.0)]) == pytest.approx(9000)
    assert images_to_break_even([rate(100.0)], [compiled(100.0)]) is None
    assert images_to_break_even([rate(100.0)], [compiled(90.0)]) is None
    assert images_to_break_even([rate(100.0)], [rate(150.0, compile_mode="default")]) is None
    assert images_to_break_even([], [compiled(150.0)]) is None
    assert images_to_break_even([rate(100.0)], []) is None


@pytest.mark.parametrize("other", [{"batch_size": 20}, {"precision": "bf16"}, {"task": "train"}])
def test_only_the_compilation_may_differ(other: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="differ in more"):
        images_to_break_even([rate(100.0, **other)], [compiled(150.0)])


def energy(*joules: float) -> Record:
    return record(taken("energy", *joules, unit="J", iterations=20))


def test_energy_is_of_the_median_window_and_one_image() -> None:
    found = joules_per_image([energy(600.0, 400.0, 9000.0)])  # 20 steps of 10 images
    assert found is not None
    assert found.centre == pytest.approx(3.0)
    assert joules_per_image([record()]) is None
    assert joules_per_image([energy()]) is None
