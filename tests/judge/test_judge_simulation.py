"""The rule's promises, counted on simulated machines where the truth is known, and rules that break them there.

Every promise is about a rate, so what is compared with it is the one-sided 95 % Clopper-Pearson bound of the rate and
not the rate itself: too few trials cannot pass. `pytest -rP` shows the figures.
"""

from __future__ import annotations

import functools
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest, mannwhitneyu

from tests.judge.simulated_machines import MACHINES, duet, one_after_the_other
from visionbench.comparison.comparison import Comparison, Launch, Round, Side
from visionbench.comparison.verdict import Rule, Verdict
from visionbench.judging.verdict import judge, needs_second_look
from visionbench.record.record import Environment
from visionbench.record.spec import Spec

RULE = Rule()
FALSE_PER_ROW, FALSE_PER_SUITE, FOUND, ROWS = 0.01, 0.05, 0.95, 40
SIDE = Side(label="main", spec=Spec(model="timm:resnet18"))
MARGIN = 1 + RULE.margin


@functools.cache
def _logs(machine: str, ratio: float, trials: int, launches: int = 10, **turns: int) -> np.ndarray:
    rng = np.random.default_rng([sorted(MACHINES).index(machine), round(ratio * 1e4), launches])
    sizes = [min(1000, trials - start) for start in range(0, trials, 1000)]  # what fits the processor's cache
    return np.concatenate([duet(MACHINES[machine], ratio, rng, trials=n, launches=launches, **turns) for n in sizes])


SEVERAL = [name if name == "noisy" else pytest.param(name, marks=pytest.mark.slow) for name in MACHINES]
"""The machines; simulating a suite takes seconds, so the fast lane has the worst one."""


def _comparison(logs: np.ndarray, name: str = "") -> Comparison:
    rounds = [
        Round(first="baseline", baseline=1, candidate=ratio, baseline_wall=1, candidate_wall=ratio)
        for ratio in np.exp(logs).tolist()
    ]
    launches = tuple(Launch(rounds=(one,)) for one in rounds)
    return Comparison(
        name=name,
        baseline=SIDE,
        candidate=SIDE,
        environment=Environment(device_type="cpu"),
        timer="cpu",
        seed=0,
        launches=launches,
    )


def _alone(logs: np.ndarray, rule: Rule = RULE) -> tuple[Verdict, ...]:
    """Each row judged as a gate of its own: q is p where there is one row, and so never the one that decides."""
    return judge([_comparison(row, str(i)) for i, row in enumerate(logs)], replace(rule, fdr=1.0))


def _gate(logs: np.ndarray) -> tuple[Verdict, ...]:
    """Each row alone, as the gate runs: ten launches, and twenty where those left it regressed or inconclusive."""
    first = _alone(logs[:, :10])
    again, final = set(needs_second_look(first)), _alone(logs)
    return tuple(two if two.comparison.name in again else one for one, two in zip(first, final, strict=True))


@functools.cache
def _suites(machine: str, rule: Rule, suites: int = 60) -> list[tuple[Verdict, ...]]:
    """Gates of forty rows, none of them slower."""
    rows = [_comparison(row, str(i)) for i, row in enumerate(_logs(machine, 1.0, suites * ROWS))]
    return [judge(rows[start : start + ROWS], rule) for start in range(0, len(rows), ROWS)]


def _count(verdicts, *words: str) -> int:
    return sum(one.word in words for one in verdicts)


def _at_most(count: int, trials: int, what: str) -> float:
    """The rate that is not exceeded, at 95 % confidence."""
    bound = binomtest(count, trials, alternative="less").proportion_ci(0.95).high
    print(f"{what}: {count} of {trials}, at most {bound:.2%}")
    return float(bound)


def _at_least(count: int, trials: int, what: str) -> float:
    """The rate that is reached, at 95 % confidence."""
    bound = binomtest(count, trials, alternative="greater").proportion_ci(0.95).low
    print(f"{what}: {count} of {trials}, at least {bound:.2%}")
    return float(bound)


# The rule keeps its promises


