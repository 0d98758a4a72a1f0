"""Training on several processes: the step of all, the step without exchanging gradients, and one alone, in turns.

A round is one block of each of the three, and their order moves on by one from round to round, so what drifts (clocks,
heat, another program) meets all alike and cancels in the quotients of a round. A block's time is by the common clock
(`ranks`): from when the last rank is ready to when the slowest is done.

- `throughput`: all ranks, each with its batch; gradients are averaged. *Scaling efficiency* is `alone_time` over it:
  the rate of N processes over N times the rate of one, for the batch is per process.
- `unsynchronised_time`: the same under `no_sync`. *Communication efficiency* is this over `throughput`; the difference
  is what exchanging gradients adds to a step (bytes that nothing hides, bucket copies, hooks, and waiting for others).
- `alone_time`: rank 0's step while the others sleep. What of the scaling efficiency is not communication is contention:
  for cores, memory, power, or the bus.
- `rank_time.N`: each rank's own time of the unsynchronised blocks, where none waits for another: which one is slow.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import torch

from visionbench.machine import device_clock, host, telemetry
from visionbench.measuring.metrics import throughput
from visionbench.measuring.timing import Blocks, Instruments, WarmUp, block_iterations, time_blocks
from visionbench.measuring.workload import Workload
from visionbench.record.metrics import measurement
from visionbench.record.record import Measurement
from visionbench.record.spec import Protocol

METRIC = "scaling"
ALONE, UNSYNCHRONISED, RANK_TIME = "alone_time", "unsynchronised_time", "rank_time"

REPLICAS_DIFFER = "replicas_differ"
"""Flag: after synchronised steps the ranks' parameters were not the same bits."""

CORES_SHARED = "cores_shared"
"""Flag: the processes' threads are more than the cores."""


class _Turn:
    """One way of a step as `timing` wants it, and this rank's own seconds of its last block."""

    def __init__(self, step: Callable[[], object], synchronize: Callable[[], None]) -> None:
        self._step, self._synchronize = step, synchronize
        self._start: float | None = None
        self.seconds = 0.0

    def step(self) -> object:
        """Enqueue one iteration; the first of a block starts this rank's own clock."""
        if self._start is None:
            self._start = time.perf_counter()
        return self._step()

    def synchronize(self) -> None:
        """Wait for the device; this rank's block is over."""
        self._synchronize()
        if self._start is not None:
            self.seconds, self._start = time.perf_counter() - self._start, None

    def is_finite(self, result: object) -> bool:
        """Whether there is a result at all; the warm-up has asked about its numbers."""
        return result is not None


def measure(workload: Workload, protocol: Protocol, warm: WarmUp, tools: Instruments) -> tuple[Measurement, ...]:
    """Seconds of the three kinds of block in turns. All ranks must call it; `tools` have the common clock."""
    turns = workload.in_turns
    assert turns is not None, "one process has nothing to scale"
    doubts: tuple[str, ...] = () if turns.equal() else (REPLICAS_DIFFER,)
    iterations = block_iterations(protocol, warm.iteration_seconds)
    kinds = {
        throughput.METRIC: _Turn(workload.step, workload.synchronize),
        UNSYNCHRONISED: _Turn(turns.unsynchronised, workload.synchronize),
        ALONE: _Turn(turns.alone, workload.synchronize),
    }
    for turn in kinds.values():  # what their first call takes is no part of a block
        for _ in range(2):
            turn.step()
        turn.synchronize()
        tools.now()  # no rank goes on before all are here
    rounds, own = _rounds(kinds, protocol.blocks, iterations, tools)
    blocks = {kind: _joined([turn[kind] for turn in rounds]) for kind in kinds}
    # On a CPU, where processes x threads are more than the cores, the processes take them from each other.
    crowded = turns.ranks.size * torch.get_num_threads() > len(host.usable_cores())
    doubts += (CORES_SHARED,) if crowded and turns.ranks.backend == "gloo" else ()
    return _measurements(blocks, own, iterations, warm, tools, doubts)


def _rounds(
    kinds: dict[str, _Turn], blocks: int, iterations: int, tools: Instruments
) -> tuple[list[dict[str, Blocks]], list[float]]:
    """The rounds in which no block had to be given up, and this rank's own seconds of their unsynchronised blocks."""
    names, rounds, own = list(kinds), [], []
    for number in range(blocks):
        order = names[number % len(names) :] + names[: number % len(names)]
        turn = {
            name: time_blocks(kinds[name], blocks=1, iterations=iterations, now=tools.now, watch=tools.watch)
            for name in order
        }
        if all(block.wall for block in turn.values()):
            rounds.append(turn)
            own.append(kinds[UNSYNCHRONISED].seconds)
    return rounds, own


def _joined(blocks: list[Blocks]) -> Blocks:
    return Blocks(
        wall=tuple(seconds for block in blocks for seconds in block.wall),
        device=(),
        weather=tuple(weather for block in blocks for weather in block.weather),
        bad_weather=tuple(weather for block in blocks for weather in block.bad_weather),
    )


def _measurements(
    blocks: dict[str, Blocks],
    own: list[float],
    iterations: int,
    warm: WarmUp,
    tools: Instruments,
    doubts: tuple[str, ...],
) -> tuple[Measurement, ...]:
    together, alone = blocks[throughput.METRIC], blocks[ALONE]
    # On a CPU the time that a rank waits for another looks like a core that others took: alone it waits for nobody.
    waits = any(weather.cpu is not None for weather in together.weather)
    judged = replace(together, weather=alone.weather, bad_weather=alone.bad_weather) if waits else together
    flags = throughput.flags_of(judged, iterations, warm, device_clock.Lone(), tools)
    flags = tuple(dict.fromkeys((*doubts, *flags)))
    warnings = throughput.warnings_of(together, warm)
    times = (
        measurement(kind, block.wall, iterations=iterations, warmups=warm.iterations, flags=flags, warnings=warnings)
        for kind, block in blocks.items()
    )
    own_times = measurement(RANK_TIME, own, iterations=iterations)
    return (*times, own_times, *telemetry.measurements(together.weather, iterations=iterations))
