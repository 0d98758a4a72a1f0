"""The gate's self-test: what is planned, what is counted, and one small run with real processes."""

from __future__ import annotations

import math
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import date
from fractions import Fraction
from pathlib import Path

import pytest
from scipy.stats import binomtest

from visionbench.comparison.comparison import Launch, Round
from visionbench.comparison.verdict import Rule
from visionbench.judging import gate as judging
from visionbench.judging.busy_core import busy_core
from visionbench.judging.duet import Broken, Stage
from visionbench.judging.selftest import (
    IMAGE_SIZE,
    Ask,
    at_least,
    at_most,
    depths,
    findings,
    in_trees,
    parse_share,
    profile,
    rows,
    schedule,
    selftest,
)
from visionbench.measuring.process.side import Source
from visionbench.models import ladder, resolve
from visionbench.record.errors import BenchError
from visionbench.record.record import Environment, Failure

KINDS = tuple(ladder.KINDS)
FIVE = Fraction(1, 20)
STAGE = Stage(baseline=Source(), candidate=Source(), device="cpu", threads=1, timer="cpu")
ENVIRONMENT = Environment(device_type="cpu", device_name="Fixture CPU", threads=1, torch="2.15.0")


# what is planned


@pytest.mark.parametrize(
    ("share", "blocks"),
    [("0", (20, 20)), ("5%", (20, 21)), ("0.05", (20, 21)), (" 10 % ", (20, 22)), ("2%", (50, 51)), ("4%", (25, 26))],
)
def test_a_share_is_blocks_exactly(share, blocks):
    base, more = depths(parse_share(share))
    assert (base, more) == blocks
    assert Fraction(more - base, base) == parse_share(share)


@pytest.mark.parametrize("share", ["1%", "3%", "0.5%", "-5%", "5.1%", "500%"])
def test_a_share_that_no_ladder_costs_is_refused(share):
    with pytest.raises(BenchError, match=r"ask for 2 %, 4 %, 5 %"):
        parse_share(share)


@pytest.mark.parametrize("share", ["", "five", "5%%", "1/0", "nan"])
def test_what_is_no_share_is_refused(share):
    with pytest.raises(BenchError, match="is no share"):
        parse_share(share)


def test_rows_are_ladders_that_exist():
    for share in (Fraction(0), FIVE, Fraction(1, 50)):
        made = rows(KINDS, share)
        assert len({row.name for row in made}) == len(KINDS)
        for row in made:
            specs = row.baseline.spec, row.candidate.spec
            assert [resolve(spec.model).name for spec in specs] == [spec.model for spec in specs]
            assert {spec.image_size for spec in specs} == {IMAGE_SIZE} == {ladder.IMAGE_SIZE}
    assert rows(("mlp",), FIVE)[0].name == "mlp, 20 against 21 blocks"


def test_thirty_rows_of_each_truth_under_each_condition():
    suites = schedule(Ask(rows=30, share=FIVE), KINDS)
    for condition in ("idle", "busy"):
        for share in (Fraction(0), FIVE):
            its = [suite.kinds for suite in suites if (suite.condition, suite.share) == (condition, share)]
            assert [len(kinds) for kinds in its] == [12, 12, 6]
            assert set(Counter(kind for kinds in its for kind in kinds).values()) == {2, 3}
    assert len({suite.seed for suite in suites}) == len(suites)
    assert len({(suite.condition, suite.share) for suite in suites[:4]}) == 4, "they take turns"


def test_a_schedule_follows_from_its_seed():
    assert schedule(Ask(seed=1), KINDS) == schedule(Ask(seed=1), KINDS) != schedule(Ask(seed=2), KINDS)


def test_without_a_share_there_are_equal_rows_alone():
    assert {suite.share for suite in schedule(Ask(share=Fraction(0)), KINDS)} == {Fraction(0)}


@pytest.mark.parametrize("ask", [Ask(rows=0), Ask(launches=0), Ask(conditions=())])
def test_asking_for_nothing_is_refused(ask):
    with pytest.raises(BenchError, match="needs rows, launches and a condition"):
        schedule(ask, KINDS)


# what is counted


@pytest.mark.parametrize(("hits", "tries"), [(0, 60), (1, 60), (30, 60), (59, 60), (60, 60), (0, 1), (1, 1)])
def test_bounds_are_scipys(hits, tries):
    upper = binomtest(hits, tries, alternative="less").proportion_ci(0.95).high
    lower = binomtest(hits, tries, alternative="greater").proportion_ci(0.95).low
    assert at_most(hits, tries) == pytest.approx(upper)
    assert at_least(hits, tries) == pytest.approx(lower)


