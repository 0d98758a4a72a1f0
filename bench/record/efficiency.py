"""How well a device was used: what is measured over what is counted. Derived when read, standard library only.

Every function takes the launches of one key, as `derived.throughput` does, and says None where something it needs is
not known. A count comes from a trace (source "computed"), a peak from the device's data sheet; where the two do not fit
the measured spec (another task, another size) there is no number either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from visionbench.record.devices import DeviceSpec
from visionbench.record.record import Record
from visionbench.record.statistics import Estimate, over_launches, throughput

ENERGY, ENERGY_SECONDS, IDLE_POWER = "energy", "energy_seconds", "idle_power"
"""Joules of each window of many iterations, the window's seconds, and the watts of the device doing nothing."""

CPU_TIME = "cpu_time"
"""Seconds of CPU time of the process, all threads, for each block of `throughput`."""


def mfu(launches: Sequence[Record], counted: Record | float | None, device: DeviceSpec | None) -> float | None:
    """Model FLOP/s utilisation, 1 = the peak: 2 * MACs per image * images/s / the dense peak for that precision.

    Chowdhery et al. 2022 (PaLM, appendix B): only what the model needs counts, so recomputing does not raise it.
    `counted` is a trace of the same model, size and task (a training step has about three times the MACs of its
    forward), or its MACs per image.
    """
    rate = throughput(launches)
    if rate is None or device is None:
        return None
    macs = _macs(launches[0], counted) if isinstance(counted, Record) else counted
    peak = device.peak(launches[0].spec.precision)
    return None if macs is None or not peak else 2 * macs * rate.centre / peak


def _macs(measured: Record, counted: Record) -> float | None:
    """MACs of one image. They do not depend on batch, precision or memory format."""
    here, there = measured.spec, counted.spec
    same = (here.model, here.image_size, here.task) == (there.model, there.image_size, there.task)
    return counted.value("macs") if same and counted.source == "computed" else None


def achieved_bandwidth(launches: Sequence[Record], traced: Record | None) -> float | None:
    """Bytes per second that the operators moved at least: the traced bytes of a step / the seconds of a step.

    The trace lets every operator read its inputs and write its outputs once, which an operator that goes over them
    twice exceeds: a lower bound of what the operators ask for; what a cache served of that, the memory did not. A
    compiler fuses operators, which then move less: None for a compiled spec, and for the trace of another one.
    """
    rate = throughput(launches)
    if rate is None or traced is None or launches[0].spec.compile_mode is not None:
        return None
    moved = traced.value("bytes") if traced.spec == launches[0].spec else None
    return None if moved is None else moved * rate.centre / launches[0].spec.batch_size


def arithmetic_intensity(traced: Record) -> float | None:
    """FLOPs per byte of a step: 2 * MACs per image * batch size / the traced bytes (Williams et al. 2009, "Roofline").

    Bytes as without fusion and caches, so the intensity of what a compiler makes of it is higher.
    """
    macs, moved = traced.value("macs"), traced.value("bytes")
    return None if macs is None or not moved else 2 * macs * traced.spec.batch_size / moved


def images_to_break_even(eager: Sequence[Record], compiled: Sequence[Record]) -> float | None:
    """After how many images compiling has paid: compile seconds / (seconds per image eager - compiled).

    From c + n t_compiled = n t_eager, where c is the first call from a cold cache. None if compiled is not faster.
    Raises ValueError if the two differ in more than their compilation: their times would say nothing about it.
    """
    if eager and compiled and _but_compilation(eager[0]) != _but_compilation(compiled[0]):
        raise ValueError(f"{eager[0].spec} and {compiled[0].spec} differ in more than their compilation")
    slow, fast = throughput(eager), throughput(compiled)
    cost = over_launches(compiled, lambda record: _first(record, "compile_seconds"))
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
    return over_launches(launches, lambda record: _joules(record, idle_power=0.0))


def joules_per_image_above_idle(launches: Sequence[Record]) -> Estimate | None:
    """As `joules_per_image`, less what the device would have drawn doing nothing: idle watts * the window's seconds."""
    return over_launches(launches, lambda record: _joules(record, idle_power=_first(record, IDLE_POWER)))


def _joules(record: Record, idle_power: float | None) -> float | None:
    energy, windows = record.get(ENERGY), record.get(ENERGY_SECONDS)
    if energy is None or not energy.values or idle_power is None:
        return None
    seconds = windows.values if windows else ()
    if not idle_power:
        above = energy.values
    elif len(seconds) == len(energy.values):
        above = tuple(joules - idle_power * lasted for joules, lasted in zip(energy.values, seconds, strict=True))
    else:
        return None
    return median(above) / (energy.iterations * record.spec.batch_size)


def wall_over_cpu(record: Record) -> float | None:
    """Seconds by the wall per CPU second and thread, the median of a CPU launch's blocks: 1 where all worked always.

    With one thread, more than 1.05 says that something else had the core; with several it also holds what does not
    run in parallel.
    """
    wall, cpu, threads = record.get("throughput"), record.get(CPU_TIME), record.environment.threads
    if wall is None or cpu is None or not threads or len(wall.values) != len(cpu.values) or not wall.values:
        return None
    if record.environment.device_type != "cpu" or min(cpu.values) <= 0:
        return None
    return median(threads * w / c for w, c in zip(wall.values, cpu.values, strict=True))


def _first(record: Record, metric: str) -> float | None:
    found = record.get(metric)
    return found.values[0] if found and found.values else None
