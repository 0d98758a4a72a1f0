"""What a prediction is based on, and when it is refused.

| tier | based on | 80 % interval |
|---|---|---|
| ratio | the same spec measured on another card, times the ratio of two predictions | 1.15 times either way |
| calibrated | 100 or more rows of this card by one protocol, or the user's anchors | of held-out families |
| anchored | rows that papers print for this card, or rows of a card with its chip | of held-out families |
| data sheet | other cards' multipliers and this card's peaks: no row of it run that way | `DATA_SHEET` or narrower |
| refused | nothing: launch-bound, unknown operators, or a precision that the card lacks | none |

The data-sheet interval is wide and leans to the slow side because power limits forbid what data sheets promise: four
GeForce and workstation cards predicted from each other were off by a factor common to all models with a standard
deviation of 0.21 in the logarithm, on top of the model's own. For data-centre cards that factor is known
(`_SLOWDOWNS`): medians of printed rows that no multiplier was fitted on (`perf/prediction`), so those rows are evidence
of the scatter only. H100's factor is A100's, so its rows are evidence of the factor, too. docs/predictions.md shows
all of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from visionbench.predicting.calibration import Calibration, average, best, chip
from visionbench.predicting.features import LAUNCH, LAUNCH_SECONDS, Peaks, peaks_of
from visionbench.predicting.fit import prior
from visionbench.record.devices import DEVICES, DeviceSpec
from visionbench.record.errors import BenchError
from visionbench.record.record import Tier
from visionbench.record.spec import Spec, Task

if TYPE_CHECKING:
    from visionbench.tracing import Trace

CALIBRATED_ROWS = 100
DATA_SHEET = (math.log(0.7), math.log(1.65))
OF_THE_CHIP = (math.log(0.88), math.log(1.2))
"""Inference, where rows of the same chip, run in another way, say how fast it is.

Measured / predicted time of such rows: 80 % of 55 between 0.90 and 1.10.
"""

OF_HBM = (math.log(0.8), math.log(1.35))
"""Inference, where rows of another chip with stacked memory say it, and training, where rows of several such chips do.

Measured / predicted time of such rows: inference on an H100, 80 % of 116 between 0.87 and 1.18; training, 80 % of 53
between 0.85 and 1.22.
"""

RESOLUTION: Mapping[Task, float] = {"inference": 0.20, "train": 0.31}
"""In the data-sheet tier four of five pairs of printed rows of one card and way of running differ by less."""

RATIO = (-math.log(1.15), math.log(1.15))
SISTER = 0.05
"""Added on both sides (log) where the rows are of another card with the same chip: its clocks and its power differ."""

VOLTA = (7, 0)
"""The first compute capability with matrix units: no row of an older card is known."""

UNKNOWN_SHARE = 0.10
LAUNCH_REAL = 1e-5
"""Seconds between two launches of an eager model as hosts manage them (8 to 60 us are seen), for the refusal alone."""

_COMPILED_LAUNCHES = 1 / 3
_CLASSIFIED = frozenset(("hardswish", "hardswish_", "hardsigmoid", "hardsigmoid_", "hardswish_backward"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Slowdown:
    """How many times slower a card is than other cards' multipliers say, and whose printed rows show it."""

    factor: float
    of: str
    interval: tuple[float, float]


