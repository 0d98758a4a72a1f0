"""The gate: launches of a duet until there are enough, or the budget is spent; then the verdicts.

How many launches is decided by the clock and by what was asked for, never by how the ratios look: a test that is tried
until it succeeds succeeds too often (with a look after each launch, three times as often as it says). Rows that did
not come out ok are looked at once more, and each look gets half of the error that the rule allows. The second look
takes as many launches again, and up to three times as many where the launches scatter or remember each other: that is
read from the width of their interval, which says nothing about its place.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from visionbench.comparison.comparison import Comparison, Launch, log_ratios
from visionbench.comparison.verdict import Rule, Verdict
from visionbench.judging.duet import Broken, Row, Stage, answers, is_gone, launch
from visionbench.judging.verdict import judge, launches_needed, needs_second_look
from visionbench.record.record import Environment
from visionbench.record.statistics import MIN_LAUNCHES, spread_of_memory

LAUNCHES = 10

MOST_MORE = 3
"""The second look takes at most so many times the launches of the first."""

NARROW = 0.0095
"""Half of the interval's width, on the logarithm, that the second look should leave.

+5 % is then eight standard errors above a margin of 1 %, more than twice what `movement` asks of launches that do
not move. By simulation, see tests/judge/test_judge_power.py.
"""


class Progress(Protocol):
    """Receives the gate's progress."""

    def launched(self, done: int, planned: int, rows: int, seconds_left: float) -> None:
        """A launch has ended; this look takes about so many seconds more."""


FAR = math.log1p(2 * Rule().limit)
"""A change of which all of the interval is beyond this, on the logarithm, is no close call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long to measure: `launches` per look, `budget` in seconds for all (None: no end), and the `seed`."""

    launches: int = LAUNCHES
    budget: float | None = None
    seed: int = 0


