"""The gate's bookkeeping with launches that cost nothing: when it stops, what it looks at twice, and what it keeps."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from visionbench.comparison.comparison import Comparison, Launch, Round, Side, read, write
from visionbench.comparison.verdict import Rule
from visionbench.judging import gate as gates
from visionbench.judging.duet import Broken, Row, Stage
from visionbench.judging.gate import Outcome, Plan, gate, more_launches
from visionbench.judging.verdict import judge
from visionbench.measuring.process.side import Source
from visionbench.record.record import Environment, Failure
from visionbench.record.spec import Spec
from visionbench.record.statistics import MIN_LAUNCHES, spread_of_memory

STAGE = Stage(baseline=Source(), candidate=Source(), device="cpu", threads=1, timer="cpu")
HERE = Environment(device_type="cpu")
BROKEN = Broken(failure=Failure(kind="error", stage="build", message="x"), side="candidate")

Played = dict[str, Launch | Broken]


def row(name: str) -> Row:
    side = Side(label=name, spec=Spec(model=f"user:zoo:{name}"))
    return Row(name=name, baseline=side, candidate=side)


def turns(ratio: float, *flags: str) -> Launch:
    one = Round(first="baseline", baseline=1.0, candidate=ratio, baseline_wall=1.0, candidate_wall=ratio)
    return Launch(rounds=(one,), flags=flags)


RATIOS: dict[str, Callable[[int, random.Random], Launch | Broken]] = {
    "slower": lambda n, rng: turns(1.10 + rng.random() / 1000),
    "faster": lambda n, rng: turns(0.90 + rng.random() / 1000),
    "same": lambda n, rng: turns(1.0 + rng.uniform(-1, 1) / 1000),
    "torn": lambda n, rng: turns(math.exp(0.06 * (7 * n % 10 - 4.5))),
    "hot": lambda n, rng: turns(1.10, "throttled"),
    "broken": lambda n, rng: BROKEN,
    "breaks": lambda n, rng: BROKEN if n == 5 else turns(1.0 + n / 1000),
    "breaks_late": lambda n, rng: BROKEN if n == 12 else turns(1.10 + n / 1000),
}
"""Rows by name: what a launch comes to, by its number (from 1)."""


class Stagehands:
    """Stands for `launch`: a launch takes `seconds`, and the clock stands still otherwise."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: Sequence[float] = ()) -> None:
        self.launches: list[list[str]] = []
        self.kept: list[tuple[Comparison, ...]] = []
        self.told: list[tuple[int, int, int, float]] = []
        self._seconds, self._now = list(seconds), 100.0
        monkeypatch.setattr(gates, "launch", self.launch)
        monkeypatch.setattr(gates.time, "monotonic", lambda: self._now)

    def launch(self, rows: Sequence[Row], stage: Stage, rng: random.Random) -> Played:
        assert stage is STAGE
        self.launches.append([row.name for row in rows])
        self._now += self._seconds.pop(0) if self._seconds else 1.0
        return {row.name: RATIOS[row.name](len(self.launches), rng) for row in rows}

    def launched(self, done: int, planned: int, rows: int, seconds_left: float) -> None:
        assert len(self.kept) == len(self.launches)  # what was measured is safe before anybody is told
        self.told.append((done, planned, rows, seconds_left))

    def gate(self, *names: str, **plan: float | None) -> Outcome:
        rows = [row(name) for name in names]
        made = Plan(**plan)  # type: ignore[arg-type]
        return gate(rows, STAGE, HERE, made, Rule(), lambda made: self.kept.append(tuple(made)), self)


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stagehands:
    return Stagehands(monkeypatch)


def words(outcome: Outcome) -> dict[str, str]:
    return {verdict.comparison.name: verdict.word for verdict in outcome.verdicts}


