"""What a predicted record says, read back: images per second with the 80 % interval, and what it is founded on.

Such a record holds `step_time` (s) with its 80 % interval and a `basis`, and no `throughput`: nothing that looks for a
measured number finds one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from visionbench.record.record import Record, Tier

Counter = Literal["allocated", "reserved", "process"]
"""Memory as torch's allocator hands it out, as it holds it, and as the driver counts it for the process."""

STEP_TIME = "step_time"

MEMORY_METRICS: dict[Counter, str] = {
    "allocated": "peak_memory_allocated",
    "reserved": "peak_memory_reserved",
    "process": "process_memory",
}
"""The three counters of memory, and the metrics that they are recorded as."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """Images per second: slowest and fastest of the 80 % interval, and its centre; tier, calibration and the reason.

    Two predictions of one card that differ by less than `resolution`, in the logarithm, are not told apart.
    """

    low: float
    centre: float
    high: float
    tier: Tier
    calibration: str
    reason: str
    resolution: float


def prediction(record: Record) -> Prediction | None:
    """A predicted record read back as images per second; None for a refusal or another source."""
    step, basis = record.get(STEP_TIME), record.basis
    if record.source != "predicted" or step is None or basis is None or not step.values:
        return None
    centre, low, high = step.values[0], step.low, step.high
    if not centre or not low or not high:
        return None
    return Prediction(
        low=record.spec.batch_size / high,
        centre=record.spec.batch_size / centre,
        high=record.spec.batch_size / low,
        tier=basis.tier,
        calibration=basis.calibration,
        reason=basis.reason,
        resolution=basis.resolution,
    )


def distinguishable(first: float, second: float, resolution: float) -> bool:
    """Whether two predicted times or rates differ by more than the model's own errors against each other."""
    return abs(math.log(first / second)) > resolution


def ranks(predictions: list[Prediction | None]) -> list[tuple[int, int] | None]:
    """The places that each of a card's predictions may take among them, by images per second: (best, worst).

    Only what is told apart is ordered: one more than how many are surely faster, and how many are not surely slower.
    None for a refusal, and where there is nothing to compare with.
    """
    known = [prediction for prediction in predictions if prediction is not None]
    return [None if each is None or len(known) < 2 else _rank(each, known) for each in predictions]


def _rank(ranked: Prediction, known: list[Prediction]) -> tuple[int, int]:
    apart = [
        other
        for other in known
        if distinguishable(ranked.centre, other.centre, max(ranked.resolution, other.resolution))
    ]
    faster = sum(other.centre > ranked.centre for other in apart)
    slower = sum(other.centre < ranked.centre for other in apart)
    return 1 + faster, len(known) - slower
