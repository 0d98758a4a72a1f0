"""How well a device was used, and several of them: what is measured over what is counted, and how training scales.

A function of launches takes those of one key, as `statistics.throughput` does; None is what cannot be known. A count
comes from a trace (source "computed"), a peak from the device's data sheet; where the two do not fit the measured spec
(another task, another size) there is no number either.

How training scales over the processes of a launch comes from its blocks in turns (`alone_time` and the others). These
are quotients within a round, whose blocks follow each other, so what drifts over a launch cancels; a launch's value is
the median of its rounds, and an interval is over launches (`statistics.over_launches`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from visionbench.record.devices import DeviceSpec
from visionbench.record.record import Record
from visionbench.record.statistics import Estimate, images_per_second, over_launches, throughput


def mfu(launches: Sequence[Record], counted: Record | float | None, device: DeviceSpec | None) -> float | None:
    """Model FLOP/s utilisation, 1 = the peak: 2 * MACs per image * images/s / the dense peak for that precision.

    Chowdhery et al. 2022 (PaLM, appendix B): only what the model needs counts, so recomputing does not raise it.
    `counted` is a trace of the same model, size and task (a training step has about three times the MACs of its
    forward), or its MACs per image.
    """
    rate = throughput(launches) if device is not None else None
    if rate is None or device is None:
        return None
    macs = _macs(launches[0], counted) if isinstance(counted, Record) else counted
    peak = device.peak(launches[0].spec.precision)
    return None if macs is None or not peak else 2 * macs * rate.centre / peak


def _macs(measured: Record, counted: Record) -> float | None:
    """MACs of one image. They do not depend on batch, precision or memory format."""
    here, there = measured.spec, counted.spec
    same = (here.network, here.task) == (there.network, there.task)
    return counted.value("macs") if same and counted.source == "computed" else None


def images_to_break_even(eager: Sequence[Record], compiled: Sequence[Record]) -> float | None:
    """After how many images compiling has paid: compile seconds / (seconds per image eager - compiled).

    From c + n t_compiled = n t_eager, where c is the first call from a cold cache. None if compiled is not faster.
    Raises ValueError if the two differ in more than their compilation: their times would say nothing about it.
    """
    if eager and compiled and _but_compilation(eager[0]) != _but_compilation(compiled[0]):
        raise ValueError(f"{eager[0].spec} and {compiled[0].spec} differ in more than their compilation")
    slow, fast = throughput(eager), throughput(compiled)
    cost = over_launches(compiled, lambda record: record.value("compile_seconds"))
    if slow is None or fast is None or cost is None:
        return None
    return pays_after(cost.centre, slow.centre, fast.centre)


def pays_after(compile_seconds: float, eager: float, compiled: float) -> float | None:
    """The same from two rates in images per second, wherever they come from; None if compiled is not faster."""
    return compile_seconds / (1 / eager - 1 / compiled) if compiled > eager else None


def _but_compilation(record: Record) -> tuple[object, ...]:
    _, *rest = record.key
    return (replace(record.spec, compile_mode=None), *rest)


def joules_per_image(launches: Sequence[Record]) -> Estimate | None:
    """Joules of the median window / (its iterations * batch size), over the launches; the idle device's share included.

    All that the device drew, as MLPerf Power counts (Tschand et al. 2024): the machine must be on to compute.
    """
    return over_launches(launches, _joules)


def _joules(record: Record) -> float | None:
    energy = record.get("energy")
    if energy is None or not energy.values:
        return None
    return median(energy.values) / (energy.iterations * record.spec.batch_size)


def images_per_second_of_all(record: Record) -> float | None:
    """The rate of all processes of a launch: each has its batch. None for one process, or without a rate."""
    rate = images_per_second(record)
    return None if rate is None or record.spec.processes is None else record.spec.processes * rate


def scaling_efficiency(record: Record) -> float | None:
    """Images per second of N processes over N times those of one; the batch is per process. None without the blocks."""
    return _quotient(record, "alone_time", "throughput")


def communication_efficiency(record: Record) -> float | None:
    """Time of a step that exchanges no gradients over that of one that does. None without the blocks."""
    return _quotient(record, "unsynchronised_time", "throughput")


def exposed_seconds(record: Record) -> float | None:
    """Seconds that exchanging gradients adds to a step: what computing does not hide. None without the blocks.

    It may come out below zero where that is nothing.
    """
    rounds = _rounds(record, "throughput", "unsynchronised_time")
    return median(together - without for together, without in rounds) if rounds else None


def slowest_rank(record: Record) -> tuple[int, float] | None:
    """The rank that takes longest where none waits for another, and how many times the median rank's time it takes."""
    times: list[float] = []
    while (measured := record.get(f"rank_time.{len(times)}")) is not None and measured.values:
        times.append(median(measured.values))
    if len(times) < 2:
        return None
    slowest = max(range(len(times)), key=times.__getitem__)
    return slowest, times[slowest] / median(times)


def _quotient(record: Record, above: str, below: str) -> float | None:
    rounds = _rounds(record, above, below)
    return median(first / second for first, second in rounds) if rounds else None


def _rounds(record: Record, first: str, second: str) -> list[tuple[float, float]]:
    """Seconds of a step by both metrics, round by round; nothing where their blocks are not of the same rounds."""
    above, below = record.get(first), record.get(second)
    if above is None or below is None or len(above.values) != len(below.values):
        return []
    pairs = zip(above.values, below.values, strict=True)
    return [(a / above.iterations, b / below.iterations) for a, b in pairs if a > 0 and b > 0]
