"""Error rates and power of the gate as it runs, by seeded simulation of launches that scatter, remember and drift.

The two tables of docs/gate.md that name this file are its output.
"""

from __future__ import annotations

import functools
import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from tests.judge.test_judge_simulation import _alone
from visionbench.comparison import comparison
from visionbench.comparison.verdict import Verdict
from visionbench.judging.gate import LAUNCHES, MOST_MORE, more_launches
from visionbench.judging.verdict import needs_second_look

ROOT = Path(__file__).parents[2]
MOST = LAUNCHES * (1 + MOST_MORE)
TRIALS = 1500


@functools.cache
def recorded() -> np.ndarray:
    """Residuals of the launches that come with visionbench (31 rows of 7, scattered by 3.1 % at the median).

    Each row has its own scatter as the unit. Either sign is as likely: which side is the baseline is a word.
    """
    folder = ROOT / "reports" / "records" / "comparisons"
    rows = [row for path in sorted(folder.glob("*.jsonl")) for row in comparison.read(path) if len(row.launches) > 5]
    logs = [np.array(comparison.log_ratios(row)) for row in rows]
    residuals = np.concatenate([(values - np.median(values)) / values.std(ddof=1) for values in logs])
    both = np.concatenate([residuals, -residuals])
    return np.asarray(both / both.std())


def remembering(noise: np.ndarray, memory: float) -> np.ndarray:
    """AR(1) values with the scatter of `noise`, which is independent."""
    values = noise.copy()
    for i in range(1, MOST):
        values[:, i] = memory * values[:, i - 1] + math.sqrt(1 - memory**2) * noise[:, i]
    return values


def launches(kind: str, scatter: float, ratio: float) -> np.ndarray:
    """Log ratios of `TRIALS` rows, a column per launch; `scatter` is their standard deviation about the truth."""
    rng = np.random.default_rng([len(kind), round(scatter * 1e4), round(ratio * 1e4)])
    noise = rng.normal(0, scatter, (TRIALS, MOST))
    if kind == "remembering":
        noise = remembering(noise, 0.8)
    if kind == "heavy tails":
        noise = rng.standard_t(3, (TRIALS, MOST)) * scatter / math.sqrt(3)
    if kind == "recorded":
        noise = rng.choice(recorded(), (TRIALS, MOST)) * scatter
    return noise + math.log(ratio)


def moving(kind: str, times: float, scatter: float = 0.03) -> np.ndarray:
    """Launches of equal code whose ratio moves within the job, by `times` their scatter until the fortieth launch."""
    rng = np.random.default_rng([len(kind), round(times)])
    noise, steps = rng.normal(0, scatter, (2, TRIALS, MOST))
    if kind == "random walk":
        return noise + times * np.cumsum(steps, axis=1) / math.sqrt(MOST)
    if kind == "slow wander":
        return noise + times * remembering(steps, 0.95)
    way = np.linspace(0, 1, MOST) - (0.5 if kind == "drift about the truth" else 0)
    return noise + times * scatter * rng.choice([-1, 1], (TRIALS, 1)) * way


def gate(logs: np.ndarray) -> list[Verdict]:
    """Each row alone: a first look, and a second of as many launches as the first one's scatter asks for."""
    first = _alone(logs[:, :LAUNCHES])
    again, more = set(needs_second_look(first)), more_launches(first, LAUNCHES)
    return [
        _alone(logs[i : i + 1, : LAUNCHES + more[one.comparison.name]])[0] if one.comparison.name in again else one
        for i, one in enumerate(first)
    ]


def share(verdicts: list[Verdict], word: str) -> float:
    return sum(one.word == word for one in verdicts) / len(verdicts)


@pytest.mark.slow  # the fast lane has `test_a_slow_down_of_five_percent_is_found`, on a simulated machine
@pytest.mark.parametrize("kind", ["plain", "heavy tails", "recorded"])
def test_five_percent_is_found_at_a_scatter_of_three(kind):
    found = share(gate(launches(kind, 0.03, 1.05)), "regressed")
    print(f"{kind}: {found:.2%}")
    assert found >= 0.95


@pytest.mark.parametrize(
    ("kind", "scatter"),
    [
        ("plain", 0.03),
        pytest.param("heavy tails", 0.03, marks=pytest.mark.slow),
        pytest.param("recorded", 0.03, marks=pytest.mark.slow),
        pytest.param("remembering", 0.015, marks=pytest.mark.slow),
        ("remembering", 0.03),
    ],
)
def test_equal_code_is_called_slower_in_at_most_one_of_a_hundred(kind, scatter):
    alarms = share(gate(launches(kind, scatter, 1.0)), "regressed")
    print(f"{kind} {scatter}: {alarms:.2%}")
    assert alarms <= 0.01


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "times", "most"),
    [
        ("drift about the truth", 4, 0.01),
        ("drift away from it", 2, 0.01),
        ("random walk", 2, 0.03),
        ("slow wander", 1, 0.035),
    ],
)
def test_a_ratio_that_moves_raises_few_alarms(kind, times, most):
    assert share(gate(moving(kind, times)), "regressed") <= most


# What docs/gate.md says


def table(head: str) -> dict[str, list[float]]:
    """A table of docs/gate.md, of percentages, by what its rows begin with."""
    lines = (ROOT / "docs" / "gate.md").read_text(encoding="utf-8").partition(f"| {head}")[2].splitlines()
    rows = itertools.takewhile(lambda line: line.startswith("|"), lines[2:])
    cells = ([cell.strip() for cell in row.strip("|").split("|")] for row in rows)
    return {name: [float(cell.removesuffix(" %")) / 100 for cell in others] for name, *others in cells}


@pytest.mark.slow
@pytest.mark.parametrize("scatter", [0.01, 0.02, 0.03, 0.04, 0.05])
def test_the_page_says_how_often_a_slow_down_is_found(scatter):
    (said,) = (row for name, row in table("scatter of launches").items() if name.startswith(f"{scatter:.0%}"[:1]))
    cells = (("plain", 1.03), ("plain", 1.05), ("plain", 1.10), ("recorded", 1.05))
    counted = [share(gate(launches(kind, scatter, ratio)), "regressed") for kind, ratio in cells]
    print(f"{scatter}: {counted}")
    assert counted == pytest.approx(said, abs=0.006)


ON_THE_PAGE = {
    "drift about the truth": "straight drift, equal in the middle of the job",
    "drift away from it": "straight drift, equal at the start",
    "random walk": "random walk",
    "slow wander": "slow wander",
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ON_THE_PAGE)
def test_the_page_says_how_often_a_moving_ratio_is_a_false_alarm(kind):
    counted = [share(gate(moving(kind, times)), "regressed") for times in (1, 2, 4)]
    print(f"{kind}: {counted}")
    assert counted == pytest.approx(table("how the ratio moves")[ON_THE_PAGE[kind]], abs=0.003)
