"""How a prediction is founded, and when there is none.

| tier | founded on | 80 % interval |
|---|---|---|
| ratio | the same spec measured on another card, times the ratio of two predictions | 1.15 times either way |
| calibrated | 100 or more rows of this card by one protocol, or one's own anchors | of held-out families |
| anchored | rows that papers print for this card, or rows of its sister | of held-out families |
| data sheet | no row of this card: the multipliers of others, its own peaks | 0.7 to 1.65 times |
| refused | nothing: launch-bound, unknown operators, or a precision that the card lacks | |

The data-sheet interval is wide and leans to the slow side because power limits forbid what data sheets promise: four
GeForce and workstation cards predicted from each other were off by a factor common to all models with a standard
deviation of 0.21 in the logarithm, on top of the model's own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from bench.predict.calibration import Calibration, best, chip
from bench.predict.features import LAUNCH, LAUNCH_SECONDS
from bench.predict.peaks import Peaks, peaks_of
from bench.predict.priors import prior
from bench.record.devices import DeviceSpec
from bench.record.spec import Spec

if TYPE_CHECKING:
    from bench.trace import Trace

Tier = Literal["ratio", "calibrated", "anchored", "data sheet", "refused"]

CALIBRATED_ROWS = 100
DATA_SHEET = (math.log(0.7), math.log(1.65))
RATIO = (-math.log(1.15), math.log(1.15))
SISTER = 0.05
"""Added on both sides (log) where the rows are of another card with the same chip: its clocks and its power differ."""

UNKNOWN_SHARE = 0.10
LAUNCH_REAL = 1e-5
"""Seconds between two launches of an eager model as hosts manage them (8 to 60 us are seen), for the refusal alone."""

_COMPILED_LAUNCHES = 1 / 3
_CLASSIFIED = frozenset(("hardswish", "hardswish_", "hardsigmoid", "hardsigmoid_", "hardswish_backward"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """What a prediction rests on. `low` and `high` bound log(truth / prediction) in 80 % of cases."""

    tier: Tier
    reason: str
    calibration: str
    multipliers: dict[str, float]
    peaks: Peaks
    low: float
    high: float
    resolution: float
    torch: str | None

    def seconds(self, columns: dict[str, float], spec: Spec) -> float:
        """Seconds of a step with these columns; one never seen in a fit keeps what was believed of it."""
        compiled = spec.compile_mode is not None
        return sum(
            value * self.multipliers.get(name, prior(name, precision=spec.precision, compiled=compiled))
            for name, value in columns.items()
        )


def basis(spec: Spec, device: DeviceSpec, calibrations: Sequence[Calibration]) -> Basis:
    """The best there is for that way of running on that card. Raises `BenchError` for a precision that it lacks."""
    peaks = peaks_of(device, spec.precision)
    found = best(calibrations, spec, device.key)
    return _of_sheet(spec, device, peaks, calibrations) if found is None else _of_rows(found, device, peaks)


def _of_rows(found: Calibration, device: DeviceSpec, peaks: Peaks) -> Basis:
    sister = found.device != device.key
    many = found.origin == "timm" and found.rows >= CALIBRATED_ROWS
    full = not sister and (many or found.origin == "records")
    rows = f"{found.rows} {'own' if found.origin == 'records' else found.origin} rows"
    of = f"{found.device}, a card with the same chip" if sister else "this card"
    widen = SISTER if sister else 0.0
    return Basis(
        tier="calibrated" if full else "anchored",
        reason=f"{rows} of {of}, torch {found.torch}: held-out families are {found.held_out['model'].mean:.0%} off",
        calibration=found.id,
        multipliers=found.multipliers,
        peaks=peaks,
        low=found.low - widen,
        high=found.high + widen,
        resolution=found.resolution,
        torch=found.torch if found.torch[:1].isdigit() else None,
    )


def _of_sheet(spec: Spec, device: DeviceSpec, peaks: Peaks, calibrations: Sequence[Calibration]) -> Basis:
    others = _neighbours(calibrations, spec, device)
    where = ", ".join(sorted({other.device for other in others})) or "none"
    return Basis(
        tier="data sheet",
        reason=f"no rows of {device.key} for {spec.precision} {spec.memory_format} {spec.task}; multipliers of {where}",
        calibration="+".join(other.id for other in others) or "priors",
        multipliers=_mean(others),
        peaks=peaks if any(chip(o.device) == chip(device.key) for o in others) else _sustained(peaks, device),
        low=DATA_SHEET[0],
        high=DATA_SHEET[1],
        resolution=DATA_SHEET[1] - DATA_SHEET[0],
        torch=None,
    )


def _neighbours(calibrations: Iterable[Calibration], spec: Spec, device: DeviceSpec) -> list[Calibration]:
    """Calibrations of other cards for the same task, kind of arithmetic and compiler; the same memory format if any."""
    compiled = spec.compile_mode is not None
    alike = [
        c
        for c in calibrations
        if c.task == spec.task and c.compiled == compiled and _arithmetic(c.precision) == _arithmetic(spec.precision)
    ]
    same = [c for c in alike if c.memory_format == spec.memory_format] or alike
    return [c for c in same if chip(c.device) == chip(device.key)] or same


def _arithmetic(precision: str) -> str:
    return precision if precision in ("fp32", "tf32") else "two bytes"


def _mean(others: Sequence[Calibration]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for other in others:
        for name, value in other.multipliers.items():
            found.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in found.items()}


def _sustained(peaks: Peaks, device: DeviceSpec) -> Peaks:
    """The tensor cores' peak lowered to the best matrix rate that others measured on that card, where one is known."""
    if device.achieved_bf16 is None or device.bf16 is None:
        return peaks
    share = device.achieved_bf16 / device.bf16
    on_tensor_cores = peaks.single != device.fp32
    return replace(peaks, half=peaks.half * share, single=peaks.single * (share if on_tensor_cores else 1))


def refusal(trace: Trace, columns: dict[str, float], seconds: float) -> str | None:
    """Why no number is better than this one, or None."""
    unknown = sum(op.bytes for op in trace.operators if op.kind == "other" and op.name not in _CLASSIFIED)
    if unknown > UNKNOWN_SHARE * trace.bytes:
        return f"operators that nobody has classified move {unknown / trace.bytes:.0%} of its bytes (allowed: 10 %)"
    launches = columns.get(LAUNCH, 0.0) / LAUNCH_SECONDS
    waiting = launches * LAUNCH_REAL * (_COMPILED_LAUNCHES if trace.spec.compile_mode else 1.0)
    if waiting > 0.5 * seconds:
        return (
            f"launch-bound: {launches:.0f} launches of 10 us are over half of {1000 * seconds:.3g} ms, so the host "
            "decides; choose a larger batch"
        )
    return None


def distinguishable(first: float, second: float, resolution: float) -> bool:
    """Whether two predicted times differ by more than the model's own errors against each other."""
    return abs(math.log(first / second)) > resolution