_SLOWDOWNS: Mapping[tuple[str, str, str], Slowdown] = {
    ("v100", "two bytes", "inference"): Slowdown(factor=1.36, of="V100", interval=OF_THE_CHIP),
    ("t4", "two bytes", "inference"): Slowdown(factor=1.43, of="T4", interval=OF_THE_CHIP),
    ("a100", "two bytes", "inference"): Slowdown(factor=1.9, of="A100", interval=OF_THE_CHIP),
    ("HBM", "two bytes", "inference"): Slowdown(factor=1.9, of="A100", interval=OF_HBM),
    ("HBM", "tf32", "inference"): Slowdown(factor=1.0, of="A100", interval=OF_HBM),
    ("HBM", "fp32", "inference"): Slowdown(factor=1.0, of="V100", interval=OF_HBM),
    ("HBM", "two bytes", "train"): Slowdown(factor=1.25, of="V100 and A100", interval=OF_HBM),
    ("HBM", "tf32", "train"): Slowdown(factor=1.5, of="A100", interval=OF_HBM),
    ("HBM", "fp32", "train"): Slowdown(factor=1.0, of="V100", interval=OF_HBM),
}
"""By chip, else by kind of memory: the median of measured / predicted time over printed rows; 1 means no slowdown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """What a prediction is based on. `low` and `high` bound log(truth / prediction) in 80 % of cases.

    `factor` slows all work on the device, but not the host's launches. The step is never faster than `limit` says.
    """

    tier: Tier
    reason: str
    calibration: str
    multipliers: dict[str, float]
    peaks: Peaks
    low: float
    high: float
    resolution: float
    torch: str | None
    factor: float = 1.0
    limit: Basis | None = None

    def seconds(self, columns: dict[str, float], spec: Spec) -> float:
        """Seconds of a step with these columns; a column that no fit has seen keeps its prior."""
        compiled = spec.compile_mode is not None
        return sum(
            value
            * self.multipliers.get(name, prior(name, precision=spec.precision, compiled=compiled))
            * (1.0 if name == LAUNCH else self.factor)
            for name, value in columns.items()
        )


def basis_of(spec: Spec, device: DeviceSpec, calibrations: Sequence[Calibration]) -> Basis:
    """The best basis for that way of running on that card. Raises `BenchError` for a precision that the card lacks,
    and for a card older than all that are known.
    """
    peaks = peaks_of(device, spec.precision)
    calibration = best(calibrations, spec, device.key)
    if calibration is not None:
        return _basis_of_rows(calibration, device, peaks)
    if device.capability < VOLTA:
        raise BenchError(
            f"{device.key} is older than every card that rows were measured on: `run anchors` there, and `calibrate`."
        )
    basis = _basis_of_data_sheet(spec, device, peaks, calibrations)
    if spec.precision != "fp32" or device.tf32 is None:
        return basis
    # TF32 makes products faster than fp32 and changes nothing else, so fp32 is never faster.
    return replace(basis, limit=basis_of(replace(spec, precision="tf32"), device, calibrations))


@dataclass(frozen=True, slots=True, kw_only=True)
class StartingPoint:
    """Where a fit to few rows of a card starts: multipliers, and their interval for networks outside their fit."""

    multipliers: dict[str, float]
    low: float
    high: float


def starting_point(spec: Spec, device: DeviceSpec, calibrations: Sequence[Calibration]) -> StartingPoint | None:
    """The multipliers for that way of running on that card without the user's rows; None if no calibration fits."""
    calibration = best(calibrations, spec, device.key)
    others = [calibration] if calibration else _of_other_cards(calibrations, spec, device)
    if not others:
        return None
    return StartingPoint(
        multipliers=average(others), low=min(other.low for other in others), high=max(other.high for other in others)
    )


def _basis_of_rows(calibration: Calibration, device: DeviceSpec, peaks: Peaks) -> Basis:
    sister = calibration.device != device.key
    many = calibration.origin == "timm" and calibration.rows >= CALIBRATED_ROWS
    full = not sister and (many or calibration.origin == "records")
    rows = f"{calibration.rows} {'own' if calibration.origin == 'records' else calibration.origin} rows"
    card = f"{calibration.device}, a card with the same chip" if sister else "this card"
    widen = SISTER if sister else 0.0
    mean = calibration.held_out["model"].mean
    return Basis(
        tier="calibrated" if full else "anchored",
        reason=f"{rows} of {card}, torch {calibration.torch}: held-out families are {mean:.0%} off on average",
        calibration=calibration.id,
        multipliers=calibration.multipliers,
        peaks=peaks,
        low=calibration.low - widen,
        high=calibration.high + widen,
        resolution=calibration.resolution,
        torch=calibration.torch if calibration.torch[:1].isdigit() else None,
    )


def _basis_of_data_sheet(spec: Spec, device: DeviceSpec, peaks: Peaks, calibrations: Sequence[Calibration]) -> Basis:
    others = _of_other_cards(calibrations, spec, device)
    related = any(chip(other.device) == chip(device.key) for other in others)
    slowdown = None if related else _slowdown(spec, device)
    alike = related and all(other.memory_format == spec.memory_format for other in others)
    low, high = slowdown.interval if slowdown else OF_THE_CHIP if alike else DATA_SHEET
    cards = ", ".join(sorted({other.device for other in others}))
    where = f"multipliers of {cards}" if cards else "believed multipliers"
    reason = f"no rows of {device.key} for {spec.precision} {spec.memory_format} {spec.task}; {where}"
    if slowdown and slowdown.factor != 1.0:
        reason += f", slowed {slowdown.factor:.3g} times as printed rows of {slowdown.of} are"
    return Basis(
        tier="data sheet",
        reason=reason,
        calibration="+".join(other.id for other in others) or "priors",
        multipliers=_transferable(average(others), spec),
        factor=slowdown.factor if slowdown else 1.0,
        peaks=peaks if related else _sustained(peaks, device),
        low=low,
        high=high,
        resolution=RESOLUTION[spec.task],
        torch=None,
    )