def test_never_in_sixty_is_at_most_one_in_twenty():
    assert at_most(0, 60) == pytest.approx(1 - 0.05 ** (1 / 60))
    assert at_most(0, 299) < 0.01 < at_most(0, 298)
    assert at_most(0, 0) is None
    assert at_least(0, 0) is None


Machine = Callable[[float], float]
"""From the true ratio of a row to the one that is measured."""


@pytest.fixture
def machine(monkeypatch) -> Callable[[Machine], None]:
    """Let launches be made by a machine that is a function; its noise is 0.2 %."""

    def install(measured: Machine) -> None:
        def launch(some, stage, rng, watch=None):
            return {row.name: _launch(measured(_truth(row)) * math.exp(rng.gauss(0, 0.002))) for row in some}

        monkeypatch.setattr(judging, "launch", launch)

    return install


def _truth(row) -> float:
    base, more = (int(side.spec.model.rpartition("_")[2]) for side in (row.baseline, row.candidate))
    return more / base


def _launch(ratio: float) -> Launch:
    return Launch(
        rounds=(Round(first="baseline", baseline=1.0, candidate=ratio, baseline_wall=1.0, candidate_wall=ratio),)
    )


def found_by(ask: Ask, rule: Rule | None = None):
    return findings(selftest(ask, KINDS, STAGE, ENVIRONMENT, rule or Rule()), ask)


def test_a_good_machine_is_judged_right(machine):
    machine(lambda truth: truth)
    [found] = found_by(Ask(rows=30, share=FIVE, conditions=("idle",)))
    assert (found.condition, found.share) == ("idle", 0.05)
    assert (found.same, found.regressed, found.improved, found.inconclusive) == (30, 0, 0, 0)
    assert (found.suites, found.failed_suites, found.lost) == (3, 0, 0)
    assert (found.slower, found.found) == (30, 30)
    assert found.regressed_at_most == pytest.approx(at_most(0, 30))
    assert found.failed_suites_at_most == pytest.approx(at_most(0, 3))
    assert found.found_at_least == pytest.approx(at_least(30, 30))
    assert found.intervals == 60
    assert found.covered >= 50
    assert found.same_ratio == pytest.approx(1, abs=0.002)
    assert found.slower_ratio == pytest.approx(1.05, abs=0.002)
    assert found.detectable == pytest.approx(Rule().centre)
    assert found.launch_seconds is not None


def test_a_machine_that_favours_a_side_is_found_out(machine):
    machine(lambda truth: truth * 1.06)
    [found] = found_by(Ask(rows=13, share=Fraction(0), conditions=("idle",)))
    assert (found.same, found.regressed, found.suites, found.failed_suites) == (13, 13, 2, 2)
    assert (found.slower, found.found_at_least, found.slower_ratio) == (0, None, None)
    assert (found.intervals, found.covered) == (13, 0)
    machine(lambda truth: truth / 1.06)
    [found] = found_by(Ask(rows=13, share=Fraction(0), conditions=("idle",)))
    assert (found.regressed, found.improved, found.failed_suites) == (0, 13, 0)


def test_a_machine_that_sees_nothing_finds_nothing(machine):
    machine(lambda truth: 1.0)
    [found] = found_by(Ask(rows=12, share=FIVE, conditions=("idle",)))
    assert (found.regressed, found.found, found.covered) == (0, 0, found.covered)
    assert found.found_at_least == 0
    assert found.covered <= 12, "no interval of a slower row holds the truth"


def test_rows_that_fail_count_nowhere(machine, monkeypatch):
    machine(lambda truth: truth)
    whole = judging.launch
    failure = Failure(kind="crashed", stage="build", message="no")

    def broken(some, stage, rng, watch=None):
        played = whole(some, stage, rng)
        return played | {row.name: Broken(failure=failure, side=None) for row in some if "mlp" in row.name}

    monkeypatch.setattr(judging, "launch", broken)
    [found] = found_by(Ask(rows=12, share=FIVE, conditions=("idle",)))
    assert (found.same, found.slower, found.lost) == (11, 11, 2)


def test_a_selftest_of_which_nothing_can_be_measured_says_why(monkeypatch):
    failure = Failure(kind="error", stage="build", message="no such model")
    broken = Broken(failure=failure, side=None)
    monkeypatch.setattr(judging, "launch", lambda some, *_: {one.name: broken for one in some})
    with pytest.raises(BenchError, match="no such model"):
        found_by(Ask(rows=12, conditions=("idle",)))


