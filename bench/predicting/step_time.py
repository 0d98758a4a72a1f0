"""A spec and a card in, a record out: seconds of a step and training memory, each with an 80 % interval and a tier.

The record says `predicted`, has no protocol, and names the card in its environment; it never meets a measured one. Its
measurements are `step_time` (s) and, for training, `peak_memory_allocated`, `peak_memory_reserved` and `process_memory`
(B), each with its 80 % interval. `basis` carries the tier, the calibration and the reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from visionbench.predicting.basis import RATIO, Basis, basis, refusal
from visionbench.predicting.calibration import Calibration, shipped
from visionbench.predicting.features import features
from visionbench.predicting.memory import Memory, bounds, capacity, least, memory
from visionbench.predicting.tracing import traced
from visionbench.record.devices import DeviceSpec, find
from visionbench.record.errors import BenchError
from visionbench.record.metrics import measurement
from visionbench.record.prediction import LEVEL, MEMORY_METRICS, STEP_TIME
from visionbench.record.record import Basis as RecordedBasis
from visionbench.record.record import Environment, Failure, FailureKind, Measurement, Record
from visionbench.record.spec import Spec
from visionbench.record.statistics import images_per_second
from visionbench.tracing import Trace, UntraceableError

STAGE = "predict"


def predict(
    spec: Spec,
    device: DeviceSpec,
    *,
    calibrations: Sequence[Calibration] | None = None,
    measured: Sequence[Record] = (),
) -> Record:
    """Predict `spec` on `device`; by default from the calibrations that visionbench ships.

    `measured` are records of other cards: one of the same spec makes the tier "ratio". A refusal is a record with a
    failure. Raises `BenchError` for a model that cannot be built, or does not run at that size.
    """
    known = shipped() if calibrations is None else calibrations
    try:
        found = basis(spec, device, known)
    except BenchError as error:
        return _refused(spec, device, "unsupported", str(error))
    try:
        trace = traced(replace(spec, compile_mode=None))
    except UntraceableError as error:
        return _refused(spec, device, "unsupported", str(error))
    return of_trace(trace, spec, device, found, _ratio(spec, device, known, measured))


def of_trace(
    trace: Trace, spec: Spec, device: DeviceSpec, found: Basis, ratio: tuple[Record, Basis] | None = None
) -> Record:
    """The prediction for a step that is traced already."""
    columns = features(trace, found.peaks)
    seconds = found.seconds(columns, spec)
    if found.limit is not None:
        limit = found.limit.seconds(features(trace, found.limit.peaks), replace(spec, precision="tf32"))
        seconds = max(seconds, limit)
    reason = refusal(replace(trace, spec=spec), columns, seconds)
    if reason is not None:
        return _refused(spec, device, "unsupported", reason)
    needed = memory(trace, device)
    too_much = _too_much(trace, needed, capacity(device))
    if too_much:
        return _refused(spec, device, "out_of_memory", too_much)
    if ratio is not None:
        seconds, found = _by_ratio(trace, spec, seconds, found, ratio)
    return Record(
        spec=spec,
        protocol=None,
        environment=_environment(device, found.torch),
        measurements=(_time(seconds, found), *_memory(needed)),
        basis=_recorded(found),
        source="predicted",
    )


def _too_much(trace: Trace, needed: Memory | None, room: float) -> str:
    """Why the step does not fit, or nothing. Of inference only a bound is known: what its largest operator works on."""
    bound = max(least(trace), needed.process * bounds("process")[0] if needed else 0.0)
    if bound <= room:
        return ""
    about = f"training needs about {needed.process / 2**30:.1f}" if needed else f"it needs at least {bound / 2**30:.1f}"
    return f"{about} GiB, the card has {room / 2**30:.1f}: choose a smaller batch or image"


def _ratio(
    spec: Spec, device: DeviceSpec, known: Sequence[Calibration], measured: Sequence[Record]
) -> tuple[Record, Basis] | None:
    """A record of the same spec on another card, with what founds a prediction for that card."""
    for record in measured:
        sheet = find(record.environment.device_key or "")
        if record.spec != spec or record.source != "measured" or not images_per_second(record):
            continue
        if sheet is not None and sheet.key != device.key:
            there = basis(spec, sheet, known)
            if there.tier in ("calibrated", "anchored"):
                return record, there
    return None


def _by_ratio(
    trace: Trace, spec: Spec, seconds: float, here: Basis, ratio: tuple[Record, Basis]
) -> tuple[float, Basis]:
    """What the model gets wrong about a network it gets wrong on both cards."""
    record, there = ratio
    rate = images_per_second(record)
    if here.tier not in ("calibrated", "anchored") or not rate:
        return seconds, here
    factor = spec.batch_size / rate / there.seconds(features(trace, there.peaks), spec)
    reason = f"measured on {record.environment.device} ({rate:.4g} img/s), times the ratio of two predictions"
    better = replace(here, tier="ratio", reason=reason, low=RATIO[0], high=RATIO[1], resolution=RATIO[1] * math.sqrt(2))
    return seconds * factor, better


def _time(seconds: float, founded: Basis) -> Measurement:
    interval = (seconds * math.exp(founded.low), seconds * math.exp(founded.high), LEVEL)
    return measurement(STEP_TIME, (seconds,), interval=interval)


def _recorded(founded: Basis) -> RecordedBasis:
    """What a record says of it; the resolution with three digits, as no more are known."""
    return RecordedBasis(
        tier=founded.tier,
        calibration=founded.calibration,
        reason=founded.reason,
        resolution=float(f"{founded.resolution:.3g}"),
    )


def _memory(needed: Memory | None) -> Iterator[Measurement]:
    """Memory has no calibration: its interval was judged, as that of a data sheet."""
    if needed is None:
        return
    reason = "the trace's peak of live tensors and cuBLAS's workspaces (`validate-predictions --memory`)"
    for number, metric in MEMORY_METRICS.items():
        value, (low, high) = getattr(needed, number), bounds(number)
        yield measurement(metric, (value,), interval=(value * low, value * high, LEVEL), warnings=(reason,))


def _environment(device: DeviceSpec, torch: str | None) -> Environment:
    return Environment(
        device_type="cuda",
        device_key=device.key,
        device_name=device.names[0] if device.names else None,
        device_memory=int(device.memory),
        torch=torch,
    )


def _refused(spec: Spec, device: DeviceSpec, kind: FailureKind, reason: str) -> Record:
    return Record(
        spec=spec,
        protocol=None,
        environment=_environment(device, None),
        failure=Failure(kind=kind, stage=STAGE, message=reason),
        source="predicted",
    )