def test_every_word_at_once(stage: Stagehands) -> None:
    names = ("slower", "faster", "same", "torn", "hot", "broken")
    found = stage.gate(*names)
    assert words(found) == {
        "slower": "regressed",
        "faster": "improved",
        "same": "ok",
        "torn": "inconclusive",
        "hot": "inconclusive",
        "broken": "not measured",
    }
    assert [one.name for one in found.comparisons] == list(names)
    assert not found.cut_short


def test_only_what_more_launches_could_settle_is_looked_at_twice(stage: Stagehands) -> None:
    found = stage.gate("slower", "faster", "same", "torn", "hot", "broken")
    measured = ["slower", "faster", "same", "torn", "hot"]
    again = ["slower", "faster", "torn"]
    assert stage.launches == [[*measured, "broken"], *[measured] * 9, *[again] * 10, *[["torn"]] * 20]
    assert {v.comparison.name: v.looks for v in found.verdicts} == dict.fromkeys(words(found), 1) | {
        "slower": 2,
        "faster": 2,
        "torn": 2,
    }
    assert [len(one.launches) for one in found.comparisons] == [20, 20, 10, 40, 10, 0]  # what scatters gets more
    assert found.rule.looks == 2


def test_a_row_that_is_fine_costs_one_look(stage: Stagehands) -> None:
    assert words(stage.gate("same")) == {"same": "ok"}
    assert len(stage.launches) == 10


def test_too_few_launches_for_two_looks_get_one_at_the_full_error(stage: Stagehands) -> None:
    found = stage.gate("slower", launches=7)
    assert (len(stage.launches), found.rule.looks, words(found)) == (7, 1, {"slower": "regressed"})


def test_a_row_that_fails_once_is_not_tried_again_and_says_where(stage: Stagehands) -> None:
    found = stage.gate("breaks", "same")
    assert stage.launches[4:6] == [["breaks", "same"], ["same"]]
    broken = found.comparisons[0]
    assert (len(broken.launches), broken.failure, broken.failed) == (4, BROKEN.failure, "candidate")
    assert words(found) == {"breaks": "not measured", "same": "ok"}


def test_a_row_that_fails_in_its_second_look_is_not_regressed_any_more(stage: Stagehands) -> None:
    found = stage.gate("breaks_late")
    assert words(found) == {"breaks_late": "not measured"}
    assert len(stage.launches) == 12  # and nothing is left to launch


@pytest.mark.parametrize(("launches", "factor"), [(10, 2), (20, 1)])
def test_memory_widens_what_the_second_look_is_planned_by_once(launches: int, factor: int) -> None:
    logs = [0.003 * (0, 1, 1, 0, -1, -1)[n % 6] for n in range(launches)]
    assert spread_of_memory(logs, MIN_LAUNCHES) > 5  # neighbours are alike
    launched = Comparison(
        name="same",
        baseline=row("same").baseline,
        candidate=row("same").candidate,
        environment=HERE,
        timer="cpu",
        seed=0,
        launches=tuple(turns(math.exp(log)) for log in logs),
    )
    (verdict,) = judge([launched], Rule())
    assert more_launches([verdict], launches) == {"same": factor * launches}


@pytest.mark.parametrize(
    ("ratio", "scatter", "factor"),
    [(1.27, 0.03, 1), (0.75, 0.03, 1), (1.15, 0.10, 3), (1.05, 0.03, 3), (0.96, 0.03, 3), (1.11, 0.03, 3)],
)
def test_what_is_plainly_slower_is_not_looked_at_for_longer(ratio: float, scatter: float, factor: int) -> None:
    side = row("same")
    logs = [math.log(ratio) + scatter * step for step in (-1, 1, -0.5, 0.5, -1, 1, 0.2, -0.2, 1, -1)]
    launched = Comparison(
        name="same",
        baseline=side.baseline,
        candidate=side.candidate,
        environment=HERE,
        timer="cpu",
        seed=0,
        launches=tuple(turns(math.exp(log)) for log in logs),
    )
    assert more_launches(judge([launched], Rule()), 10) == {"same": factor * 10}


