"""One launch, from inside: the named steps from a spec to its record. It runs in the child, or in-process in a test.

A model that does not fit, does not compile or does not exist is a result like any other: its exception becomes a
`Failure` with the stage at which it was met. What no `except` can catch (a kill, a segmentation fault, a hang) is
`launch`'s to notice, so each stage is announced before it begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from visionbench.machine import accelerator, allocator, device_clock, support, telemetry
from visionbench.machine.environment import describe, device_type
from visionbench.measuring import rest, timing
from visionbench.measuring.failures import failure
from visionbench.measuring.metrics import (
    compilation,
    energy,
    latency,
    peak_memory,
    phases,
    process_memory,
    scaling,
    throughput,
)
from visionbench.measuring.ranks import Ranks
from visionbench.measuring.timing import Instruments
from visionbench.measuring.workload import Workload, build
from visionbench.record.errors import choose
from visionbench.record.record import Measurement, Record
from visionbench.record.spec import Protocol, Spec

Metric = Callable[[Workload, Protocol, timing.WarmUp, Instruments], tuple[Measurement, ...]]

METRICS: dict[str, Metric] = {
    throughput.METRIC: throughput.measure,
    latency.METRIC: lambda workload, protocol, warm, tools: latency.measure(workload, protocol, warm, tools.now),
    phases.METRIC: lambda workload, protocol, warm, tools: phases.measure(workload, protocol, warm, tools.now),
    energy.METRIC: energy.measure,
    scaling.METRIC: scaling.measure,
}
"""What a protocol may ask for by name, each in a separate pass; one that does not apply (phases of an inference, energy
without a counter) measures nothing. What needs no separate pass (first call, memory) is in every record."""


class _Stages:
    """The stage that the launch is at, reported as it begins; and which network it has built."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self.current = "check"
        self.network: str | None = None

    def enter(self, stage: str) -> None:
        self.current = stage
        self._tell(stage)


def measure(
    spec: Spec,
    protocol: Protocol,
    device: str,
    threads: int | None = None,
    *,
    tell_stage: Callable[[str], None] = lambda _: None,
    ranks: Ranks | None = None,
) -> Record:
    """Measure `spec` by `protocol` on `device`, in this process; never raises because of the model.

    Where several processes train, this is one of `ranks`, and all must call it.
    Torch's flags are as before when it returns. Raises `BenchError` for a device or a protocol that is a mistake.
    """
    timing.check(protocol)
    for metric in protocol.metrics:
        choose("metric", metric, METRICS)
    allocator.settle()
    environment = describe(device, threads)
    record = Record(spec=spec, protocol=protocol, environment=environment, source="measured")
    stages = _Stages(tell_stage)
    try:
        measurements = _measurements(spec, protocol, device, threads, stages, ranks)
        return replace(record, measurements=measurements, network=stages.network)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # any model may raise anything
        return replace(record, failure=failure(error, stages.current), network=stages.network)


def _measurements(
    spec: Spec, protocol: Protocol, device: str, threads: int | None, stages: _Stages, ranks: Ranks | None
) -> tuple[Measurement, ...]:
    stages.enter("check")
    support.check(spec, device)
    idle = process_memory.idle()
    stages.enter("build")
    with instruments(device, threads) as own, _opened(spec, protocol, device, threads, ranks) as workload:
        tools = own if ranks is None else ranks.instruments(own)
        stages.network = workload.network
        stages.enter("first call")
        fresh = compilation.mark()
        first = timing.first_call(workload, tools.now)
        workload.check()
        called = compilation.mark()
        stages.enter("warm-up")
        warm = _warm(workload, protocol, first, device, tools, ranks)
        peak_memory.reset(device, workload)
        stages.enter("time")
        begun = compilation.mark()
        timed = [one for metric in _asked(spec, protocol) for one in METRICS[metric](workload, protocol, warm, tools)]
        workload.check()
        recompiled = (compilation.RECOMPILED,) if compilation.recompiled_since(begun) else ()
        doubts = (*workload.doubts(), *recompiled, *(rest.flags(threads) if timed else ()))
        timed = [
            replace(one, flags=(*one.flags, *doubts), warnings=(*one.warnings, *workload.remarks)) for one in timed
        ]
        stages.enter("memory")
        compiled = compilation.measurements(first[0], fresh, called, compilation.mark()) if spec.compile_mode else ()
        memory = (*peak_memory.measure(device), *process_memory.measure(device, idle))
        return (*timed, *memory, _first_call(warm.first_call), *compiled)


def _asked(spec: Spec, protocol: Protocol) -> tuple[str, ...]:
    """The protocol's metrics; of several processes their scaling alone.

    An inference in phases (a detector's) has them timed by each protocol that times at all:
    its throughput is of a part of what a user waits for, and should not stand alone.
    """
    if spec.processes is not None:
        return (scaling.METRIC,) if protocol.metrics else ()
    missing = spec.task == "inference" and protocol.metrics and phases.METRIC not in protocol.metrics
    return (*protocol.metrics, phases.METRIC) if missing else protocol.metrics


def _first_call(seconds: float) -> Measurement:
    """The seconds of a fresh process's first iteration, until the device is done with it: one value.

    It pays for what later iterations find ready: lazy initialisation of the device's libraries, autotuning of
    convolutions, memory from the driver, compilation. So it is reported alone and never mixed with the others. Building
    the model and its inputs is not in it.
    """
    return Measurement(metric="first_call", unit="s", better="lower", assume="nothing", values=(seconds,))


@contextmanager
def instruments(device: str, threads: int | None) -> Iterator[Instruments]:
    """The instruments of a real device, released at the end. `threads` is the number that torch will use.

    To be taken up before the model is built: as long as this process holds nothing on the GPU, every process that does
    is another program's.
    """
    surroundings = telemetry.surroundings(device, threads=threads)
    watch = telemetry.Watch(device)
    try:
        yield Instruments(
            clock=device_clock.device_clock(device),
            watch=watch,
            lone=lambda step: device_clock.lone(step, device),
            surroundings=surroundings,
        )
    finally:
        watch.close()


def _warm(
    workload: Workload,
    protocol: Protocol,
    first: tuple[float, Any],
    device: str,
    tools: Instruments,
    ranks: Ranks | None,
) -> timing.WarmUp:
    """Warm up by the protocol's minimum, and then until the run is steady, if the protocol asks for that."""
    kind = device_type(device)

    def events() -> int:
        counters = accelerator.memory(device)
        reserved = counters.memory_reserved(device) if counters is not None else 0
        count = compilation.mark().frames + reserved
        return count if ranks is None else int(ranks.largest(count))  # all settle together, or wait for ever

    warm = timing.warm_up(workload, protocol, first, tools.now)
    return timing.settle(workload, protocol, warm, lambda blocks: timing.unsteady(blocks, kind), events, tools.now)


@contextmanager
def _opened(
    spec: Spec, protocol: Protocol, device: str, threads: int | None, ranks: Ranks | None
) -> Iterator[Workload]:
    benchmark = protocol.cudnn_benchmark
    workload = build(spec, device, seed=protocol.seed, cudnn_benchmark=benchmark, threads=threads, ranks=ranks)
    try:
        yield workload
    except BaseException:
        with suppress(Exception):  # on a dead device closing fails too, and would hide the cause
            workload.close()
        raise
    workload.close()
