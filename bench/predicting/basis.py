"""How a prediction is founded, and when there is none.

| tier | founded on | 80 % interval |
|---|---|---|
| ratio | the same spec measured on another card, times the ratio of two predictions | 1.15 times either way |
| calibrated | 100 or more rows of this card by one protocol, or one's own anchors | of held-out families |
| anchored | rows that papers print for this card, or rows of its sister | of held-out families |
| data sheet | no row of this card run that way: others' multipliers, its own peaks | `DATA_SHEET` or narrower |
| refused | nothing: launch-bound, unknown operators, or a precision that the card lacks | |

The data-sheet interval is wide and leans to the slow side because power limits forbid what data sheets promise: four
GeForce and workstation cards predicted from each other were off by a factor common to all models with a standard
deviation of 0.21 in the logarithm, on top of the model's own.

For data-centre cards that factor is known (`_SLOWER`). GeForce tensor cores run at half rate and above the sheet's
clock, so their multipliers are below 1; V100, T4 and A100 reach less of what their sheets promise, by a factor that
hardly depends on the model: printed AMP inference rows were 1.3 to 2 times slower than predicted, with a scatter of 0.1
around that. The factors are medians of rows in `published_rows.csv` that no multiplier was fitted on, so of those rows
only the scatter is evidence; 116 rows of an H100 are, too, evidence of the factor, which is A100's there
(`validate-predictions --published` prints all of it). Training factors are of all such chips together and rougher.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from visionbench.predicting.calibration import Calibration, average, best, chip
from visionbench.predicting.features import LAUNCH, LAUNCH_SECONDS
from visionbench.predicting.peaks import Peaks, peaks_of
from visionbench.predicting.priors import prior
from visionbench.record.devices import DEVICES, DeviceSpec
from visionbench.record.record import Tier
from visionbench.record.spec import Spec, Task

if TYPE_CHECKING:
    from visionbench.tracing import Trace

CALIBRATED_ROWS = 100
DATA_SHEET = (math.log(0.7), math.log(1.65))
OF_THE_CHIP = (math.log(0.88), math.log(1.2))
"""Inference, where rows of the same chip, run in another way, say how fast it is (80 % of 82: 0.90 to 1.16)."""

OF_HBM = (math.log(0.8), math.log(1.35))
"""Where rows of another chip with stacked memory do (80 % of 116 inference rows of an H100: 0.87 to 1.18), and
for training, where those of several such chips do together (80 % of 53: 0.85 to 1.22).
"""

RESOLUTION: Mapping[Task, float] = {"inference": 0.20, "train": 0.31}
"""Of the data-sheet tier: four of five pairs of printed rows of one card and way of running err less."""

RATIO = (-math.log(1.15), math.log(1.15))
SISTER = 0.05
"""Added on both sides (log) where the rows are of another card with the same chip: its clocks and its power differ."""

UNKNOWN_SHARE = 0.10
LAUNCH_REAL = 1e-5
"""Seconds between two launches of an eager model as hosts manage them (8 to 60 us are seen), for the refusal alone."""

_COMPILED_LAUNCHES = 1 / 3
_CLASSIFIED = frozenset(("hardswish", "hardswish_", "hardsigmoid", "hardsigmoid_", "hardswish_backward"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Slower:
    """How many times slower than the multipliers of other cards a card is found, and by whose printed rows."""

    factor: float
    of: str
    interval: tuple[float, float]


_SLOWER: Mapping[tuple[str, str, str], Slower] = {
    ("v100", "two bytes", "inference"): Slower(factor=1.36, of="V100", interval=OF_THE_CHIP),
    ("t4", "two bytes", "inference"): Slower(factor=1.43, of="T4", interval=OF_THE_CHIP),
    ("a100", "two bytes", "inference"): Slower(factor=1.9, of="A100", interval=OF_THE_CHIP),
    ("HBM", "two bytes", "inference"): Slower(factor=1.9, of="A100", interval=OF_HBM),
    ("HBM", "tf32", "inference"): Slower(factor=1.0, of="A100", interval=OF_HBM),
    ("HBM", "fp32", "inference"): Slower(factor=1.0, of="V100", interval=OF_HBM),
    ("HBM", "two bytes", "train"): Slower(factor=1.25, of="V100 and A100", interval=OF_HBM),
    ("HBM", "tf32", "train"): Slower(factor=1.5, of="A100", interval=OF_HBM),
    ("HBM", "fp32", "train"): Slower(factor=1.0, of="V100", interval=OF_HBM),
}
"""By chip, else by kind of memory: measured over predicted time in `published_rows.csv`, medians; 1 is not slowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """What a prediction rests on. `low` and `high` bound log(truth / prediction) in 80 % of cases.

    `factor` slows all work on the device, and not the host's launches. `limit` is what the step cannot be faster than.
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
        """Seconds of a step with these columns; one never seen in a fit keeps what was believed of it."""
        compiled = spec.compile_mode is not None
        return sum(
            value
            * self.multipliers.get(name, prior(name, precision=spec.precision, compiled=compiled))
            * (1.0 if name == LAUNCH else self.factor)
            for name, value in columns.items()
        )


def basis(spec: Spec, device: DeviceSpec, calibrations: Sequence[Calibration]) -> Basis:
    """The best there is for that way of running on that card. Raises `BenchError` for a precision that it lacks."""
    peaks = peaks_of(device, spec.precision)
    found = best(calibrations, spec, device.key)
    if found is not None:
        return _of_rows(found, device, peaks)
    return replace(_of_sheet(spec, device, peaks, calibrations), limit=_limit(spec, device, calibrations))


def _limit(spec: Spec, device: DeviceSpec, calibrations: Sequence[Calibration]) -> Basis | None:
    """TF32 makes products faster than fp32 and changes nothing else, so fp32 is never the faster of the two."""
    if spec.precision != "fp32" or device.tf32 is None:
        return None
    return basis(replace(spec, precision="tf32"), device, calibrations)


@dataclass(frozen=True, slots=True, kw_only=True)
class Belief:
    """What few rows of a card start from: multipliers, and the interval of networks that these were not fitted on."""

    multipliers: dict[str, float]
    low: float
    high: float


def believed(spec: Spec, device: DeviceSpec, calibrations: Sequence[Calibration]) -> Belief | None:
    """What is believed of that way of running on that card without rows of one's own; None where nothing is."""
    found = best(calibrations, spec, device.key)
    others = [found] if found else _neighbours(calibrations, spec, device)
    if not others:
        return None
    return Belief(multipliers=average(others), low=min(one.low for one in others), high=max(one.high for one in others))


