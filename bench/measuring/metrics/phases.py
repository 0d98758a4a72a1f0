"""Phases of a training step: forward (with the loss), backward, optimizer; each with the device idle before and after.
Or of a detector's inference: its dense part in five (backbone to masks) and its post-processing in three.

A separate pass after throughput, because the synchronisations that separate the phases are what a training loop does
not do: the three add up to the latency of a step, not to its throughput. On CUDA the same pass is made once more for
memory, the allocator's peak being reset at each boundary, so that no reset is timed. A peak by phase is what live
tensors held at the worst moment *within* that phase; the largest of the three is the step's.

As many iterations as `latency` has, but three of a detector that takes seconds. Nothing for an inference without
phases.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from visionbench.measuring.metrics.latency import ENOUGH, doubts, iterations, time_parts
from visionbench.measuring.timing import Now, WarmUp
from visionbench.measuring.workload import Workload
from visionbench.record.metrics import POST_PHASES, measurement
from visionbench.record.record import Measurement
from visionbench.record.spec import Protocol

METRIC = "phases"
"""What a protocol asks for. The measurements are called as the workload calls its phases."""

OF_A_SLOW_DETECTOR = 3
"""Iterations where `latency` has its fewest: a detector takes seconds on a CPU, and three are a first look."""

PEAK_MEMORY = "peak_memory_{}"
"""Bytes by the allocator's counter `allocated` within one phase: `peak_memory_backward`."""


def measure(
    workload: Workload, protocol: Protocol, warm: WarmUp, now: Now = time.perf_counter
) -> tuple[Measurement, ...]:
    """Seconds of each phase per iteration, chronological; on CUDA also the peak bytes of each phase."""
    if not workload.phases:
        return ()
    count = iterations(protocol, warm.iteration_seconds)
    if count == ENOUGH and workload.phases[-1].name in POST_PHASES:
        count = OF_A_SLOW_DETECTOR
    seconds = time_parts([phase.run for phase in workload.phases], workload.synchronize, count, now)
    timed = tuple(
        measurement(phase.name, values, warmups=warm.iterations, flags=doubts(warm))
        for phase, values in zip(workload.phases, zip(*seconds, strict=True), strict=True)
    )
    # The workload has made its CUDA device the current one, which is the one these counters are of.
    on_cuda = torch.cuda.is_available() and torch.cuda.is_initialized()
    memory = torch.cuda.reset_peak_memory_stats, torch.cuda.max_memory_allocated
    return (*timed, *peaks(workload, *memory)) if on_cuda else timed


def peaks(workload: Workload, reset: Callable[[], None], peak: Callable[[], int]) -> tuple[Measurement, ...]:
    """The peak bytes of each phase of one step; `reset` and `peak` are the allocator's.

    One more whole step follows, so that the next reading of the counter is the peak of a step and not of a phase.
    """
    found = []
    for phase in workload.phases:
        workload.synchronize()
        reset()
        phase.run()
        workload.synchronize()
        found.append(measurement(PEAK_MEMORY.format(phase.name), (peak(),)))
    workload.step()
    workload.synchronize()
    return tuple(found)
