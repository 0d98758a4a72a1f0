"""What a predicted record says, read back: images per second with the 80 % interval, and what it is founded on.

Such a record holds `step_time` (s) with `.low80` and `.high80` beside it, and no `throughput`: nothing that looks for
a measured number finds one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, cast, get_args

from visionbench.record.errors import choose
from visionbench.record.record import Record

Counter = Literal["allocated", "reserved", "process"]
"""Memory as torch's allocator hands it out, as it holds it, and as the driver counts it for the process."""

Tier = Literal["ratio", "calibrated", "anchored", "data sheet", "refused"]

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
    found = record.get(STEP_TIME)
    slow, centre, fast = (record.value(STEP_TIME + suffix) for suffix in (".high80", "", ".low80"))
    if record.source != "predicted" or found is None or not slow or not centre or not fast:
        return None
    facts = dict(flag.split(":", 1) for flag in found.flags)
    return Prediction(
        low=record.spec.batch_size / slow,
        centre=record.spec.batch_size / centre,
        high=record.spec.batch_size / fast,
        tier=cast(Tier, choose("tier", facts["tier"], get_args(Tier))),
        calibration=facts["calibration"],
        reason=found.warnings[0] if found.warnings else "",
        resolution=float(facts["resolution"]),
    )


def distinguishable(first: float, second: float, resolution: float) -> bool:
    """Whether two predicted times or rates differ by more than the model's own errors against each other."""
    return abs(math.log(first / second)) > resolution


def ranks(found: list[Prediction | None]) -> list[tuple[int, int] | None]:
    """The places that each of a card's predictions may take among them, by images per second: (best, worst).

    Only what is told apart is ordered: one more than how many are surely faster, and how many are not surely slower.
    None for a refusal, and where there is nothing to compare with.
    """
    there = [one for one in found if one is not None]
    return [None if one is None or len(there) < 2 else _rank(one, there) for one in found]


def _rank(one: Prediction, there: list[Prediction]) -> tuple[int, int]:
    apart = [
        other for other in there if distinguishable(one.centre, other.centre, max(one.resolution, other.resolution))
    ]
    faster = sum(other.centre > one.centre for other in apart)
    slower = sum(other.centre < one.centre for other in apart)
    return 1 + faster, len(there) - slower
