"""The curve of live memory as a few numbers that a record can keep: what a figure of a training step is drawn from.

A step allocates and releases thousands of times, a picture is a few hundred points wide. Every sample is the *highest*
total of an equal share of its phase's events, so the peak is always among them, and the curve is an envelope from
above. It begins where parameters and optimizer state are in place, because they are there before the step is, and ends
with the last allocation, because what is released later may be the trace itself being put away.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from visionbench.record.metrics import measurement
from visionbench.record.record import Measurement
from visionbench.tracing.live import Curve

SAMPLES: dict[str, int] = {"forward": 80, "backward": 80, "optimizer": 40}
"""At most so many of each phase: 200 in all."""


def sampled(curve: Curve) -> dict[str, tuple[int, ...]]:
    """The curve by phase, in order."""
    standing = curve.split["parameters"] + curve.split["optimizer"]
    begin = next(event for event, total in enumerate(curve.totals) if total >= standing)
    grows = (event for event in range(len(curve.totals) - 1, 0, -1) if curve.totals[event] > curve.totals[event - 1])
    starts = [max(first, begin) for first, _ in curve.phases] + [next(grows, 0) + 1]
    return {
        name: _highest(curve.totals[first:end], SAMPLES[name])
        for (_, name), first, end in zip(curve.phases, starts, starts[1:], strict=False)
        if end > first
    }


def _highest(totals: tuple[int, ...], samples: int) -> tuple[int, ...]:
    if len(totals) <= samples:
        return totals
    borders = [place * len(totals) // samples for place in range(samples + 1)]
    return tuple(max(totals[a:b]) for a, b in pairwise(borders))


def measurements(curve: Curve | None) -> Iterator[Measurement]:
    """`live_memory.forward`, `.backward`, `.optimizer`: bytes, in the order of a step. They describe (better: none)."""
    for phase, values in sampled(curve).items() if curve else ():
        yield measurement(f"live_memory.{phase}", values)