def _of_rows(found: Calibration, device: DeviceSpec, peaks: Peaks) -> Basis:
    sister = found.device != device.key
    many = found.origin == "timm" and found.rows >= CALIBRATED_ROWS
    full = not sister and (many or found.origin == "records")
    rows = f"{found.rows} {'own' if found.origin == 'records' else found.origin} rows"
    of = f"{found.device}, a card with the same chip" if sister else "this card"
    widen = SISTER if sister else 0.0
    mean = found.held_out["model"].mean
    return Basis(
        tier="calibrated" if full else "anchored",
        reason=f"{rows} of {of}, torch {found.torch}: held-out families are {mean:.0%} off on average",
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
    related = any(chip(other.device) == chip(device.key) for other in others)
    slower = None if related else _slower(spec, device)
    alike = related and all(other.memory_format == spec.memory_format for other in others)
    low, high = slower.interval if slower else OF_THE_CHIP if alike else DATA_SHEET
    return Basis(
        tier="data sheet",
        reason=_why(spec, device, others, slower),
        calibration="+".join(other.id for other in others) or "priors",
        multipliers=_carried_over(average(others), spec),
        factor=slower.factor if slower else 1.0,
        peaks=peaks if related else _sustained(peaks, device),
        low=low,
        high=high,
        resolution=RESOLUTION[spec.task],
        torch=None,
    )


def _carried_over(multipliers: dict[str, float], spec: Spec) -> dict[str, float]:
    """The multipliers of other cards, but for kernels that were theirs and their release's alone.

    In the 3090's table (torch 1.12) the gradients of grouped convolutions in channels_last take up to seven times what
    is believed; carried over, ResNeXts on V100 and A100 came out 1.5 to 2 times too slow, as believed within 20 %.
    """
    compiled = spec.compile_mode is not None
    return {
        name: min(value, prior(name, precision=spec.precision, compiled=compiled))
        if name.startswith("grouped.backward")
        else value
        for name, value in multipliers.items()
    }


def _why(spec: Spec, device: DeviceSpec, others: Sequence[Calibration], slower: Slower | None) -> str:
    where = (
        f"multipliers of {', '.join(sorted({other.device for other in others}))}" if others else "believed multipliers"
    )
    reason = f"no rows of {device.key} for {spec.precision} {spec.memory_format} {spec.task}; {where}"
    if slower is None or slower.factor == 1.0:
        return reason
    return f"{reason}, slowed {slower.factor:.3g} times as printed rows of {slower.of} are"


def _neighbours(calibrations: Iterable[Calibration], spec: Spec, device: DeviceSpec) -> list[Calibration]:
    """Calibrations of other cards for the same task, kind of arithmetic and compiler.

    Of those in the same memory format, if any, the chip's own, else tables before printed rows: these hold what is
    their chip's.
    """
    compiled, wanted = spec.compile_mode is not None, _arithmetic(spec.precision)
    if wanted == "tf32" and spec.task == "inference" and not _stacked(device):
        # The TF32 rows there are of an A100, and hold what makes cards with stacked memory slow.
        wanted = "two bytes"
    alike = [c for c in calibrations if (c.task, c.compiled, _arithmetic(c.precision)) == (spec.task, compiled, wanted)]
    same = [c for c in alike if c.memory_format == spec.memory_format] or alike
    own = [c for c in same if chip(c.device) == chip(device.key)]
    return own or [c for c in same if c.origin == "timm"] or same


def _stacked(device: DeviceSpec) -> bool:
    return device.memory_type.startswith("HBM")


def _arithmetic(precision: str) -> str:
    return precision if precision in ("fp32", "tf32") else "two bytes"


def _slower(spec: Spec, device: DeviceSpec) -> Slower | None:
    """What printed rows of that chip, else of chips with the same kind of memory, say of all multipliers at once.

    All of those ran eagerly. What makes a card slow does not end with compiling, but nobody has printed how much of it
    stays: the same factor, and the wide interval.
    """
    way = (_arithmetic(spec.precision), spec.task)
    found = _SLOWER.get((chip(device.key), *way)) or _SLOWER.get((device.memory_type[:3], *way))
    return found and (replace(found, interval=DATA_SHEET) if spec.compile_mode else found)


def _sustained(peaks: Peaks, device: DeviceSpec) -> Peaks:
    """The tensor cores' peak lowered to the best matrix rate that others measured on that chip, where one is known."""
    shares = [
        other.achieved_bf16 / other.bf16
        for other in (device, *DEVICES)
        if chip(other.key) == chip(device.key) and other.achieved_bf16 and other.bf16
    ]
    if not shares:
        return peaks
    share = shares[0]
    on_tensor_cores = peaks.single != device.fp32
    return replace(peaks, half=peaks.half * share, single=peaks.single * (share if on_tensor_cores else 1))


def refusal(trace: Trace, columns: dict[str, float], seconds: float) -> str | None:
    """Why no number is better than this one, or None."""
    if seconds <= 0:
        return "it does nothing that takes time: no operator of its step moves or multiplies anything"
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
