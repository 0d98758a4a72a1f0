"""Which launch comes next, and when to stop: the order of a sweep, its budgets and its stopping rule.

A sweep that is cut off should have measured every row once before any row twice, so launches go round by round.
With a target for the interval, rounds go on for the rows that have not reached it; the rule looks at the interval's
width alone, never at what a comparison would say, because stopping when something becomes significant triples false
alarms.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from visionbench.record.record import Record
from visionbench.record.spec import Protocol, Spec
from visionbench.record.statistics import throughput

MAX_LAUNCHES = 20
"""Launches after which a row's interval is what it is, however wide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Seconds after which no launch is started any more: of the whole sweep, and of one row. None is no limit."""

    total: float | None = None
    row: float | None = None


class Agenda:
    """The launches of a sweep, handed out one at a time to one or several workers (one per GPU).

    `missing` are the launches that the protocol still wants, in order; `rows` are the specs that a target for the
    interval is about, and `done` the records of earlier sweeps that count towards it.
    """

    def __init__(
        self,
        missing: Sequence[Spec],
        rows: Sequence[Spec],
        done: Iterable[Record],
        protocol: Protocol,
        budget: Budget,
        now: Callable[[], float] | None = None,
    ) -> None:
        self._queue = deque(missing)
        self._rows = tuple(rows)
        self._protocol, self._budget, self._now = protocol, budget, now or time.monotonic
        self._records: dict[Spec, list[Record]] = {}
        self._spent: dict[Spec, float] = {}
        self._out: set[Spec] = set()
        self._failed: set[Spec] = set()
        self._start = self._now()
        self._lock = threading.Lock()
        self.cut_off = False
        for record in done:
            self._records.setdefault(record.spec, []).append(record)

    def take(self) -> Spec | None:
        """The next launch, or None: nothing is left, or the time is up (`cut_off`)."""
        with self._lock:
            if not self.left:
                self._queue.extend(self._imprecise())
            spec = next((spec for spec in self._queue if self._may(spec)), None)
            if spec is None:
                return None
            if self._over(self._budget.total, self._now() - self._start):
                self.cut_off = True
                return None
            self._queue.remove(spec)
            self._out.add(spec)
            return spec

    def give(self, spec: Spec, record: Record, seconds: float) -> None:
        """A launch has ended after so many seconds."""
        with self._lock:
            self._out.discard(spec)
            self._records.setdefault(spec, []).append(record)
            self._spent[spec] = self._spent.get(spec, 0.0) + seconds
            if record.failure is not None:  # what did not fit, crashed or hung would again, and a hang costs minutes
                self._failed.add(spec)

    def put_back(self, spec: Spec) -> None:
        """A launch was taken and not made."""
        with self._lock:
            self._out.discard(spec)
            self._queue.appendleft(spec)

    @property
    def left(self) -> int:
        """Launches that are still wanted and may still be made."""
        return sum(self._may(spec) for spec in self._queue)

    @property
    def not_made(self) -> int:
        """Launches that were wanted and not made."""
        return len(self._queue)

    def _may(self, spec: Spec) -> bool:
        return spec not in self._failed and not self._over(self._budget.row, self._spent.get(spec, 0.0))

    @staticmethod
    def _over(limit: float | None, spent: float) -> bool:
        return limit is not None and spent >= limit

    def _imprecise(self) -> list[Spec]:
        """One more round for the rows whose interval is wider than the protocol's target."""
        target = self._protocol.target_rel_ci
        if target is None:
            return []
        rows = [spec for spec in self._rows if spec not in self._out and self._may(spec)]
        return [spec for spec in rows if not precise(self._records.get(spec, []), target)]


def precise(launches: Sequence[Record], target: float) -> bool:
    """Whether half of the throughput's interval is at most `target` of its centre, or `MAX_LAUNCHES` have been made."""
    if len(launches) >= MAX_LAUNCHES:
        return True
    estimate = throughput(launches)
    if estimate is None or estimate.low is None or estimate.high is None:
        return False
    return (estimate.high - estimate.low) / 2 <= target * estimate.centre
