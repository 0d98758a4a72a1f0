"""Two identical specs: their intervals must overlap, whatever the launches' distribution looks like."""

from __future__ import annotations

import random

import pytest

from visionbench.record.statistics import estimate

REPETITIONS, LAUNCHES = 200, 10


def launch(rng: random.Random, disturbed: float) -> float:
    """One launch's images per second: launches differ by 1.2 %, and some run beside something that costs 10 %."""
    rate = 100.0 * rng.lognormvariate(0.0, 0.012)
    return rate / 1.1 if rng.random() < disturbed else rate


@pytest.mark.parametrize("disturbed", [0.0, 0.1])
def test_the_intervals_of_two_identical_specs_overlap(disturbed: float) -> None:
    rng = random.Random(20261122)
    overlaps = 0
    for _ in range(REPETITIONS):
        one, other = (estimate([launch(rng, disturbed) for _ in range(LAUNCHES)]) for _ in range(2))
        assert one.low is not None
        assert one.high is not None
        assert other.low is not None
        assert other.high is not None
        overlaps += one.low <= other.high and other.low <= one.high
    assert overlaps >= 0.93 * REPETITIONS


def test_the_intervals_of_two_different_specs_do_not() -> None:
    rng = random.Random(20261122)
    apart = 0
    for _ in range(REPETITIONS):
        slow, fast = (estimate([factor * launch(rng, 0.0) for _ in range(LAUNCHES)]) for factor in (1.0, 1.05))
        assert slow.high is not None
        assert fast.low is not None
        apart += slow.high < fast.low
    assert apart >= 0.93 * REPETITIONS
