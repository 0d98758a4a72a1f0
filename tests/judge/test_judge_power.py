"""Error rates and power of the gate as it runs, by seeded simulation of launches that scatter, remember and drift."""

from __future__ import annotations

import functools
import math
from pathlib import Path

import numpy as np
import pytest

from tests.judge.test_judge_simulation import _alone
from visionbench.comparison import comparison
from visionbench.comparison.verdict import Verdict
from visionbench.judging.gate import LAUNCHES, MOST_MORE, more_launches
from visionbench.judging.verdict import needs_second_look

MOST = LAUNCHES * (1 + MOST_MORE)
TRIALS = 1500


@functools.cache
def recorded() -> np.ndarray:
    """Residuals of the launches that come with visionbench (28 rows of 7, scattered by 3.0 % at the median).

    Each row has its own scatter as the unit. Either sign is as likely: which side is the baseline is a word.
    """
    folder = Path(__file__).parents[2] / "reports" / "records" / "comparisons"
    rows = [row for path in sorted(folder.glob("*.jsonl")) for row in comparison.read(path) if len(row.launches) > 5]
    logs = [np.array(comparison.log_ratios(row)) for row in rows]
    residuals = np.concatenate([(values - np.median(values)) / values.std(ddof=1) for values in logs])
    both = np.concatenate([residuals, -residuals])
    return np.asarray(both / both.std())


def launches(kind: str, scatter: float, ratio: float, memory: float = 0.8) -> np.ndarray:
    """Log ratios of `TRIALS` rows, a column per launch; `scatter` is their standard deviation about the truth."""
    rng = np.random.default_rng([len(kind), round(scatter * 1e4), round(ratio * 1e4)])
    noise = rng.normal(0, scatter, (TRIALS, MOST))
    if kind == "remembering":
        for i in range(1, MOST):
            noise[:, i] = memory * noise[:, i - 1] + math.sqrt(1 - memory**2) * noise[:, i]
    if kind == "heavy tails":
        noise = rng.standard_t(3, (TRIALS, MOST)) * scatter / math.sqrt(3)
    if kind == "recorded":
        noise = rng.choice(recorded(), (TRIALS, MOST)) * scatter
    if kind == "drifting":
        noise += rng.choice([-1, 1], (TRIALS, 1)) * np.linspace(-0.5, 0.5, MOST) * scatter
    return noise + math.log(ratio)


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


@pytest.mark.parametrize("kind", ["plain", "heavy tails", "recorded"])
def test_five_percent_is_found_at_a_scatter_of_three(kind):
    found = share(gate(launches(kind, 0.03, 1.05)), "regressed")
    print(f"{kind}: {found:.2%}")
    assert found >= 0.95


@pytest.mark.parametrize(
    ("kind", "scatter"),
    [
        ("plain", 0.03),
        ("heavy tails", 0.03),
        ("recorded", 0.03),
        ("remembering", 0.015),
        ("remembering", 0.03),
        ("drifting", 0.03),
    ],
)
def test_equal_code_is_called_slower_in_at_most_one_of_a_hundred(kind, scatter):
    alarms = share(gate(launches(kind, scatter, 1.0)), "regressed")
    print(f"{kind} {scatter}: {alarms:.2%}")
    assert alarms <= 0.01
