"""What `run --processes N` measured, as columns of the table of runs, and the sentence that its title gets.

Weak scaling: each process has its batch. The quotients are of one launch, whose blocks take turns
(`visionbench.record.efficiency`); intervals are over launches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from visionbench.record.efficiency import (
    communication_efficiency,
    exposed_seconds,
    images_per_second_of_all,
    scaling_efficiency,
    slowest_rank,
)
from visionbench.record.record import Record
from visionbench.record.statistics import Estimate, over_launches

TITLE = "Measured; of several processes: weak scaling, the batch and img/s are each process's"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """One of the columns: in base units, and what it means; `rank` as a column's."""

    key: str
    head: str
    unit: Literal["1/s", "s", "1"]
    of: Callable[[Sequence[Record]], Estimate | None]
    note: str
    rank: int
    spans: bool = True


def _over(value: Callable[[Record], float | None]) -> Callable[[Sequence[Record]], Estimate | None]:
    return lambda launches: over_launches(launches, value)


def _exposed(launches: Sequence[Record]) -> Estimate | None:
    """The median of the launches: it may be zero or less, so it has no logarithm and no interval."""
    values = [seconds for record in launches if (seconds := exposed_seconds(record)) is not None]
    return Estimate(centre=median(values), low=None, high=None, launches=len(values)) if values else None


QUANTITIES: tuple[Quantity, ...] = (
    Quantity(
        key="images_per_second_of_all",
        head="img/s of all",
        unit="1/s",
        of=_over(images_per_second_of_all),
        note="images per second of all processes, by the time of the slowest.",
        rank=3,
    ),
    Quantity(
        key="scaling_efficiency",
        head="scaling",
        unit="1",
        of=_over(scaling_efficiency),
        note="the rate of N processes over N times that of one of them alone, in turns within a launch.",
        rank=1,
    ),
    Quantity(
        key="communication_efficiency",
        head="communication",
        unit="1",
        of=_over(communication_efficiency),
        note="time of a step under no_sync over that of a step, in turns within the same processes.",
        rank=2,
    ),
    Quantity(
        key="exposed",
        head="exposed",
        unit="s",
        of=_exposed,
        note="what exchanging gradients adds to a step; below zero where that is less than the noise.",
        rank=5,
        spans=False,
    ),
    Quantity(
        key="slowest_rank",
        head="slowest rank",
        unit="1",
        of=_over(lambda record: rank[1] if (rank := slowest_rank(record)) else None),
        note="its time over the median rank's, where no rank waits for another (under no_sync).",
        rank=6,
        spans=False,
    ),
)
