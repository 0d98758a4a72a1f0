"""What comparing two files of recorded numbers came to: one entry per number, its word, and the exit code.

A comparison of stored times is information, never a verdict: the two sides ran in different jobs, and what the machine
did differently in between is in the difference. Only what no machine can move has consequences: an exact count that
changed, a row that is gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from visionbench.comparison.verdict import NOT_MEASURED, OK, REGRESSED
from visionbench.record.fingerprint import Difference
from visionbench.record.record import Better
from visionbench.record.statistics import Estimate

Found = Literal[
    "equal", "changed", "apart", "overlapping", "no interval", "vanished", "new", "failed", "not comparable"
]
"""`equal` and `changed` are of exact counts. `apart`: the two 95 % intervals have no value in common; `overlapping`:
they have, which does not show that the sides are alike; `no interval`: a side has too few launches for one. `vanished`
is of the baseline only, `new` of the candidate only, `failed`: neither side has a number."""

COMPARED: tuple[Found, ...] = ("equal", "changed", "apart", "overlapping", "no interval")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One side's number: over its launches, with `flags` that doubt it and how many launches `failed` beside them.

    `spread` are the quartiles of a single process's rounds, where that is all there is; it is no interval.
    """

    estimate: Estimate
    spread: tuple[float, float] | None = None
    flags: tuple[str, ...] = ()
    failed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One number of one row, on both sides; or a whole row (`metric` is "") that has no number to compare.

    `row` is the spec in words or a benchmark's full name, `subject` the model or that name. `cost` is the candidate's
    over the baseline's, as a cost whatever the metric, or None: above 1 is worse (for images/s it is the ratio of
    times). `differences` say why a row is `not comparable`, `reason` why it has vanished. `among` tells it from others
    of the same row, on other machines: `threads 16`.
    """

    row: str
    subject: str
    source: str
    word: Found
    metric: str = ""
    unit: str = ""
    better: Better = "none"
    baseline: Recorded | None = None
    candidate: Recorded | None = None
    cost: float | None = None
    differences: tuple[Difference, ...] = ()
    reason: str = ""
    among: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where one side's numbers come from. `started` are its first and last launch (ISO 8601), () where unknown.

    `commits` are full hashes, in order of appearance; `dirty`: some of it was measured with uncommitted changes.
    """

    label: str
    launches: int
    started: tuple[str, ...] = ()
    commits: tuple[str, ...] = ()
    dirty: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredComparison:
    """All that a comparison of two files found out."""

    baseline: Provenance
    candidate: Provenance
    entries: tuple[Entry, ...] = ()

    def having(self, *words: Found) -> tuple[Entry, ...]:
        """The entries of those words, in order."""
        return tuple(entry for entry in self.entries if entry.word in words)


def exit_code(compared: StoredComparison) -> int:
    """4 where nothing could be compared; 1 where an exact count changed or a row vanished; 4 where a row was refused.

    Otherwise 0, however far apart the times are: no stored time is a gate.
    """
    if not compared.having(*COMPARED):
        return NOT_MEASURED
    if compared.having("changed", "vanished"):
        return REGRESSED
    return NOT_MEASURED if compared.having("not comparable") else OK
