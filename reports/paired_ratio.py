"""A paired ratio in a table: how it reads, what may be said of it, and on which machine it was measured.

A ratio is of two runs that took turns on one core or one GPU (`visionbench.comparison.comparison`), so the machine's
moods meet both; an img/s beside it is of its hour. Four words say what was found: *faster* and *slower* where the
interval leaves 1 out, *tie* where all of it lies within 1 % of 1 (a claim: there is no effect worth having), and
*cannot tell* where it holds 1 and more than that (no claim: more launches might show an effect).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from visionbench.comparison.comparison import Comparison, First, iteration_seconds, speed_up
from visionbench.record.flags import meaning, voids_ratio
from visionbench.record.statistics import MIN_LAUNCHES
from visionbench.record.units import plural
from visionbench.reports import cells
from visionbench.reports.settings import CAUSES, device_name, printable
from visionbench.reports.table import Cell

TIE = 0.01
"""An interval within this share of 1 is a tie: a smaller effect is not worth a decision."""

CLOCKS = {"cpu": "CPU time", "wall": "the wall clock", "device": "the device's own clock"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """The comparisons that share a machine and its software, and how many of others are left out."""

    comparisons: tuple[Comparison, ...]
    left_out: int


def newest(comparisons: Sequence[Comparison]) -> Shown:
    """Those of the newest machine, software and clock; of equal ones the last."""

    def place(one: Comparison) -> tuple[str, str | None, str, str]:
        where = one.environment
        return (where.device, where.torch, one.timer, one.baseline.spec.attention)

    kept = {one.key: one for one in comparisons}.values()
    if not kept:
        return Shown(comparisons=(), left_out=0)
    last = place(max(kept, key=lambda one: one.environment.started or ""))
    found = tuple(one for one in kept if place(one) == last)
    return Shown(comparisons=found, left_out=len(kept) - len(found))


def images_per_second(one: Comparison, side: First) -> float | None:
    """The throughput of a side by the comparison's own clock."""
    seconds = iteration_seconds(one, side)
    spec = (one.baseline if side == "baseline" else one.candidate).spec
    return spec.batch_size / seconds if seconds else None


def ratio_cell(one: Comparison, notes: Sequence[str] = ()) -> Cell:
    """`×1.31 [1.29, 1.33]`, its doubts as footnotes; a failure's cause where there is no number."""
    its = speed_up(one) if one.failure is None else None
    if its is None:
        cause = CAUSES[one.failure.kind] if one.failure else "not run"
        told = (cells.sentence(printable(one.failure.message)),) if one.failure else ()
        return Cell(text=cause, source="measured", notes=told, origin=origin(one))
    few = (f"fewer than {MIN_LAUNCHES} launches, so no interval",) if its.low is None else ()
    doubts = (cells.sentence(text) for text in (*few, *doubts_of(one)))
    found = cells.measured(its, 2, tuple(note for note in (*doubts, *notes) if note), origin(one))
    return replace(found, text=f"×{found.text}")


def doubts_of(one: Comparison) -> Iterator[str]:
    """The launches' flags in words; one that a CPU clock does not see is no doubt."""
    for flag in one.flags:
        if not (flag == "noisy_env" and one.timer == "cpu"):
            yield meaning(flag)


def finding(one: Comparison) -> str:
    """What a speed-up may be said to be, in a word; nothing where there is none."""
    its = speed_up(one) if one.failure is None else None
    if its is None:
        return ""
    if any(voids_ratio(flag, one.timer) for flag in one.flags):
        return "doubtful"
    if its.low is None or its.high is None:
        return "too few launches"
    if its.low >= 1 - TIE and its.high <= 1 + TIE:
        return "tie"
    return "faster" if its.low > 1 else "slower" if its.high < 1 else "cannot tell"


def origin(one: Comparison) -> str:
    """Which comparison a number is of, exactly."""
    made = plural(len(one.launches), "launch", "launches")
    return f"{one.environment.device}; {one.baseline.spec} against {one.candidate.spec}; {made}; seed {one.seed}"


def machine(one: Comparison) -> str:
    """`CPU, 1 thread (AMD EPYC), torch 2.15.0, by CPU time, of 2026-11-22`."""
    where = one.environment
    name = f" ({printable(where.device_name)})" if where.device_type == "cpu" and where.device_name else ""
    parts = [device_name(where) + name, f"torch {where.torch or 'unknown'}"]
    parts += [f"by {CLOCKS[one.timer]}"] + ([f"of {where.started[:10]}"] if where.started else [])
    return ", ".join(parts)
