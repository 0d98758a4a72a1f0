"""How training scales over the processes of a launch, from its blocks in turns (`alone_time` and the others).

All are quotients within a round, whose blocks follow each other, so what drifts over a launch cancels; a launch's value
is the median of its rounds, and an interval is over launches (`statistics.over_launches`).
"""

from __future__ import annotations

from statistics import median

from visionbench.record.record import Record
from visionbench.record.statistics import images_per_second


def images_per_second_of_all(record: Record) -> float | None:
    """The rate of all processes of a launch: each has its batch. None for one process, or without a rate."""
    rate = images_per_second(record)
    return None if rate is None or record.spec.processes is None else record.spec.processes * rate


def scaling_efficiency(record: Record) -> float | None:
    """Images per second of N processes over N times those of one; the batch is per process. None without the blocks."""
    return _quotient(record, "alone_time", "throughput")


def communication_efficiency(record: Record) -> float | None:
    """Time of a step that exchanges no gradients over that of one that does. None without the blocks."""
    return _quotient(record, "unsynchronised_time", "throughput")


def exposed_seconds(record: Record) -> float | None:
    """Seconds that exchanging gradients adds to a step: what computing does not hide. None without the blocks.

    It may come out below zero where that is nothing.
    """
    rounds = _rounds(record, "throughput", "unsynchronised_time")
    return median(together - without for together, without in rounds) if rounds else None


def slowest_rank(record: Record) -> tuple[int, float] | None:
    """The rank that takes longest where none waits for another, and how many times the median rank's time it takes."""
    times: list[float] = []
    while (measured := record.get(f"rank_time.{len(times)}")) is not None and measured.values:
        times.append(median(measured.values))
    if len(times) < 2:
        return None
    slowest = max(range(len(times)), key=times.__getitem__)
    return slowest, times[slowest] / median(times)


def _quotient(record: Record, above: str, below: str) -> float | None:
    rounds = _rounds(record, above, below)
    return median(first / second for first, second in rounds) if rounds else None


def _rounds(record: Record, first: str, second: str) -> list[tuple[float, float]]:
    """Seconds of a step by both metrics, round by round; nothing where their blocks are not of the same rounds."""
    above, below = record.get(first), record.get(second)
    if above is None or below is None or len(above.values) != len(below.values):
        return []
    pairs = zip(above.values, below.values, strict=True)
    return [(a / above.iterations, b / below.iterations) for a, b in pairs if a > 0 and b > 0]
