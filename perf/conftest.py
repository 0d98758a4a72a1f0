"""Two sides in one run: what our speed claims are measured with.

A time says something about a machine, a ratio about the code: both sides run in turns in one process on one machine, so
that a slow spell meets them both, and medians are compared. The ratio and both medians go into pytest-benchmark's
`extra_info`, and a claim is asserted only where benchmarks are on (`--benchmark-enable`).
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pytest

Side = Callable[[], Any]


def seconds(side: Side) -> float:
    start = time.perf_counter()
    side()
    return time.perf_counter() - start


@pytest.fixture
def versus(benchmark: Any) -> Callable[..., tuple[float, float] | None]:
    """`versus(ours, theirs, rounds=5)`: median seconds of both; None, after one call of each, if benchmarks are off."""

    def measure(ours: Side, theirs: Side, rounds: int) -> tuple[float, float] | None:
        others: list[float] = []
        # The first round of each side pays for imports and first calls, and is left out.
        benchmark.pedantic(ours, setup=lambda: others.append(seconds(theirs)), rounds=rounds, warmup_rounds=1)
        if benchmark.disabled:
            return None
        own, other = benchmark.stats.stats.median, statistics.median(others[-rounds:])
        benchmark.extra_info |= {
            "ours_seconds": own,
            "theirs_seconds": other,
            "theirs_over_ours": other / own,
            "load": os.getloadavg()[0],
            "torch": version("torch"),
        }
        return own, other

    return measure
