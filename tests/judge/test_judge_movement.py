"""A ratio that moves during the job: what launches in their order say, and launches without an order cannot."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence

import numpy as np
import pytest

from tests.judge.test_judge_simulation import RULE, _alone
from visionbench.judging import movement
from visionbench.judging.verdict import detectable

N = 20
NOISE = [0.004 * value for value in random.Random(1).sample([-1.0, 1.0] * (N // 2), N)]
TIME = np.linspace(-0.5, 0.5, N)
WAYS = {"line": 0.05 * (TIME + 0.6), "arch": 0.05 * np.sin(math.pi * (TIME + 0.5)), "step": 0.06 * (TIME > 0)}


def rows(way: str, sign: int) -> np.ndarray:
    return sign * (WAYS[way] + np.random.default_rng(1).normal(0, 0.02, (40, N)))


def word(shift: float, way: Sequence[float] = (0.0,) * N, noise: Sequence[float] = NOISE) -> str:
    logs = np.array([shift + step + jitter for step, jitter in zip(way, noise, strict=True)])
    return _alone(logs[None])[0].word


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("sign", [1, -1])
def test_a_ratio_that_moves_as_far_as_it_lies_off_is_no_finding(way, sign):
    finding = "regressed" if sign > 0 else "improved"
    said = _alone(rows(way, sign))
    mixed = _alone(np.random.default_rng(2).permuted(rows(way, sign), axis=1))  # the same launches in another order
    found, without_order = (sum(one.word == finding for one in judged) for judged in (said, mixed))
    assert found <= 4
    assert without_order > 3 * found or way == "step"  # which widens the interval in any order
    why = [one.reason for one in said if one.word == "inconclusive" and "the ratio moved by" in one.reason]
    assert len(why) >= 5
    assert 3 < statistics.median(float(text.partition("moved by ")[2].partition(" %")[0]) for text in why) < 12


@pytest.mark.parametrize("way", WAYS)
def test_a_slow_down_many_times_as_large_as_its_drift_is_one(way):
    assert word(math.log(1.4), WAYS[way]) == "regressed"


def test_launches_that_do_not_move_are_judged_as_before():
    assert word(math.log(1.05)) == "regressed"
    assert word(math.log(1.05), noise=[0.0] * N) == "regressed"
    assert movement.needed([0.05] * N, 0.005) == 0


def test_few_launches_say_nothing_of_it():
    assert movement.needed([0.01 * i for i in range(13)], 0.005) == 0
    assert movement.needed([0.01 * i for i in range(14)], 0.005) > 0


@pytest.mark.parametrize("way", [0 * TIME, 0.06 * TIME, 0.03 * (TIME > 0)], ids=["none", "line", "step"])
def test_the_smallest_detectable_slow_down_is_the_one_that_would_be_called(way):
    logs = np.array([step + jitter for step, jitter in zip(way, NOISE, strict=True)])
    centre = math.log(_alone(logs[None])[0].ratio.centre)
    least = math.log(1 + detectable(logs.tolist(), RULE)) - centre
    assert _alone((logs + least + 1e-6)[None])[0].word == "regressed"
    assert _alone((logs + least - 1e-6)[None])[0].word != "regressed"


def test_of_launches_that_forget_each_other_the_cosines_are_as_large_as_the_scatter():
    logs = np.random.default_rng(3).normal(0.02, 0.01, (400, N)).tolist()
    squares = [sum(value**2 for value in movement._cosines(row)) / movement.SLOW for row in logs]
    assert np.mean(squares) == pytest.approx(1e-4, rel=0.1)
    assert np.mean([movement.needed(row, 0.005) > 0.0101 / math.sqrt(N) * 3.707 * 3 for row in logs]) < 0.03


@pytest.mark.parametrize("logs", [[48.0, -48.0] * 10, [48.0] * 10 + [-48.0] * 10, [-48.0 + 5 * i for i in range(20)]])
def test_ratios_as_far_as_times_can_be_apart_have_an_interval(logs):
    (verdict,) = _alone(np.array([logs]))
    assert verdict.word == "inconclusive"
    assert 0 < verdict.ratio.low < verdict.ratio.high < math.inf
