"""Throughput: the seconds of a block of back-to-back iterations, one synchronisation at its end.

A block keeps the device's queue full, so it tells what a server under load gets, not how long one batch takes: on a
GPU the host enqueues the next iteration while the last one is running. What is stored is the cost (seconds per
block); images per second is derived when read, because a mean of rates is not the rate of the mean cost (Hoefler &
Belli 2015, rule 3).
"""

from __future__ import annotations

import time

from bench.measure.timing import Now, Steps, WarmUp, block_iterations, time_blocks
from bench.record.record import Measurement
from bench.record.spec import Protocol

METRIC = "throughput"

NAN_OUTPUT = "nan_output"
"""Flag: the warm-up's result held a NaN or an infinity, so no block was timed."""


def measure(workload: Steps, protocol: Protocol, warm: WarmUp, now: Now = time.perf_counter) -> tuple[Measurement, ...]:
    """Seconds of each of the protocol's blocks, after the warm-up `warm`.

    A computation that ends in NaN is not timed, only flagged: its values are wrong, and its time may be too (a
    multiplier fed with NaN switches fewer bits, so a power-limited GPU runs faster).
    """
    iterations = block_iterations(protocol, warm.iteration_seconds)
    blocks = protocol.blocks if warm.finite else 0
    seconds = time_blocks(workload, blocks=blocks, iterations=iterations, now=now)
    return (
        Measurement(
            metric=METRIC,
            unit="s",
            better="lower",
            assume="nothing",
            values=seconds,
            iterations=iterations,
            warmups=warm.iterations,
            flags=() if warm.finite else (NAN_OUTPUT,),
        ),
    )
