"""Clocks, warm-up and blocks: the loop that everything else serves. No torch here.

An accelerator works through a queue: `step()` returns when the work is enqueued, not when it is done, so a clock read
without a synchronisation times the queue. A synchronisation drains the queue, and the device idles until the host has
filled it again. So a block is n iterations back to back with ONE synchronisation at its end: the idle gap is paid once,
as in the paper's protocol.

An idle GPU ramps its clocks for about a second; caches, autotuning and lazy initialisation take a few calls; and
fewer than half of all benchmarks reach a steady state reliably (Barrett et al. 2017: 43.5 % of VM and benchmark
pairs). So two consecutive windows of blocks are compared, as pyperf does when it calibrates its warm-up, and what
is still moving is named. A run that is not steady when the time is up is measured all the same, and its number says
so.

The loop takes its clock as an argument, so a test can play the clock and check every reading.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any, Protocol

from visionbench.record import spec
from visionbench.record.collector import collector_paused
from visionbench.record.errors import BenchError

if TYPE_CHECKING:  # both modules import torch
    from visionbench.machine.device_clock import DeviceClock, Lone
    from visionbench.machine.telemetry import Weather

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


class Watch(Protocol):
    """Who looks at the machine before and after each block; `telemetry.Watch` is one."""

    def before(self) -> None:
        """A block begins."""

    def after(self) -> Weather:
        """A block has ended."""

    def energy(self) -> float | None:
        """Joules that the device has used since some moment in the past; None where they are not counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruments:
    """What a launch measures with: the clocks, and who watches the machine meanwhile. A test brings its own.

    `now` reads the wall; `clock` is the device's own, `watch` looks at the machine around each block.
    `lone(step)` times single iterations, and how long the host takes to enqueue them, where there is a queue (None
    elsewhere); `surroundings` are
    flags on everything that is measured here (another process on the GPU).
    """

    now: Now = time.perf_counter
    clock: DeviceClock | None = None
    watch: Watch | None = None
    lone: Callable[[Callable[[], Any]], Lone] | None = None
    surroundings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUp:
    """What the iterations before the clock were like.

    `first_call` is the first iteration's time and `iteration_seconds` that of one iteration of the last burst, in
    seconds; `iterations` counts all of them, the first call included. `finite`: the last result was. `moving` says what
    had not settled when the time was up; None if the run was steady, or if the protocol does not ask.
    """

    first_call: float
    iterations: int
    iteration_seconds: float
    finite: bool
    moving: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """The blocks that were kept, in order: seconds by the wall, by the device's clock (or ()), and their weather.

    `bad_weather` is that of the blocks that were discarded.
    """

    wall: tuple[float, ...]
    device: tuple[float, ...]
    weather: tuple[Weather, ...]
    bad_weather: tuple[Weather, ...] = ()


def check(protocol: spec.Protocol) -> None:
    """Raise `BenchError` for a protocol that this engine cannot follow."""
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
        first_call=seconds, iterations=done, iteration_seconds=iteration_seconds, finite=workload.is_finite(result)
    )


SETTLING_BLOCK = 0.05
"""Seconds per block while waiting for the steady state: short, so that two windows of them are a second."""


def settle(
    workload: Steps,
    protocol: spec.Protocol,
    warm: WarmUp,
    unsteady: Callable[[Sequence[float]], str | None],
    events: Callable[[], int] = lambda: 0,
    now: Now = time.perf_counter,
) -> WarmUp:
    """Go on until `unsteady` finds nothing moving in the block times, or `protocol.steady_within` seconds have passed.

    `events` counts what a steady run does not do any more (recompile, grow its memory); when it moves, the blocks
    so far are forgotten. A protocol without `steady_within` is left as it is.
    """
    if protocol.steady_within is None:
        return warm
    per_block = max(1, math.ceil(SETTLING_BLOCK / max(warm.iteration_seconds, SHORTEST)))
    blocks: list[float] = []
    start, seen, done = now(), events(), 0
    moving = unsteady(blocks)
    while moving and now() - start < protocol.steady_within:
        blocks.append(_time_block(workload, per_block, now))
        done += per_block
        if events() != seen:
            seen, blocks = events(), []
        moving = unsteady(blocks)
    seconds = blocks[-1] / per_block if blocks else warm.iteration_seconds
    return replace(warm, iterations=warm.iterations + done, iteration_seconds=seconds, moving=moving)


CLOCK_SHARE = 1e-4
"""The most of a block that reading the clock and synchronising may take (torch.utils.benchmark uses the same)."""

SHORTEST = 1e-7
"""Seconds: no step is shorter. It only keeps a stopped clock from asking for an endless block."""


