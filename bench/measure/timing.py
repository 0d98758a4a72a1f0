"""Clocks, warm-up and blocks: the loop that everything else serves. No torch here.

An accelerator works through a queue: `step()` returns when the work is enqueued, not when it is done, so a clock read
without a synchronisation times the queue. A synchronisation drains the queue, and the device idles until the host has
filled it again. So a block is n iterations back to back with ONE synchronisation at its end: the idle gap is paid once,
as in the paper's protocol.

The loop takes its clock as an argument, so a test can play the clock and check every reading.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from bench.record import spec
from bench.record.errors import BenchError

Now = Callable[[], float]
"""A clock: seconds from any origin, never backwards."""


class Steps(Protocol):
    """What can be timed. `workload.Workload` is one; another execution backend would be another."""

    def step(self) -> Any:
        """Enqueue one iteration and return its result, which may not be computed yet."""

    def synchronize(self) -> None:
        """Wait until all that was enqueued is done."""

    def is_finite(self, result: Any) -> bool:
        """Whether a step's result holds neither NaN nor infinity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUp:
    """What the iterations before the clock were like.

    `first_call` is the first iteration's time and `iteration_seconds` that of one iteration of the last burst, in
    seconds; `iterations` counts all of them, the first call included. `finite`: the last result was.
    """

    first_call: float
    iterations: int
    iteration_seconds: float
    finite: bool


def check(protocol: spec.Protocol) -> None:
    """Raise `BenchError` for a protocol that this engine cannot follow."""
    if protocol.clock != "wall":
        raise BenchError(f"protocol '{protocol.name}' asks for the clock '{protocol.clock}': only wall is built.")
    if protocol.block_iterations is None and protocol.block_seconds <= 0:
        raise BenchError(f"protocol '{protocol.name}' has neither block_iterations nor block_seconds: set one.")


def first_call(workload: Steps, now: Now) -> tuple[float, Any]:
    """Run the first iteration alone; its seconds and its result."""
    start = now()
    result = workload.step()
    workload.synchronize()
    return now() - start, result


def warm_up(workload: Steps, protocol: spec.Protocol, first: tuple[float, Any], now: Now) -> WarmUp:
    """Iterate until the protocol's iterations and seconds have both passed; `first` is `first_call`'s answer.

    The first call counts as one of the iterations (the paper's 50 warm-up forwards include it), but not towards the
    seconds: compiling is no load. It goes in bursts of `warmup_iterations` with one synchronisation each: without any,
    the host would run ahead by as much as the device's queue holds and the time would mean nothing. A burst that is
    repeated was shorter than `warmup_seconds`, so overshooting costs at most that.
    """
    seconds, result = first
    done, iteration_seconds, elapsed = 1, seconds, 0.0
    while done < protocol.warmup_iterations or elapsed < protocol.warmup_seconds:
        burst = max(1, protocol.warmup_iterations - done if done == 1 else protocol.warmup_iterations)
        start = now()
        for _ in range(burst):
            result = workload.step()
        workload.synchronize()
        spent = now() - start
        done, iteration_seconds, elapsed = done + burst, spent / burst, elapsed + spent
    return WarmUp(
        first_call=seconds,
        iterations=done,
        iteration_seconds=iteration_seconds,
        finite=workload.is_finite(result),
    )


def block_iterations(protocol: spec.Protocol, iteration_seconds: float) -> int:
    """Iterations per block: the protocol's own, or as many as fill its `block_seconds`, at least 1."""
    if protocol.block_iterations is not None:
        return protocol.block_iterations
    shortest = 1e-7  # no step is: it only keeps a stopped clock from asking for an endless block
    return max(1, math.ceil(protocol.block_seconds / max(iteration_seconds, shortest)))


def time_blocks(workload: Steps, *, blocks: int, iterations: int, now: Now) -> tuple[float, ...]:
    """Seconds of each of `blocks` blocks of `iterations` iterations. The device must be idle when this is called."""
    return tuple(_time_block(workload, iterations, now) for _ in range(blocks))


def _time_block(workload: Steps, iterations: int, now: Now) -> float:
    step, repetitions = workload.step, range(iterations)  # looked up before the clock starts
    with _without_gc():
        start = now()
        for _ in repetitions:
            step()
        workload.synchronize()
        return now() - start


@contextmanager
def _without_gc() -> Iterator[None]:
    """No garbage collection inside a block: one costs tens of milliseconds, and falls on whichever block is unlucky.

    Between blocks it is on again, so a model that makes cycles does not keep their memory for the whole run.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
