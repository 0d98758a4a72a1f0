"""A paired ratio in a table: how it reads, what may be said of it, and on which machine it was measured.

A ratio is of two runs that took turns on one core or one GPU (`visionbench.comparison.comparison`), so drift in the
machine affects both; an img/s beside it is of its hour. Four words say what was found: *faster* and *slower* where the
interval leaves 1 out, *tie* where all of it is within 1 % of 1 (a claim: there is no effect worth having), and
*cannot tell* where it holds 1 and more than that (no claim: more launches might show an effect).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from visionbench.comparison.comparison import (
    TIMER_WORDS,
    Comparison,
    First,
    counted,
    is_doubtful,
    iteration_seconds,
    speed_up,
)
from visionbench.comparison.switches import ABOUT
from visionbench.record.clean import clean
from visionbench.record.flags import meaning
from visionbench.record.units import plural
from visionbench.reports import cells
from visionbench.reports.cells import CAUSES
from visionbench.reports.settings import device_name
from visionbench.reports.table import Cell

TIE = 0.01
"""An interval within this share of 1 is a tie: a smaller effect is not worth a decision."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """The comparisons that share a machine and its software, and how many of others are left out."""

    comparisons: tuple[Comparison, ...]
    left_out: int


def newest(comparisons: Sequence[Comparison]) -> Shown:
    """Those of the newest machine, software and clock; of equal ones the last."""

    def place(comparison: Comparison) -> tuple[str, str | None, str, str]:
        where = comparison.environment
        return (where.device, where.torch, comparison.timer, comparison.baseline.spec.attention)

    kept = {comparison.key: comparison for comparison in comparisons}.values()
    if not kept:
        return Shown(comparisons=(), left_out=0)
    last = place(max(kept, key=lambda comparison: comparison.environment.started or ""))
    found = tuple(comparison for comparison in kept if place(comparison) == last)
    return Shown(comparisons=found, left_out=len(kept) - len(found))


def heading(switch: str) -> str:
    """A switch's name and what it is: the heading of its comparisons."""
    return f"{switch}: {ABOUT[switch]}"


def images_per_second(comparison: Comparison, side: First) -> float | None:
    """The throughput of a side by the comparison's own clock."""
    seconds = iteration_seconds(comparison, side)
    batch: int = getattr(comparison, side).spec.batch_size
    return batch / seconds if seconds else None


def ratio_cell(comparison: Comparison, notes: Sequence[str] = ()) -> Cell:
    """`×1.31 [1.29, 1.33]`, its doubts as footnotes; a failure's cause where there is no number."""
    failure = comparison.failure
    ratio = speed_up(comparison) if failure is None else None
    if ratio is None:
        cause = CAUSES[failure.kind] if failure else "not run"
        reason = (cells.sentence(clean(failure.message)),) if failure else ()
        origin = cells.origin_of(comparison)
        return Cell(text=cause, source="measured", notes=reason, origin=origin, evidence=comparison)
    doubts = (cells.sentence(text) for text in (*cells.few(ratio), *doubts_of(comparison)))
    cell = cells.measured(ratio, 2, [note for note in (*doubts, *notes) if note], comparison)
    return replace(cell, text=f"×{cell.text}")


def doubts_of(comparison: Comparison) -> Iterator[str]:
    """The launches' flags in words, and how many launches were left out; what a CPU clock does not see is no doubt."""
    total, left_out = len(comparison.launches), len(comparison.launches) - len(counted(comparison))
    if left_out:
        yield f"{left_out} of {plural(total, 'launch', 'launches')} left out of the ratio"
    for flag in comparison.flags:
        if not (flag == "noisy_env" and comparison.timer == "cpu"):
            yield meaning(flag)


def finding(comparison: Comparison) -> str:
    """What a speed-up may be said to be, in a word; nothing without one."""
    ratio = speed_up(comparison) if comparison.failure is None else None
    if ratio is None:
        return ""
    if is_doubtful(comparison):
        return "doubtful"
    if ratio.low is None or ratio.high is None:
        return "too few launches"
    if ratio.low >= 1 - TIE and ratio.high <= 1 + TIE:
        return "tie"
    return "faster" if ratio.low > 1 else "slower" if ratio.high < 1 else "cannot tell"


def machine(comparison: Comparison) -> str:
    """`CPU, 1 thread (AMD EPYC), torch 2.15.0, by CPU time, of 2026-11-22`."""
    where = comparison.environment
    name = f" ({clean(where.device_name)})" if where.device_type == "cpu" and where.device_name else ""
    parts = [device_name(where) + name, f"torch {where.torch or 'unknown'}"]
    parts += [f"by {TIMER_WORDS[comparison.timer]}"] + ([f"of {where.started[:10]}"] if where.started else [])
    return ", ".join(parts)
