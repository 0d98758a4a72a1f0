"""Latency: the seconds of one batch, the device idle before it and done with it after: what a lone request waits for.

Nothing overlaps, so batch size over latency is below throughput wherever the host could enqueue ahead of the device.
Every iteration is stored, in order; percentiles are derived when read, where there are iterations enough for one
(`statistics.percentile`).

The rule for how many: as many as fill the time of the protocol's blocks, at least `LEAST` and at most `MOST`. Where
`LEAST` would take more than `PATIENCE` times the blocks, as many as fit into that, but never fewer than `ENOUGH`. The
number is fixed beforehand, from the warm-up's seconds per iteration: stopping by what is seen would bias what is seen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from visionbench.measuring.metrics.throughput import NAN_OUTPUT, NO_STEADY_STATE
from visionbench.measuring.timing import Now, Steps, WarmUp
from visionbench.record.collector import collector_paused
from visionbench.record.metrics import measurement
from visionbench.record.record import Measurement
from visionbench.record.spec import Protocol

METRIC = "latency"

MOST = 1000
"""Iterations: the 99th percentile needs 368, and the 99.9th 3,688, which takes too long."""

LEAST = 50
"""Iterations of a quick step: the 90th percentile needs 36."""

ENOUGH = 6
"""Iterations in any case: fewer have no interval for the median."""

PATIENCE = 4
"""How many times the blocks' own time a slow step may take to come to `LEAST`."""


def measure(workload: Steps, protocol: Protocol, warm: WarmUp, now: Now = time.perf_counter) -> tuple[Measurement, ...]:
    """Seconds of each iteration, synchronised before and after it, chronological."""
    count = iterations(protocol, warm.iteration_seconds)
    seconds = time_parts((workload.step,), workload.synchronize, count, now)
    return (measurement(METRIC, (only for (only,) in seconds), warmups=warm.iterations, flags=doubts(warm)),)


def iterations(protocol: Protocol, iteration_seconds: float) -> int:
    """How many single iterations a pass has, by the rule above."""
    step = max(iteration_seconds, 1e-7)  # no step is shorter: a stopped clock asks for `MOST`
    per_block = protocol.block_iterations
    fit = protocol.blocks * (protocol.block_seconds / step if per_block is None else per_block)
    return round(min(MOST, max(fit, min(LEAST, PATIENCE * fit), ENOUGH)))


def time_parts(
    parts: Sequence[Callable[[], object]], synchronize: Callable[[], None], count: int, now: Now
) -> tuple[tuple[float, ...], ...]:
    """Run all `parts` in order, `count` times; the seconds of each part, the device idle at each boundary."""
    iterations = []
    for _ in range(count):
        seconds = []
        with collector_paused():
            synchronize()
            for part in parts:
                start = now()
                part()
                synchronize()
                seconds.append(now() - start)
        iterations.append(tuple(seconds))
    return tuple(iterations)


def doubts(warm: WarmUp) -> tuple[str, ...]:
    """What the warm-up says against every number that is measured after it."""
    return (*(() if warm.finite else (NAN_OUTPUT,)), *((NO_STEADY_STATE,) if warm.moving else ()))
