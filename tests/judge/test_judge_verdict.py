"""The verdict by hand: launches whose p-value, centre and bounds can be counted on fingers, at every boundary."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import false_discovery_control, wilcoxon

from visionbench.comparison.comparison import Comparison, Launch, Round, Side, log_ratios
from visionbench.comparison.verdict import Rule
from visionbench.judging.verdict import detectable, judge, launches_needed, needs_second_look, suite_ratio
from visionbench.record.flags import FLAGS, voids_ratio
from visionbench.record.record import Environment, Failure
from visionbench.record.spec import Spec
from visionbench.record.statistics import p_above

RULE = Rule()
DOUBTS = tuple(name for name in FLAGS if voids_ratio(name, "cpu"))  # such launches are left out
TORN = (0.97, 1.12, 0.98, 1.11, 0.99, 1.10, 1.00, 1.09, 1.01, 1.08)  # may be anything


def _launch(ratio: float, *flags: str, wall: float | None = None) -> Launch:
    one = Round(
        first="baseline", baseline=1.0, candidate=ratio, baseline_wall=2.0, candidate_wall=2.0 * (wall or ratio)
    )
    return Launch(rounds=(one,), flags=flags)


def _comparison(*ratios: float, name: str = "row", **changes) -> Comparison:
    side = Side(label="main", spec=Spec(model="timm:resnet18"))
    base = Comparison(
        name=name,
        baseline=side,
        candidate=replace(side, label="head"),
        environment=Environment(device_type="cpu"),
        timer="cpu",
        seed=0,
        launches=tuple(_launch(ratio) for ratio in ratios),
    )
    return replace(base, **changes)


def _flagged(ratios, *flags: str, count: int = 1, timer: str = "cpu") -> Comparison:
    launches = [_launch(ratio, *(flags if i < count else ())) for i, ratio in enumerate(ratios)]
    return _comparison(launches=tuple(launches), timer=timer)


def _judge(*ratios: float, rule: Rule = RULE):
    (found,) = judge([_comparison(*ratios)], rule)
    return found


def _near(centre: float, n: int = 10, step: float = 0.001) -> list[float]:
    """n ratios about `centre`, symmetric on the logarithmic scale."""
    return [centre * math.exp(step * (i - (n - 1) / 2)) for i in range(n)]


@pytest.mark.parametrize(
    ("ratios", "word"),
    [
        (_near(1.05), "regressed"),
        (_near(0.95), "improved"),
        (_near(1.0), "ok"),
        (_near(1.02), "ok"),  # significantly slower, but by less than the 2.5 % that count
        (_near(0.98), "ok"),  # significantly faster, likewise
        (TORN, "inconclusive"),
        (_near(1.08), "regressed"),
    ],
)
def test_every_word_of_the_launches(ratios, word):
    found = _judge(*ratios)
    assert found.word == word
    assert bool(found.reason) == (word == "inconclusive")


def test_a_verdict_shows_its_numbers():
    ratios = _near(1.05)
    found = judge([_comparison(launches=tuple(_launch(ratio, wall=1.5) for ratio in ratios))], RULE, looks=2)[0]
    assert found.ratio.centre == pytest.approx(1.05)
    assert found.ratio.low < 1.05 < found.ratio.high
    assert found.ratio.launches == 10
    assert found.wall.centre == pytest.approx(1.5)
    assert (found.p_slower, found.p_faster) == (2**-10, 1.0)
    assert (found.q_slower, found.q_faster) == (2**-10, 1.0)
    assert found.looks == 2


def test_looks_by_name():
    rows = [_comparison(*_near(1.0), name="a"), _comparison(*_near(1.0), name="b")]
    assert [found.looks for found in judge(rows, RULE, looks={"b": 2})] == [1, 2]


def test_no_rows_no_verdicts():
    assert judge([], RULE) == ()


# The p-value


@pytest.mark.parametrize("n", [1, 5, 7, 10, 25, 60])
def test_p_is_scipys_where_there_are_no_ties(n):
    logs = np.random.default_rng(n).normal(0.02, 0.03, n)
    theirs = wilcoxon(logs - math.log(1.01), alternative="greater", method="exact").pvalue
    assert p_above(logs.tolist(), math.log(1.01)) == pytest.approx(theirs, rel=1e-12)


def test_p_is_the_share_of_sign_patterns_counted_one_by_one():
    logs = [0.05, -0.011, 0.021, 0.043, -0.002, 0.017]
    ranks = np.argsort(np.argsort(np.abs(logs))) + 1
    seen = sum(rank for rank, value in zip(ranks, logs, strict=True) if value < 0)
    sums = [np.dot(ranks, signs) for signs in itertools.product((0, 1), repeat=6)]
    assert p_above(logs, 0.0) == sum(total <= seen for total in sums) / 2**6


def test_zeros_speak_for_the_hypothesis():
    logs = [0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.09, 0.1]
    assert p_above(logs, 0.0) == 2**-8
    # Two launches that differ by nothing hold the ranks 1 and 2 against the slow-down: T = 3, reached by five patterns.
    assert p_above([0.0, 0.0, *logs[2:]], 0.0) == 5 / 2**8
    assert p_above([0.0] * 8, 0.0) == 1.0


def test_ties_are_broken_for_the_hypothesis():
    logs = [-0.02, 0.02, 0.02, 0.05, 0.06, 0.07, 0.08, 0.09]
    tilted = [-0.02001, *logs[1:]]  # of three equal ones, the negative one has the highest rank: 3
    assert p_above(logs, 0.0) == p_above(tilted, 0.0) == 5 / 2**8
    assert wilcoxon(logs, alternative="greater", method="exact").pvalue < 5 / 2**8


def test_the_margin_itself_is_not_above_the_margin():
    third = 1 / 3  # candidate / baseline is 1.01 but for the last digit
    logs = log_ratios(_comparison(launches=tuple(_scaled(1.01, third * (i + 1)) for i in range(10))))
    assert p_above(logs, math.log(1.01)) == 1.0
    assert p_above([-value for value in log_ratios(_comparison(*[1 / 1.01] * 10))], math.log(1.01)) == 1.0
    assert p_above([value + 1e-9 for value in logs], math.log(1.01)) == 2**-10


def _scaled(ratio: float, seconds: float) -> Launch:
    one = Round(first="candidate", baseline=seconds, candidate=ratio * seconds, baseline_wall=1, candidate_wall=1)
    return Launch(rounds=(one,))


# Boundaries


@pytest.mark.parametrize(
    ("ratio", "word"), [(1.0249, "ok"), (1.025, "regressed"), (1 / 1.0249, "ok"), (1 / 1.025, "improved")]
)
def test_the_centre_that_counts(ratio, word):
    assert _judge(*[ratio] * 10).word == word


@pytest.mark.parametrize(("ratio", "word"), [(1.0499, "ok"), (1.05, "inconclusive"), (1.06, "inconclusive")])
def test_ok_ends_at_the_limit(ratio, word):
    assert _judge(*[ratio] * 10, rule=replace(RULE, centre=0.2)).word == word


def test_ok_needs_the_whole_interval_below_the_limit():
    # Ten launches: P(T <= 8) = 25 / 1024 is the last below 2.5 %, so the interval ends at W_(47) of 55. Three slow
    # launches make six averages of 7 %, W_(50) to W_(55); with a fourth they are ten, and the end is one of them.
    assert _judge(*[1.0] * 7, *[1.07] * 3).word == "ok"
    assert _judge(*[1.0] * 6, *[1.07] * 4).word == "inconclusive"


@pytest.mark.parametrize(("low", "high"), [(0.7, 1.4), (0.9, 1.1), (0.95, 1.06), (0.5, 1.9)])
@pytest.mark.parametrize("slow", [7, 8, 9, 10, 11])
def test_launches_of_two_kinds_are_never_ok(low, high, slow):
    slower = random.Random(slow).sample(range(20), slow)
    row = [high if i in slower else low for i in range(20)]
    for jitter in (0.0, 1e-4):
        verdict = _judge(*[ratio * (1 + jitter * i) for i, ratio in enumerate(row)])
        assert verdict.word == "inconclusive"
        assert verdict.ratio.high > 1.05


@pytest.mark.parametrize("factor", [1.08, 1.5, 2.0])
@pytest.mark.parametrize("unseen", ["wall", "mean"])
def test_what_the_ratio_cannot_see_is_never_ok(factor, unseen):
    turn = Round(first="baseline", baseline=1, candidate=1, baseline_wall=1, candidate_wall=1)
    seen = {"candidate_wall": factor} if unseen == "wall" else {"baseline_mean": 1.0, "candidate_mean": factor}
    row = replace(_comparison(*[1.0] * 10), launches=(Launch(rounds=(replace(turn, **seen),)),) * 10)
    (verdict,) = judge([row], RULE)
    assert verdict.word == "inconclusive"
    assert "parts from the ratio" in verdict.reason


@pytest.mark.parametrize(("alpha", "word"), [(2**-9, "inconclusive"), (2**-9 * 1.001, "regressed")])
def test_p_must_lie_below_the_alpha_of_a_look(alpha, word):
    # p = 2^-10 for ten launches on one side; alpha of one look of two is half of alpha.
    assert _judge(*_near(1.08), rule=replace(RULE, alpha=alpha)).word == word


def test_more_looks_ask_for_more():
    ratios = [0.995, *_near(1.08, 8)]  # p = 2 / 2^9 = 0.0039
    assert _judge(*ratios, rule=replace(RULE, looks=2)).word == "regressed"
    found = _judge(*ratios, rule=replace(RULE, looks=3))
    assert found.word == "inconclusive"
    assert found.reason.endswith("but p = 0.0039 of 9 launches is not below 0.0033")


# Too few launches


@pytest.mark.parametrize("n", [1, 3, 6])
def test_less_than_seven_launches_claim_nothing(n):
    for rule in (RULE, Rule(alpha=0.9, fdr=1.0, looks=1)):
        for ratio in (0.5, 1.0, 2.0):
            found = _judge(*[ratio] * n, rule=rule)
            assert found.word == "inconclusive"
            assert found.detectable is None
            assert found.reason.startswith(f"no interval from {n} launch")
            assert found.reason.endswith(f"{launches_needed(rule)} are needed")


def test_seven_launches_cannot_pass_the_half_of_a_percent():
    found = _judge(*[1.2] * 7)
    assert found.word == "inconclusive"
    assert found.detectable is None
    assert found.reason == (
        "between 20.0 % slower and 20.0 % slower: 7 launches cannot show a difference at p < 0.005, 8 are needed"
    )
    assert _judge(*[0.8] * 7).word == "ok"  # less than 5 % slower they can show
    assert _judge(*[1.2] * 7, rule=replace(RULE, looks=1)).word == "regressed"
    assert _judge(*[1.2] * 8).word == "regressed"


def test_launches_needed():
    assert launches_needed(Rule(alpha=0.5, looks=1)) == 7
    assert launches_needed(RULE) == 8
    assert [launches_needed(RULE, rows) for rows in (12, 13, 51, 52)] == [8, 9, 10, 11]


# Many rows


def test_rows_are_adjusted_together_and_each_direction_alone():
    centres = (1.0, 1.02, 0.97, 1.1, 1.01)
    found = judge([_comparison(*_near(centre, 10, 0.004), name=str(centre)) for centre in centres], RULE)
    for p, q in (("p_slower", "q_slower"), ("p_faster", "q_faster")):
        expected = false_discovery_control([getattr(one, p) for one in found])
        assert [getattr(one, q) for one in found] == pytest.approx(expected)
    assert [one.word for one in found] == ["ok", "ok", "improved", "regressed", "ok"]


def test_one_slow_row_among_too_many_may_be_chance():
    rows = [_comparison(*_near(1.0), name=f"row {i}") for i in range(51)]
    slow = _comparison(*_near(1.08), name="slow")
    assert judge([*rows[:50], slow], RULE)[-1].word == "regressed"
    found = judge([*rows, slow], RULE)[-1]  # 52 / 1024 > 5 %
    assert found.word == "inconclusive"
    assert found.reason.endswith("(p = 0.00098), which may be chance among 52 rows (q = 0.051)")
    assert found.detectable is None
    twice = replace(slow, launches=slow.launches * 2)
    assert judge([*rows, twice], RULE)[-1].word == "regressed"
    assert judge([*rows, slow, replace(slow, name="slow, too")], RULE)[-1].word == "regressed"


def test_rows_that_were_not_measured_do_not_count_as_rows():
    lost = [_comparison(name=f"row {i}") for i in range(60)]
    found = judge([*lost, _comparison(*_near(1.08))], RULE)
    assert found[-1].q_slower == 2**-10
    assert found[-1].word == "regressed"


def test_verdicts_keep_the_order_of_rows():
    rows = [_comparison(*_near(1.0), name="a"), _comparison(name="b"), _comparison(*_near(1.1), name="c")]
    found = judge(rows, RULE)
    assert [one.comparison.name for one in found] == ["a", "b", "c"]
    assert [one.word for one in found] == ["ok", "not measured", "regressed"]


# Failures


@pytest.mark.parametrize(
    ("failed", "launches", "reason"),
    [
        ("candidate", 0, "the candidate failed at build (out of memory): it does not fit"),
        (None, 0, "both sides failed at build (out of memory): it does not fit"),
        ("baseline", 1, "the baseline failed at build after 1 launch (out of memory): it does not fit"),
        ("baseline", 9, "the baseline failed at build after 9 launches (out of memory): it does not fit"),
    ],
)
def test_a_failure_is_no_measurement_however_many_launches_came_before(failed, launches, reason):
    failure = Failure(kind="out_of_memory", stage="build", message="it does not fit")
    (found,) = judge([_comparison(*[1.0] * launches, failure=failure, failed=failed)], RULE)
    assert (found.word, found.reason) == ("not measured", reason)
    assert (found.ratio, found.p_slower, found.q_faster, found.detectable) == (None, None, None, None)


def test_nothing_measured_is_said():
    (found,) = judge([_comparison()], RULE)
    assert (found.word, found.reason) == ("not measured", "no launch was made")


# Flags


@pytest.mark.parametrize("flag", DOUBTS)
@pytest.mark.parametrize("centre", [0.9, 1.0, 1.1])
def test_a_doubtful_clock_caps_every_claim(flag, centre):
    (found,) = judge([_flagged(_near(centre), flag, count=4)], RULE)
    assert found.word == "inconclusive"
    assert found.reason.endswith(f"({flag}) in 4 of 10 launches")
    assert found.ratio.centre == pytest.approx(centre)  # shown all the same


@pytest.mark.parametrize("flag", DOUBTS)
def test_a_launch_with_a_doubtful_clock_is_left_out_and_the_others_judged(flag):
    wild = [3.0, *_near(1.1, 10)]
    (found,) = judge([_flagged(wild, flag, count=1)], RULE)
    assert found.word == "regressed"
    assert found.ratio.launches == 10
    assert found.ratio.centre == pytest.approx(1.1)


def test_a_clock_that_moves_meets_both_sides_and_voids_nothing():
    (found,) = judge([_flagged(_near(1.1), "clock_unsteady", count=10)], RULE)
    assert found.word == "regressed"


def test_noise_doubts_the_wall_clock_alone():
    (by_cpu,) = judge([_flagged(_near(1.1), "noisy_env", count=4)], RULE)
    (by_wall,) = judge([_flagged(_near(1.1), "noisy_env", count=4, timer="wall")], RULE)
    assert (by_cpu.word, by_wall.word) == ("regressed", "inconclusive")
    assert "something else was running" in by_wall.reason


def test_two_doubts_are_both_named_and_other_flags_doubt_nothing():
    (found,) = judge([_flagged(_near(1.1), "throttled", "clocks_differ", count=4)], RULE)
    assert "(throttled)" in found.reason
    assert "(clocks_differ)" in found.reason
    (found,) = judge([_flagged(_near(1.1), "power_capped", "scattered")], RULE)
    assert found.word == "regressed"


# Reasons


def test_scatter_is_named_with_its_numbers():
    found = _judge(*TORN)
    low, high = found.ratio.low, found.ratio.high
    assert low < 1 < high
    assert found.reason == (
        f"between {(1 - low) * 100:.1f} % faster and {(high - 1) * 100:.1f} % slower: "
        "the scatter of 10 launches cannot exclude 5 %"
    )


def test_slower_than_the_margin_but_not_enough_nor_surely_below_the_limit():
    found = _judge(*[1.015] * 6, 1.03, 1.09, 1.09, 1.09)
    assert found.p_slower == 2**-10
    assert found.ratio.centre < 1.06
    rule = replace(RULE, centre=0.06)
    assert "is below 6 %, the end above 5 %" in _judge(*[1.015] * 6, 1.03, 1.09, 1.09, 1.09, rule=rule).reason


# What could have been seen


@pytest.mark.parametrize("rows", [1, 12, 40])
@pytest.mark.parametrize("n", [10, 13, 20])
@pytest.mark.parametrize("scatter", [0.001, 0.01, 0.05])
def test_detectable_is_the_shift_that_turns_the_word(n, scatter, rows):
    logs = np.random.default_rng([n, rows]).normal(0, scatter, n)
    others = [_comparison(*_near(1.0), name=f"row {i}") for i in range(rows - 1)]
    least = judge([*others, _comparison(*np.exp(logs))], RULE)[-1].detectable
    centre = _judge(*np.exp(logs)).ratio.centre
    for share, word in ((least + 1e-9, True), (least - 1e-9, False)):
        shifted = np.exp(logs) / centre * (1 + share)
        assert (judge([*others, _comparison(*shifted)], RULE)[-1].word == "regressed") is word


def test_detectable_by_hand():
    # Eight launches: only T = 0 (p = 2^-8) is below 0.005, so the least launch must exceed the margin.
    logs = [math.log(ratio) for ratio in _near(1.0, 8, 0.02)]
    assert detectable(logs, RULE) == pytest.approx(1.01 * math.exp(0.07) - 1)
    assert detectable([0.0] * 8, RULE) == RULE.centre  # never below what counts
    assert detectable(logs, RULE, rows=13) is None
    assert detectable(logs[:7], RULE) is None


# The whole


def test_the_suites_ratio_is_the_geometric_mean_within_a_launch():
    rows = [_comparison(*[1.21] * 10), _comparison(*[1.0] * 10)]
    assert suite_ratio(rows).centre == pytest.approx(1.1)
    assert suite_ratio(rows).launches == 10


def test_a_launch_that_hits_all_rows_is_one_launch():
    shared = [1.0, 1.02, 0.98, 1.01, 0.99, 1.03, 0.97]
    rows = [_comparison(*shared, name=str(i)) for i in range(30)]
    assert suite_ratio(rows).low == pytest.approx(judge(rows[:1], RULE)[0].ratio.low)


def test_the_suite_sees_what_no_row_can():
    rng = np.random.default_rng(3)
    rows = [_comparison(*np.exp(rng.normal(math.log(1.01), 0.02, 10)), name=str(i)) for i in range(40)]
    assert not [found for found in judge(rows, RULE) if found.word == "regressed"]
    assert suite_ratio(rows).low > 1.005


def test_the_suite_takes_the_launches_that_every_row_has_and_the_rows_that_hold():
    failure = Failure(kind="crashed", stage="timing", message="gone")
    rows = [
        _comparison(*[1.0] * 10, *[1.5] * 10),  # its second look is not the suite's
        _comparison(*[1.0] * 10),
        _comparison(*[2.0] * 3, failure=failure),
        _flagged([2.0] * 10, "throttled", count=4),
        _comparison(),
    ]
    assert suite_ratio(rows).centre == pytest.approx(1.0)
    assert suite_ratio(rows).launches == 10
    assert suite_ratio(rows[2:]) is None
    assert suite_ratio([]) is None


def test_a_second_look_is_for_what_more_launches_can_settle():
    rows = [
        _comparison(*_near(1.1), name="slow"),
        _comparison(*TORN, name="torn"),
        _comparison(1.0, 1.0, name="few"),
        _comparison(*_near(1.0), name="fine"),
        _comparison(*_near(0.9), name="fast"),
        _comparison(name="none"),
        replace(_flagged(_near(1.1), "throttled", count=4), name="hot"),
    ]
    assert needs_second_look(judge(rows, RULE)) == ("slow", "torn", "few", "fast")
