"""What the history of a number shows: its sessions, and where its level moved. A trend is read, never a gate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from visionbench.record.record import Better

Course = Literal["steady", "shifted", "too short"]
"""`steady`: no change of level could be shown, which is not the same as none. `too short`: too few sessions to tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Launches of one row that were made together: `value` is their median. ISO 8601; `commit` is the full hash."""

    started: str
    value: float
    launches: int
    commit: str | None = None
    dirty: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """A change of level between the sessions `place - 1` and `place` of a series.

    `before` and `after` are the medians of the levels on either side, up to the neighbouring shifts or the ends, over
    `sessions` sessions each. `cost` is after over before, as a cost: above 1 is worse; None from zero. The change may
    as well lie at any place from `earliest` to `latest` (a 95 % set, if sessions are independent). `p` is of its test.
    """

    place: int
    earliest: int
    latest: int
    before: float
    after: float
    cost: float | None
    sessions: tuple[int, int]
    p: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One number of one row on one fingerprint, session after session, and its shifts in order."""

    row: str
    subject: str
    metric: str
    unit: str
    better: Better
    device: str
    fingerprint: str
    course: Course
    sessions: tuple[Session, ...]
    shifts: tuple[Shift, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """All series. `undated` launches could not be placed in time. `alpha` is the level of one series' test, `fdr` the
    share of false ones that is allowed among the series called shifted; fewer than `shortest` sessions are not judged.
    """

    series: tuple[Series, ...]
    alpha: float
    fdr: float
    shortest: int
    undated: int = 0