def _transferable(multipliers: dict[str, float], spec: Spec) -> dict[str, float]:
    """Other cards' multipliers, without what belongs to their kernels and their release of torch alone.

    In the 3090's table (torch 1.12) the gradients of grouped convolutions in channels_last take up to seven times their
    prior. With that multiplier ResNeXts on V100 and A100 were predicted 1.5 to 2 times too slow, with the prior within
    20 %.
    """
    compiled = spec.compile_mode is not None
    return {
        name: min(value, prior(name, precision=spec.precision, compiled=compiled))
        if name.startswith("grouped.backward")
        else value
        for name, value in multipliers.items()
    }


def _of_other_cards(calibrations: Iterable[Calibration], spec: Spec, device: DeviceSpec) -> list[Calibration]:
    """Calibrations of other cards for the same task, kind of arithmetic and compiler.

    Those in the same memory format come first; of these the ones with the same chip; else timm's tables before printed
    rows, because printed rows contain what is particular to their chip.
    """
    compiled, wanted = spec.compile_mode is not None, _arithmetic(spec.precision)
    if wanted == "tf32" and spec.task == "inference" and not device.memory_type.startswith("HBM"):
        # The only TF32 rows are of an A100, and contain what makes cards with stacked memory slow.
        wanted = "two bytes"
    alike = [c for c in calibrations if (c.task, c.compiled, _arithmetic(c.precision)) == (spec.task, compiled, wanted)]
    same = [c for c in alike if c.memory_format == spec.memory_format] or alike
    own = [c for c in same if chip(c.device) == chip(device.key)]
    return own or [c for c in same if c.origin == "timm"] or same


def _arithmetic(precision: str) -> str:
    return precision if precision in ("fp32", "tf32") else "two bytes"


def _slowdown(spec: Spec, device: DeviceSpec) -> Slowdown | None:
    """The slowdown that printed rows show of that chip, else of chips with the same kind of memory.

    All printed rows ran eagerly. A slow card stays slow when compiled, but no source says by how much, so a compiled
    step gets the same factor and the widest interval.
    """
    way = (_arithmetic(spec.precision), spec.task)
    slowdown = _SLOWDOWNS.get((chip(device.key), *way)) or _SLOWDOWNS.get((device.memory_type[:3], *way))
    return replace(slowdown, interval=DATA_SHEET) if slowdown and spec.compile_mode else slowdown


def _sustained(peaks: Peaks, device: DeviceSpec) -> Peaks:
    """The tensor cores' peak lowered to the best matrix rate that others measured on that chip, where one is known."""
    shares = [
        other.achieved_bf16 / other.bf16
        for other in (device, *DEVICES)
        if chip(other.key) == chip(device.key) and other.achieved_bf16 and other.bf16
    ]
    share = shares[0] if shares else 1.0
    on_tensor_cores = peaks.single != device.fp32
    return replace(peaks, half=peaks.half * share, single=peaks.single * (share if on_tensor_cores else 1))


def refusal(trace: Trace, columns: dict[str, float], seconds: float) -> str | None:
    """Why a prediction of this step would not be worth giving, or None."""
    if seconds <= 0:
        return "it does nothing that takes time: no operator of its step moves or multiplies anything"
    if any(op.name == "torchvision.roi_align" for op in trace.operators):
        return "RoIAlign's time depends on its boxes, and no card's has been calibrated: measure detectors with `run`"
    unknown = sum(op.bytes for op in trace.operators if op.kind == "other" and op.name not in _CLASSIFIED)
    if unknown > UNKNOWN_SHARE * trace.bytes:
        return f"unclassified operators move {unknown / trace.bytes:.0%} of its bytes (allowed: 10 %)"
    launches = columns.get(LAUNCH, 0.0) / LAUNCH_SECONDS
    waiting = launches * LAUNCH_REAL * (_COMPILED_LAUNCHES if trace.spec.compile_mode else 1.0)
    if waiting > 0.5 * seconds:
        return (
            f"launch-bound: {launches:.0f} launches of 10 us are over half of {1000 * seconds:.3g} ms, so the host "
            "decides; choose a larger batch"
        )
    return None