def test_a_budget_that_is_spent_begins_no_further_suite(machine):
    machine(lambda truth: truth)
    assert len(selftest(Ask(rows=60, budget=0.0, conditions=("idle",)), KINDS, STAGE, ENVIRONMENT, Rule())) == 1


def test_who_waits_is_told_suite_and_launch(machine):
    machine(lambda truth: truth)
    heard = []

    class Listener:
        def began(self, suite, number, planned):
            heard.append((suite.share, number, planned))

        def launched(self, done, planned, rows, seconds_left):
            heard.append((done, planned, rows))

    ask = Ask(rows=1, share=Fraction(0), launches=7, conditions=("idle",))
    selftest(ask, KINDS, STAGE, ENVIRONMENT, Rule(), progress=Listener())
    assert heard == [(0, 1, 1), *((done, 7, 1) for done in range(1, 8))]


def test_a_profile_says_how_it_was_made(machine):
    machine(lambda truth: truth)
    ask = Ask(rows=2, conditions=("idle",), launches=8)
    runs = selftest(ask, KINDS, STAGE, ENVIRONMENT, Rule(margin=0.02))
    made = profile(runs, ask, STAGE, ENVIRONMENT, date(2026, 11, 22))
    assert (made.date, made.torch, made.launches, made.rounds) == ("2026-11-22", "2.15.0", 8, STAGE.rounds)
    assert made.facts["threads"] == 1
    assert made.findings == findings(runs, ask)
    assert (made.rule.margin, made.rule.looks) == (0.02, 2)
    few = Ask(rows=2, conditions=("idle",), launches=7)
    seven = profile(selftest(few, KINDS, STAGE, ENVIRONMENT, Rule()), few, STAGE, ENVIRONMENT, date(2026, 11, 22))
    assert seven.rule.looks == 1, "the rule that was applied"


# the two sides


def test_the_sides_lie_in_two_trees_of_one_commit(tmp_path):
    author = ["-c", "user.name=n", "-c", "user.email=e@example.test"]
    for words in (["init", "-q"], [*author, "commit", "-q", "--allow-empty", "-m", "m"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    with in_trees(STAGE, tmp_path) as (stage, sides):
        one, other = stage.baseline.tree, stage.candidate.tree
        assert one != other
        assert one.is_dir()
        assert other.is_dir()
        assert stage.baseline.repository == stage.candidate.repository == tmp_path.resolve()
        assert sides[0].commit == sides[1].commit == rows(("mlp",), FIVE, sides)[0].candidate.commit
    assert not one.exists()
    assert not other.exists()


def test_without_a_checkout_both_sides_run_from_one_source(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with in_trees(STAGE, tmp_path) as (stage, sides):
        assert (stage, sides) == (STAGE, None)


# the neighbour


def _is_busy(pid: int, seconds: float = 10.0) -> bool:
    """Whether that process comes to use CPU time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11]) > 2:
            return True
        time.sleep(0.05)
    return False


def _children() -> set[int]:
    return {int(pid) for pid in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()}


on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@on_linux
def test_a_neighbour_keeps_its_core_busy_and_goes():
    before = _children()
    with suppress(KeyboardInterrupt), busy_core(random.Random(0)) as core:
        [pid] = _children() - before
        assert os.sched_getaffinity(pid) == {core}
        assert _is_busy(pid)
        raise KeyboardInterrupt
    assert not Path(f"/proc/{pid}").exists()


@on_linux
def test_a_neighbour_goes_with_a_parent_that_is_killed():
    code = (
        "import os, random, sys, time\nfrom pathlib import Path\nfrom visionbench.judging.busy_core import busy_core\n"
        "with busy_core(random.Random(0)):\n"
        "    print(Path(f'/proc/{os.getpid()}/task/{os.getpid()}/children').read_text(), flush=True)\n"
        "    time.sleep(60)"
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, text=True) as parent:
        pid = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text():
        assert time.monotonic() < deadline, "it outlived its parent"
        time.sleep(0.05)


# with real processes


@pytest.mark.slow
def test_a_small_selftest_beside_a_real_neighbour():
    ask = Ask(rows=1, share=Fraction(0), conditions=("busy",), launches=1)
    stage = replace(STAGE, rounds=2)
    before = _children() if sys.platform == "linux" else set()
    runs = selftest(ask, ("layernorm_gelu",), stage, ENVIRONMENT, Rule())
    [found] = findings(runs, ask)
    assert (found.condition, found.same, found.lost) == ("busy", 1, 0)
    assert 0.5 < found.same_ratio < 2
    assert found.launch_seconds > 0
    assert (found.intervals, found.detectable) == (0, None), "one launch allows none"
    assert sys.platform != "linux" or not _children() - before