def test_nothing_to_measure_is_no_verdict(stage: Stagehands) -> None:
    found = stage.gate()
    assert (found.verdicts, found.comparisons, stage.launches, found.cut_short) == ((), (), [], False)


def test_everything_measured_is_kept_after_every_launch(stage: Stagehands, tmp_path: Path) -> None:
    found = stage.gate("torn", "broken", launches=8)
    assert [len(kept[0].launches) for kept in stage.kept] == list(range(1, 33))
    assert all(kept[1].failure for kept in stage.kept)
    assert stage.kept[-1] == found.comparisons
    write(tmp_path / "kept.jsonl", stage.kept[2])
    assert read(tmp_path / "kept.jsonl") == stage.kept[2]


def test_progress_counts_the_launches_of_a_look(stage: Stagehands) -> None:
    stage.gate("slower", "same", launches=8)
    assert stage.told[0] == (1, 8, 2, 7.0)
    assert stage.told[7] == (8, 8, 2, 0.0)
    assert stage.told[8] == (1, 8, 1, 7.0)
    assert len(stage.told) == 16


def test_a_budget_ends_the_look_before_a_launch_that_would_exceed_it(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stagehands(monkeypatch, seconds=[1.0, 3.0, 1.0, 1.0])
    found = stage.gate("slower", budget=8.9)  # after four launches 6 s are spent, and another may take 3
    assert len(stage.launches) == 4
    assert (found.cut_short, found.looked_at) == (True, 4)
    assert found.rule.looks == 1  # no second look is paid for where there is no time for one
    assert words(found) == {"slower": "inconclusive"}  # four launches show nothing


def test_one_launch_is_made_whatever_the_budget(stage: Stagehands) -> None:
    found = stage.gate("slower", budget=0.001)
    assert (len(stage.launches), found.cut_short) == (1, True)


def test_a_budget_that_ends_with_the_first_look_leaves_it_the_full_error(stage: Stagehands) -> None:
    found = stage.gate("slower", budget=10.5)
    assert (len(stage.launches), found.rule.looks, found.cut_short) == (10, 1, False)
    assert words(found) == {"slower": "regressed"}


def test_a_budget_that_ends_within_the_second_look_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stagehands(monkeypatch, seconds=[2.0] * 10)
    found = stage.gate("slower", "same", budget=24.5)  # a launch of one row takes one second
    assert stage.launches[10:] == [["slower"]] * 4  # the fifth would end after 25 s
    assert (found.rule.looks, found.cut_short) == (2, True)
    assert words(found) == {"slower": "regressed", "same": "ok"}


def test_looks_are_settled_by_the_clock_and_never_by_the_ratios(stage: Stagehands) -> None:
    assert stage.gate("same").rule == stage.gate("slower").rule == Rule()


def test_the_seed_decides_everything_that_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Stagehands(monkeypatch).gate("slower", "same", seed=seed) for seed in (3, 3, 4)]
    assert found[0] == found[1]
    assert found[0].comparisons[0].launches != found[2].comparisons[0].launches
    assert {one.seed for one in found[2].comparisons} == {4}


def test_a_ctrl_c_loses_nothing_that_was_kept(stage: Stagehands, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(rows: Sequence[Row], one: Stage, rng: random.Random) -> Played:
        if len(stage.launches) == 3:
            raise KeyboardInterrupt
        return stage.launch(rows, one, rng)

    monkeypatch.setattr(gates, "launch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stage.gate("same")
    assert len(stage.kept[-1][0].launches) == 3


def test_equal_sides_are_called_regressed_as_rarely_as_the_rule_says(monkeypatch: pytest.MonkeyPatch) -> None:
    def noisy(n: int, rng: random.Random) -> Launch:
        return turns(math.exp(rng.gauss(0, 0.05)))

    monkeypatch.setitem(RATIOS, "noisy", noisy)
    found = [words(Stagehands(monkeypatch).gate("noisy", seed=seed))["noisy"] for seed in range(300)]
    assert found.count("regressed") <= 3
    assert found.count("improved") <= 3
