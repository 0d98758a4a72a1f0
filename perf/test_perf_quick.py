"""A quick number beside the script that anybody writes first (`by_hand.py`): as soon, and steadier.

python -m pytest perf/test_perf_quick.py --benchmark-only
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
ROUNDS = 10
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
"""One thread on both sides: two that wait for each other on a shared machine measure the neighbours."""


def python(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=True
    )
    return done.stdout


def quick(records: Path) -> float:
    """Images per second as `run` prints them: batch 1, from the median of its blocks."""
    records.unlink(missing_ok=True)
    words = ("--effort", "quick", "--device", "cpu", "--json", "--records", str(records))
    [record] = [json.loads(line) for line in python("bench.py", "run", "resnet18", *words).splitlines()]
    [blocks] = [measured for measured in record["measurements"] if measured["metric"] == "throughput"]
    return float(blocks["iterations"] / median(blocks["values"]))


def scatter(rates: list[float]) -> float:
    """The median distance from the median, as a share of it."""
    middle = median(rates)
    return median(abs(rate - middle) for rate in rates) / middle


@pytest.mark.slow
def test_a_quick_number_takes_no_longer_than_a_script_by_hand(
    benchmark: Any, versus: Callable[..., Any], tmp_path: Path
) -> None:
    ours: list[float] = []
    theirs: list[float] = []
    comparison = versus(
        lambda: ours.append(quick(tmp_path / "records.jsonl")),
        lambda: theirs.append(float(python("perf/by_hand.py"))),
        rounds=1 if benchmark.disabled else ROUNDS,
    )
    assert min(*ours, *theirs) > 0
    if comparison:
        benchmark.extra_info |= {"our_scatter": scatter(ours[1:]), "their_scatter": scatter(theirs[1:])}
        assert comparison.ratio >= 1.0  # theirs over ours
        assert scatter(ours[1:]) <= scatter(theirs[1:])
