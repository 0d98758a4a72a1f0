"""How well a device was used: what is measured over what is counted. Derived when read, standard library only.

Every function takes the launches of one key, as `statistics.throughput` does, and says None where something it needs is
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
