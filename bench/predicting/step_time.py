"""Predict a step on a card: its seconds and its training memory, each with an 80 % interval and a tier, as a record.

The record says `predicted`, has no protocol, and names the card in its environment; it is never used as a baseline. Its
`basis` says the tier, the calibration and the reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from visionbench.predicting.basis import RATIO, Basis, basis_of, refusal
from visionbench.predicting.calibration import Calibration, shipped
from visionbench.predicting.features import features
from visionbench.predicting.memory import Memory, bounds, capacity, least, memory
from visionbench.predicting.samples import traced
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


def predict_step(
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
        basis = basis_of(spec, device, known)
    except BenchError as error:
        return refused(spec, device, "unsupported", str(error))
    try:
        trace = traced(replace(spec, compile_mode=None))
    except UntraceableError as error:
        return refused(spec, device, "unsupported", str(error))
    return predict_traced(trace, spec, device, basis, _ratio(spec, device, known, measured))


def predict_traced(
    trace: Trace, spec: Spec, device: DeviceSpec, basis: Basis, ratio: tuple[Record, Basis] | None = None
) -> Record:
    """Predict a step that is traced already. `ratio` is a record of another card with the basis for that card."""
    columns = features(trace, basis.peaks)
    seconds = basis.seconds(columns, spec)
    if basis.limit is not None:
        limit = basis.limit.seconds(features(trace, basis.limit.peaks), replace(spec, precision="tf32"))
        seconds = max(seconds, limit)
    reason = refusal(replace(trace, spec=spec), columns, seconds)
    if reason is not None:
        return refused(spec, device, "unsupported", reason)
    needed = memory(trace, device)
    room = capacity(device)
    # For inference only a bound is known: what its largest operator works on.
    bound = max(least(trace), needed.process * bounds("process")[0] if needed else 0.0)
    if bound > room:
        about = "training needs about" if needed else "it needs at least"
        size, has = (needed.process if needed else bound) / 2**30, room / 2**30
        too_much = f"{about} {size:.1f} GiB, the card has {has:.1f}: choose a smaller batch or image"
        return refused(spec, device, "out_of_memory", too_much)
    if ratio is not None:
        seconds, basis = _by_ratio(trace, spec, seconds, basis, ratio)
    interval = (seconds * math.exp(basis.low), seconds * math.exp(basis.high), LEVEL)
    return Record(
        spec=spec,
        protocol=None,
        environment=_environment(device, basis.torch),
        measurements=(measurement(STEP_TIME, (seconds,), interval=interval), *_memory(needed)),
        source="predicted",
        # Of the resolution no more than three digits are known.
        basis=RecordedBasis(
            tier=basis.tier,
            calibration=basis.calibration,
            reason=basis.reason,
            resolution=float(f"{basis.resolution:.3g}"),
        ),
    )


def _ratio(
    spec: Spec, device: DeviceSpec, known: Sequence[Calibration], measured: Sequence[Record]
) -> tuple[Record, Basis] | None:
    """A record of the same spec on another card, with the basis of a prediction for that card."""
    for record in measured:
        sheet = find(record.environment.device_key or "")
        if record.spec != spec or record.source != "measured" or not images_per_second(record):
            continue
        if sheet is not None and sheet.key != device.key:
            basis = basis_of(spec, sheet, known)
            if basis.tier in ("calibrated", "anchored"):
                return record, basis
    return None


def _by_ratio(
    trace: Trace, spec: Spec, seconds: float, here: Basis, ratio: tuple[Record, Basis]
) -> tuple[float, Basis]:
    """Scale by measured / predicted of another card: the model errs about a network on both cards alike."""
    record, elsewhere = ratio
    rate = images_per_second(record)
    if here.tier not in ("calibrated", "anchored") or not rate:
        return seconds, here
    factor = spec.batch_size / rate / elsewhere.seconds(features(trace, elsewhere.peaks), spec)
    reason = f"measured on {record.environment.device} ({rate:.4g} img/s), times the ratio of two predictions"
    better = replace(here, tier="ratio", reason=reason, low=RATIO[0], high=RATIO[1], resolution=RATIO[1] * math.sqrt(2))
    return seconds * factor, better


def _memory(needed: Memory | None) -> Iterator[Measurement]:
    """Memory has no calibration: its interval was judged, as that of a data sheet."""
    if needed is None:
        return
    reason = "the trace's peak of live tensors and cuBLAS's workspaces (docs/predictions.md)"
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


def refused(spec: Spec, device: DeviceSpec, kind: FailureKind, reason: str) -> Record:
    """The record of a row that is not predicted, with the reason."""
    return Record(
        spec=spec,
        protocol=None,
        environment=_environment(device, None),
        failure=Failure(kind=kind, stage=STAGE, message=reason),
        source="predicted",
    )