def clock_cost(workload: Steps, now: Now) -> float:
    """Seconds that timing an empty block takes: two readings of the clock and a synchronisation of an idle device."""
    costs = []
    for _ in range(21):
        start = now()
        workload.synchronize()
        costs.append(now() - start)
    return median(costs)


def block_iterations(protocol: spec.Protocol, iteration_seconds: float, cost: float = 0.0) -> int:
    """Iterations per block: the protocol's own, or as many as fill its `block_seconds`, at least 1.

    A block is never so short that the clock's own `cost` is more than `CLOCK_SHARE` of it.
    """
    if protocol.block_iterations is not None:
        return protocol.block_iterations
    seconds = max(protocol.block_seconds, cost / CLOCK_SHARE)
    return max(1, math.ceil(seconds / max(iteration_seconds, SHORTEST)))


PAUSE, PAUSE_GROWTH, LONGEST_PAUSE = 0.05, 1.5, 0.5
"""Seconds to wait after a discarded block, and how that grows (NVIDIA's nvbench waits so for a throttled clock)."""


def time_blocks(
    workload: Steps,
    *,
    blocks: int,
    iterations: int,
    now: Now,
    watch: Watch | None = None,
    clock: DeviceClock | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Blocks:
    """Time blocks until `blocks` of them are kept. The device must be idle when this is called.

    A block whose weather says so is discarded and, after a growing pause, repeated; as many may be discarded as
    were asked for, so a machine that throttles all the time ends with fewer blocks, or none, and not never.
    """
    kept: list[tuple[float, float | None, Weather | None]] = []
    bad: list[Weather] = []
    pause = PAUSE
    while len(kept) < blocks and len(bad) <= blocks:
        if watch is not None:
            watch.before()
        wall = _time_block(workload, iterations, now, clock)
        weather = watch.after() if watch is not None else None
        if weather is not None and weather.discard:
            bad.append(weather)
            sleep(pause)
            pause = min(pause * PAUSE_GROWTH, LONGEST_PAUSE)
            continue
        kept.append((wall, clock.seconds() if clock is not None else None, weather))
    return Blocks(
        wall=tuple(wall for wall, _, _ in kept),
        device=tuple(seconds for _, seconds, _ in kept if seconds is not None),
        weather=tuple(weather for _, _, weather in kept if weather is not None),
        bad_weather=tuple(bad),
    )


def _time_block(workload: Steps, iterations: int, now: Now, clock: DeviceClock | None = None) -> float:
    step, repetitions = workload.step, range(iterations)  # looked up before the clock starts
    with collector_paused():
        start = now()
        if clock is not None:
            clock.start()
        for _ in repetitions:
            step()
        if clock is not None:
            clock.stop()
        workload.synchronize()
        return now() - start


WINDOW = 10
"""Blocks per window."""

TOLERANCE = {"cuda": 0.01, "cpu": 0.02}
"""How far the medians of two windows may differ, and how far a window may drift, as shares."""

QUARTILE_TOLERANCE = 0.05
OUTLIER = 1.5
"""Interquartile ranges above the third quartile beyond which a window's first value is still warming up (Tukey
1977).
"""


def unsteady(blocks: Sequence[float], device_type: str) -> str | None:
    """What still moves in the last two windows of block times (s), in a few words; None if the run is steady.

    Fewer than two windows are not steady: there is nothing to compare.
    """
    if len(blocks) < 2 * WINDOW:
        return "fewer than two windows of blocks"
    before, after = blocks[-2 * WINDOW : -WINDOW], blocks[-WINDOW:]
    tolerance = TOLERANCE["cpu" if device_type == "cpu" else "cuda"]
    if _apart(median(before), median(after)) > tolerance:
        return "the median moves"
    first, third = (_quartiles(window) for window in (before, after))
    if max(_apart(one, other) for one, other in zip(first, third, strict=True)) > QUARTILE_TOLERANCE:
        return "the quartiles move"
    low, high = third
    if after[0] > high + OUTLIER * (high - low):
        return "the window begins slowly"
    if abs(drift(after)) > tolerance:
        return "the blocks drift"
    return None


def drift(blocks: Sequence[float]) -> float:
    """How much the blocks change from the first to the last, as a share of their median, by the Theil-Sen slope.

    The slope is the median of the slopes of all pairs (Sen 1968): a burst moves it little.
    """
    slopes = [(b - a) / (j - i) for (i, a), (j, b) in combinations(enumerate(blocks), 2)]
    return median(slopes) * (len(blocks) - 1) / median(blocks)


def _quartiles(window: Sequence[float]) -> tuple[float, float]:
    low, _, high = quantiles(window, n=4, method="inclusive")
    return low, high


def _apart(one: float, other: float) -> float:
    return abs(math.log(other / one)) if one > 0 and other > 0 else math.inf