@pytest.mark.parametrize("machine", SEVERAL)
def test_equal_code_is_not_called_slower(machine):
    suites = _suites(machine, RULE)
    alarms = [_count(suite, "regressed") for suite in suites]
    assert _at_most(sum(alarms), len(suites) * ROWS, f"{machine}, false alarms per row") <= FALSE_PER_ROW
    failed = sum(bool(count) for count in alarms)
    assert _at_most(failed, len(suites), f"{machine}, false alarms per suite") <= FALSE_PER_SUITE


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES)
def test_equal_code_is_shown_to_be_no_slower(machine):
    rows = [one for suite in _suites(machine, RULE) for one in suite]
    assert _at_most(_count(rows, "inconclusive"), len(rows), f"{machine}, inconclusive") <= 0.10
    assert _at_most(_count(rows, "improved"), len(rows), f"{machine}, false improvements") <= FALSE_PER_ROW


@pytest.mark.parametrize("ratio", [1.05, 1.10])
@pytest.mark.parametrize("machine", SEVERAL)
def test_a_slow_down_of_five_percent_is_found(machine, ratio):
    logs = _logs(machine, ratio, 500, 20)
    first = _count(_alone(logs[:, :10]), "regressed")
    found = _count(_gate(logs), "regressed")
    print(f"{machine}, {ratio - 1:+.0%} found by the first look alone: {first} of 500")
    assert _at_least(found, 500, f"{machine}, {ratio - 1:+.0%} found") >= FOUND


@pytest.mark.slow
@pytest.mark.parametrize("machine", ["shared", "noisy"])
def test_it_is_found_among_twelve_rows(machine):
    trials, clean = 150, [_comparison(row, str(i)) for i, row in enumerate(_logs(machine, 1.0, 60 * ROWS)[: 150 * 11])]
    found = 0
    for i, row in enumerate(_logs(machine, 1.05, 500, 20)[:trials]):
        others = clean[11 * i : 11 * i + 11]
        verdict = judge([*others, _comparison(row[:10], "slow")], RULE)[-1]
        if verdict.word == "inconclusive":
            verdict = judge([*others, _comparison(row, "slow")], RULE)[-1]
        found += verdict.word == "regressed"
    assert _at_least(found, trials, f"{machine}, +5 % found among 12 rows") >= FOUND


@pytest.mark.slow
def test_the_interval_covers_the_truth_as_often_as_it_says():
    covered = trials = 0
    for machine in ("dedicated", "shared"):
        for ratio in (1.0, 1.02, 1.05, 1.10):
            ratios = [one.ratio for one in _alone(_logs(machine, ratio, 500, 20)[:, :10])]
            hits = sum(one.low <= ratio <= one.high for one in ratios)
            widths = np.median([(one.high - one.low) / 2 / one.centre for one in ratios])
            print(f"{machine}, {ratio - 1:+.0%}: {hits / 500:.1%} covered, half-width {widths:.2%}")
            covered, trials = covered + hits, trials + 500
    low, high = binomtest(covered, trials).proportion_ci(0.95)
    print(f"together: {covered / trials:.2%} of {trials} [{low:.2%}, {high:.2%}]")
    assert low >= 0.93
    assert high <= 0.97


@pytest.mark.parametrize("machine", SEVERAL)
def test_ok_is_said_of_a_real_slow_down_at_most_as_often_as_it_says(machine):
    # At the limit itself "ok" is the error, and it is promised in one of twenty.
    found = _count(_gate(_logs(machine, 1 + RULE.limit, 500, 20)), "ok")
    assert _at_most(found, 500, f"{machine}, {RULE.limit:+.0%} called ok") <= 0.05


# A second look, at the margin: the only place where alpha matters


@pytest.mark.slow
def test_two_looks_at_half_of_alpha_stay_below_it_and_at_the_whole_exceed_it():
    """Nothing but the test decides, and every row is looked at twice: no centre, and no limit that makes it `ok`."""
    logs = _logs("shared", MARGIN, 6000, 20, rounds=3, iterations=3)  # short turns: the level does not depend on them
    careful = replace(RULE, centre=0.0, limit=-0.5)
    first, second = _alone(logs[:, :10], careful), _alone(logs, careful)
    assert len(needs_second_look(first)) == len(first)
    assert _at_most(_count(second, "regressed"), len(logs), "margin, after two looks") <= RULE.alpha
    # Even if a row were called as soon as either look calls it, that would not be shown to be too often ...
    either = sum("regressed" in (one.word, two.word) for one, two in zip(first, second, strict=True))
    assert _at_least(either, len(logs), "margin, at either look") <= RULE.alpha
    # ... and with the whole of alpha at each look it is.
    either = sum(min(one.p_slower, two.p_slower) < RULE.alpha for one, two in zip(first, second, strict=True))
    assert _at_least(either, len(logs), "margin, at either look with the whole alpha") > RULE.alpha


