"""Throughput: the seconds of a block of back-to-back iterations, one synchronisation at its end.

A block keeps the device's queue full, so it tells what a server under load gets, not how long one batch takes: on a
GPU the host enqueues the next iteration while the last one is running. What is stored is the cost (seconds per
block); images per second is derived when read, because a mean of rates is not the rate of the mean cost (Hoefler &
Belli 2015, rule 3).
"""

from __future__ import annotations

from statistics import quantiles

from visionbench.machine import device_clock, telemetry
from visionbench.measuring.timing import Blocks, Instruments, Steps, WarmUp, block_iterations, clock_cost, time_blocks
from visionbench.record.metrics import measurement
from visionbench.record.record import Measurement
from visionbench.record.spec import Protocol

METRIC = "throughput"

NAN_OUTPUT = "nan_output"
"""Flag: the warm-up's result held a NaN or an infinity. A multiplier that is fed with NaN switches fewer bits, so a
power-limited GPU may run faster than on real values."""

NO_STEADY_STATE = "no_steady_state"
"""Flag: something was still moving when the warm-up's time was up; the warning says what."""


def measure(workload: Steps, protocol: Protocol, warm: WarmUp, tools: Instruments) -> tuple[Measurement, ...]:
    """Seconds of each of the protocol's blocks, by the wall; by the device's clock and the CPU's where they exist."""
    cost = clock_cost(workload, tools.now) if protocol.block_iterations is None else 0.0
    iterations = block_iterations(protocol, warm.iteration_seconds, cost)
    blocks = time_blocks(
        workload, blocks=protocol.blocks, iterations=iterations, now=tools.now, watch=tools.watch, clock=tools.clock
    )
    alone = tools.lone(workload.step) if tools.lone else device_clock.Lone()
    other_times = (
        ("device_time", blocks.device, iterations),
        ("enqueue_time", alone.enqueue, 1),
        ("device_time_unhindered", alone.unhindered, 1),
    )
    return (
        measurement(
            METRIC,
            blocks.wall,
            iterations=iterations,
            warmups=warm.iterations,
            flags=flags_of(blocks, iterations, warm, alone, tools),
            warnings=warnings_of(blocks, warm),
        ),
        *(measurement(name, values, iterations=n) for name, values, n in other_times if values),
        *telemetry.measurements(blocks.weather, iterations=iterations),
    )


SCATTERED = "scattered"
"""Flag: the blocks' interquartile range is more than a tenth of their median, from where on torch.utils.benchmark warns
too: half of this launch's blocks disagree by that much, so its median is worth little."""

SCATTER = 0.10

SLOWED = ("throttled", "power_capped", "throttle_unknown", "clock_unsteady")
"""Flags under which a block's iterations may take longer than lone ones without anybody's waiting."""


def flags_of(
    blocks: Blocks, iterations: int, warm: WarmUp, alone: device_clock.Lone, tools: Instruments
) -> tuple[str, ...]:
    """The doubts about these blocks: of the warm-up, of their scatter, of the clocks and of the machine."""
    doubts = [] if warm.finite else [NAN_OUTPUT]
    doubts += [NO_STEADY_STATE] if warm.moving else []
    if len(blocks.wall) >= 4:
        low, middle, high = quantiles(blocks.wall, n=4, method="inclusive")
        doubts += [SCATTERED] if high - low > SCATTER * middle else []
    weather = telemetry.flags((*blocks.weather, *blocks.bad_weather))
    slowed = any(flag in SLOWED for flag in weather)
    clocks = device_clock.flags(blocks.wall, blocks.device, alone, iterations=iterations, slowed=slowed)
    return tuple(dict.fromkeys((*doubts, *clocks, *weather, *tools.surroundings)))


def warnings_of(blocks: Blocks, warm: WarmUp) -> tuple[str, ...]:
    """For a reader, in words: what had not settled, and how many blocks were discarded."""
    told = (f"not steady after {warm.iterations} iterations: {warm.moving}",) if warm.moving else ()
    bad = len(blocks.bad_weather)
    discarded = f"{bad} of {bad + len(blocks.wall)} blocks discarded: the device slowed itself down"
    return (*told, discarded) if bad else told
