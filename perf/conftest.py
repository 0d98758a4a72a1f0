"""Two sides in one run: what our speed claims are measured with.

A time says something about a machine, a ratio about the code. The two sides run in turns in one process, so that a slow
spell meets them both, and the ratio is the median of the ratios of neighbours. It goes into pytest-benchmark's
`extra_info`; a claim is asserted only where benchmarks are on (`--benchmark-only`).
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, NamedTuple

import pytest

Side = Callable[[], Any]


class Comparison(NamedTuple):
    """Median seconds of both sides, and the median of their ratios: how many times as long theirs took."""

    ours: float
    theirs: float
    ratio: float


def seconds(side: Side) -> float:
    start = time.perf_counter()
    side()
    return time.perf_counter() - start


@pytest.fixture
def versus(benchmark: Any) -> Callable[..., Comparison | None]:
    """`versus(ours, theirs, rounds=5)` compares them; None, after one call of each, if benchmarks are off."""

    def measure(ours: Side, theirs: Side, rounds: int) -> Comparison | None:
        others: list[float] = []
        # The first round of each side pays for imports and first calls, and is left out.
        benchmark.pedantic(ours, setup=lambda: others.append(seconds(theirs)), rounds=rounds, warmup_rounds=1)
        if benchmark.disabled:
            return None
        own, other = benchmark.stats.stats.data, others[-rounds:]
        ratios = [theirs_took / ours_took for ours_took, theirs_took in zip(own, other, strict=True)]
        comparison = Comparison(statistics.median(own), statistics.median(other), statistics.median(ratios))
        benchmark.extra_info |= {**comparison._asdict(), "ratios": ratios, "load": os.getloadavg()[0]}
        benchmark.extra_info |= {"torch": version("torch"), "timm": version("timm")}
        return comparison

    return measure