@pytest.mark.slow
@pytest.mark.parametrize("machine", ["shared", "noisy"])
def test_the_gate_stays_below_alpha_at_the_margin(machine):
    logs = _logs(machine, MARGIN, 1000, 20)
    assert _at_most(_count(_gate(logs), "regressed"), len(logs), f"{machine}, margin, the gate") <= RULE.alpha


# What breaks the same promises on the same machines


def _suites_with_an_alarm(alarms: np.ndarray) -> np.ndarray:
    return alarms.reshape(-1, ROWS).any(axis=1)


@functools.cache
def _sequential(machine: str, ratio: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng([7, sorted(MACHINES).index(machine)])
    return one_after_the_other(MACHINES[machine], ratio, rng, trials=10 * ROWS)


@pytest.mark.parametrize("machine", ["shared", "noisy"])
def test_a_ratio_of_means_over_five_percent_alarms_at_equal_code(machine):
    base, head = np.moveaxis(_sequential(machine).mean(axis=(2, 3)), 1, 0)
    alarms = head / base > 1.05
    assert _at_least(alarms.sum(), len(alarms), f"{machine}, mean:5%, false alarms per row") > FALSE_PER_ROW
    failed = _suites_with_an_alarm(alarms)
    assert _at_least(failed.sum(), len(failed), f"{machine}, mean:5%, false alarms per suite") > FALSE_PER_SUITE


def test_a_ratio_of_means_over_five_percent_finds_half_of_five_percent():
    base, head = np.moveaxis(_sequential("dedicated", 1.05).mean(axis=(2, 3)), 1, 0)
    found = head / base > 1.05
    assert _at_most(found.sum(), len(found), "dedicated, mean:5%, +5 % found") < FOUND


def test_iterations_are_no_replicates_even_on_a_quiet_machine():
    base, head = np.moveaxis(_sequential("dedicated").reshape(10 * ROWS, 2, -1), 1, 0)
    alarms = mannwhitneyu(head, base, alternative="greater", axis=1, method="asymptotic").pvalue < 0.005
    assert _at_least(alarms.sum(), len(alarms), "dedicated, Mann-Whitney, false alarms per row") > FALSE_PER_ROW


@pytest.mark.slow
def test_the_duet_without_margin_and_correction_fails_most_suites():
    careless = replace(RULE, margin=0.0, centre=0.0, alpha=0.05, fdr=1.0, looks=1)
    failed = sum(bool(_count(suite, "regressed")) for suite in _suites("shared", careless))
    assert _at_least(failed, 60, "shared, p < 0.05 without margin, false alarms per suite") > 0.5


# The machines are what they are said to be


@pytest.mark.parametrize(("machine", "half"), [("dedicated", 0.003), ("shared", 0.0075), ("noisy", 0.013)])
def test_pairing_leaves_what_processes_differ_by_and_little_more(machine, half):
    logs, processes = _logs(machine, 1.0, 60 * ROWS), math.sqrt(2) * MACHINES[machine].process
    assert processes < logs.std() < 1.25 * processes
    assert abs(logs.mean()) < 4 * logs.std() / math.sqrt(logs.size)  # neither side is favoured
    ratios = [one.ratio for one in _alone(logs[: 5 * ROWS])]
    assert np.median([(one.high - one.low) / 2 for one in ratios]) == pytest.approx(half, rel=0.1)


def test_the_noise_that_is_paired_away_is_many_times_larger():
    means = np.log(_sequential("noisy").mean(axis=-1))
    assert (means[:, 1] - means[:, 0]).std() > 5 * _logs("noisy", 1.0, 60 * ROWS).std()


def test_a_seed_is_a_machine():
    once, again = (duet(MACHINES["noisy"], 1.02, np.random.default_rng(5), trials=3) for _ in range(2))
    other = duet(MACHINES["noisy"], 1.02, np.random.default_rng(6), trials=3)
    assert once.shape == (3, 10)
    assert (once == again).all()
    assert (once != other).all()