def drawn(seed: int | None) -> int:
    """The seed that was asked for, or one from the system, so that no two measurements share their orders."""
    return random.SystemRandom().randrange(2**31) if seed is None else seed


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was measured and what it came to; `rule` is the one that was applied.

    `cut_short`: the budget ended before all launches were made; `looked_at` of them made the first look. `lost`: the
    GPU fell off the bus before the end, and what that broke is no row's failure.
    """

    comparisons: tuple[Comparison, ...]
    verdicts: tuple[Verdict, ...]
    rule: Rule
    cut_short: bool
    looked_at: int = 0
    lost: bool = False


def gate(
    rows: Sequence[Row],
    stage: Stage,
    environment: Environment,
    plan: Plan,
    rule: Rule,
    keep: Callable[[Sequence[Comparison]], None] = lambda _: None,
    progress: Progress | None = None,
) -> Outcome:
    """Measure all rows and judge them. `keep` gets everything measured so far after every launch."""
    duet = _Duet(rows, stage, environment, plan, keep, progress)
    duet.play({row.name: plan.launches for row in rows})
    looked_at = duet.made
    # Settled before anything is judged: a second look costs half of the error, and must be paid for in advance.
    enough = plan.launches >= launches_needed(rule, len(rows))
    rule = replace(rule, looks=rule.looks if enough and duet.time_is_left else 1)
    if rule.looks != duet.looks:
        duet.looks = rule.looks
        keep(duet.comparisons())
    verdicts = judge(duet.comparisons(), rule, looks={})
    again = needs_second_look(verdicts) if rule.looks > 1 and not duet.lost else ()
    if again:
        more = more_launches(verdicts, plan.launches)
        duet.play({name: more[name] for name in again})
        verdicts = judge(duet.comparisons(), rule, looks=dict.fromkeys(again, 2))
    return Outcome(
        comparisons=duet.comparisons(),
        verdicts=verdicts,
        rule=rule,
        cut_short=duet.cut_short,
        looked_at=looked_at,
        lost=duet.lost,
    )


def more_launches(verdicts: Sequence[Verdict], launches: int) -> dict[str, int]:
    """How many launches the second look takes, by the row's name: `launches` to `MOST_MORE` times as many.

    An interval narrows with the root of the launches, so (width now / width wanted)^2 times as many are needed in all.
    What is wholly beyond `FAR` needs no narrow interval: it is looked at as long as it was.
    """
    more = {}
    for verdict in verdicts:
        ratio, factor = verdict.ratio, 1
        if ratio is not None and ratio.low is not None and ratio.high is not None:
            half = math.log(ratio.high / ratio.low) / 2
            logs = log_ratios(verdict.comparison)
            # So few launches are not widened for memory yet (`FEWEST_FOR_MEMORY`), those of the second look will be.
            half *= spread_of_memory(logs, MIN_LAUNCHES) / spread_of_memory(logs)
            if abs(math.log(ratio.centre)) - half <= FAR:
                factor = min(max(math.ceil((half / NARROW) ** 2) - 1, 1), MOST_MORE)
        more[verdict.comparison.name] = launches * factor
    return more


class _Duet:
    """The launches so far, by row, and the time that they took."""

    def __init__(
        self,
        rows: Sequence[Row],
        stage: Stage,
        environment: Environment,
        plan: Plan,
        keep: Callable[[Sequence[Comparison]], None],
        progress: Progress | None,
    ) -> None:
        self._rows, self._stage, self._environment, self._plan = rows, stage, environment, plan
        self._keep, self._progress = keep, progress
        self._rng = random.Random(plan.seed)  # noqa: S311  # orders and cores, no secrets
        self._launches: dict[str, list[Launch]] = {row.name: [] for row in rows}
        self._broken: dict[str, Broken] = {}
        self._begun, self._longest = time.monotonic(), 0.0
        self.cut_short, self.looks, self.made, self.lost = False, 2, 0, False

    @property
    def time_is_left(self) -> bool:
        """Whether the budget, if there is one, lasts for another launch as long as the longest so far."""
        spent = time.monotonic() - self._begun
        return self._plan.budget is None or spent + self._longest <= self._plan.budget

    def play(self, planned: Mapping[str, int]) -> None:
        """One look: so many launches of these rows, by name, or as many as there is time for."""
        most = max(planned.values(), default=0)
        answered = answers(self._stage.device)
        for number in range(1, most + 1):
            rows = [row for row in self._rows if planned.get(row.name, 0) >= number and row.name not in self._broken]
            if not rows:
                return
            if not self.time_is_left:
                self.cut_short = True
                return
            began = time.monotonic()
            played = launch(rows, self._stage, self._rng)
            self.lost = is_gone(played.values(), self._stage.device, answered)
            for name, came_of_it in played.items():
                if isinstance(came_of_it, Launch):
                    self._launches[name].append(came_of_it)
                elif not self.lost:  # and it is not tried again: a row that fails once is no row to trust
                    self._broken[name] = came_of_it
            if self.lost:
                self._keep(self.comparisons())
                return
            self.made += 1
            self._longest = max(time.monotonic() - began, self._longest if number > 1 else 0.0)
            self._keep(self.comparisons())
            if self._progress is not None:
                seconds_left = (most - number) * (time.monotonic() - began)
                self._progress.launched(number, most, len(rows), seconds_left)

    def comparisons(self) -> tuple[Comparison, ...]:
        """Everything measured so far, a comparison per row."""
        comparisons = []
        for row in self._rows:
            broken = self._broken.get(row.name)
            comparison = Comparison(
                name=row.name,
                baseline=row.baseline,
                candidate=row.candidate,
                environment=self._environment,
                timer=self._stage.timer,
                seed=self._plan.seed,
                looks=self.looks,
                launches=tuple(self._launches[row.name]),
                failure=broken.failure if broken else None,
                failed=broken.side if broken else None,
            )
            comparisons.append(comparison)
        return tuple(comparisons)
