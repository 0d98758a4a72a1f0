"""What a predicted record says, read back: images per second with the 80 % interval, and what it is founded on.

Such a record holds `step_time` (s) with its interval, a basis, and no `throughput`: nothing that looks for a measured
number finds one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from visionbench.record.record import Record, Tier

Counter = Literal["allocated", "reserved", "process"]
"""Memory as torch's allocator hands it out, as it holds it, and as the driver counts it for the process."""

STEP_TIME = "step_time"

LEVEL = 0.8
"""How often a prediction's interval is to hold the truth."""

MEMORY_METRICS: dict[Counter, str] = {
    "allocated": "peak_memory_allocated",
    "reserved": "peak_memory_reserved",
    "process": "process_memory",
}
"""The three counters of memory, and the metrics that they are recorded as."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """Images per second: slowest and fastest of the 80 % interval, and its centre; and the record's `Basis`."""

    low: float
    centre: float
    high: float
    tier: Tier
    calibration: str
    reason: str
    resolution: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Errors |predicted / measured - 1| of a step's time over `rows`, as shares.

    `rank` is Spearman's correlation of the times per image, None where all of these are equal. `coverage` is the share
    of rows inside the 80 % interval that the other families make; None where it was not computed.
    """

    rows: int
    families: int
    mean: float
    median: float
    p90: float
    rank: float | None
    coverage: float | None = None


def prediction(record: Record) -> Prediction | None:
    """A predicted record read back as images per second; None for a refusal or another source."""
    step_time, basis = record.get(STEP_TIME), record.basis
    if record.source != "predicted" or basis is None or step_time is None or not step_time.values:
        return None
    slow, centre, fast = step_time.high, step_time.values[0], step_time.low
    if not slow or not centre or not fast:
        return None
    return Prediction(
        low=record.spec.batch_size / slow,
        centre=record.spec.batch_size / centre,
        high=record.spec.batch_size / fast,
        tier=basis.tier,
        calibration=basis.calibration,
        reason=basis.reason,
        resolution=basis.resolution,
    )


def distinguishable(first: float, second: float, resolution: float) -> bool:
    """Whether two predicted times or rates differ by more than the model's typical error between two rows."""
    return abs(math.log(first / second)) > resolution


def ranks(predictions: list[Prediction | None]) -> list[tuple[int, int] | None]:
    """The places that each of a card's predictions may take among them, by images per second: (best, worst).

    Only what can be told apart is ordered: one more than how many are surely faster, and how many are not surely
    slower. None for a refusal, and where there is nothing to compare with.
    """
    known = [prediction for prediction in predictions if prediction is not None]
    return [None if one is None or len(known) < 2 else _rank(one, known) for one in predictions]


def _rank(ranked: Prediction, known: list[Prediction]) -> tuple[int, int]:
    apart = [
        other for other in known
        if distinguishable(ranked.centre, other.centre, max(ranked.resolution, other.resolution))
    ]  # fmt: skip
    faster = sum(other.centre > ranked.centre for other in apart)
    slower = sum(other.centre < ranked.centre for other in apart)
    return 1 + faster, len(known) - slower
