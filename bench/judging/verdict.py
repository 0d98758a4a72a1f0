"""Comparisons in, verdicts out: the arithmetic of the gate, without a clock and without chance.

A row's data are its launches' log ratios x_1 ... x_n (`comparison.log_ratios`). Everything is read off their Walsh
averages (x_i + x_j) / 2, i <= j, of which there are N = n (n + 1) / 2:

- The centre is their median (Hodges & Lehmann 1963).
- "The ratio is at most 1 + margin" is tested by T, the number of Walsh averages that do not exceed log(1 + margin):
  Wilcoxon's (1945) signed-rank sum of the launches below the margin. Where x is symmetric about the margin each of the
  2^n patterns of signs is equally likely, so P(T <= t) is counted out (beyond 60 launches: nearly). The symmetry comes
  with the design and not from a belief about noise (Hoefler & Belli 2015, rule 6): two sides without a difference can
  be swapped, which turns x into -x, and a slow-down that is a factor only shifts x.
- A bound is the test inverted, the t-th smallest average. It is moved out where launches remember each other, and the
  test with it (`spread_of_memory`: neighbours in time are not independent, so n of them say less than n), and where
  they are of two kinds (`in_turns`: averages of both kinds meet where no launch is).

The burden of proof is on every word but `inconclusive`. `ok` needs the whole interval below the limit, and two other
numbers of the same launches that agree: what the ratio cannot see (waiting, a cost in some iterations) is no `ok`.
`regressed` and `improved` need a difference that is larger than the ratio's own movement during the job (`movement`).

An average that equals the margin counts as not above it. Zeros and ties so count for "nothing happened": p is then at
least what any way of breaking them would give, and the test keeps its level.

Of m rows at p < 0.01 a hundredth would be called by chance, so p is adjusted over all measured rows of the gate, for
slower and for faster separately (Benjamini & Hochberg 1995). And a difference is tested against a margin, not against
none: two builds are never exactly equal, so with launches enough every difference is significant.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from scipy.stats import false_discovery_control

from visionbench.comparison.comparison import (
    Comparison,
    is_doubtful,
    is_void,
    log_ratio,
    log_ratios,
    mean_log_ratios,
    wall_log_ratios,
)
from visionbench.comparison.verdict import Rule, Verdict, Word
from visionbench.judging import movement
from visionbench.record.flags import FLAGS, meaning, voids_ratio
from visionbench.record.statistics import (
    EQUAL,
    MIN_LAUNCHES,
    Estimate,
    Walsh,
    estimate,
    in_turns,
    p_above,
    signed_rank_chance,
    spread_of_memory,
)
from visionbench.record.units import plural


@dataclass(frozen=True, slots=True, kw_only=True)
class _Test:
    """One direction of one row: its p-value against the margin, and the same adjusted for all rows."""

    p: float
    q: float


def judge(comparisons: Sequence[Comparison], rule: Rule, *, looks: int | Mapping[str, int] = 1) -> tuple[Verdict, ...]:
    """One verdict per comparison, in their order.

    `looks` says how often a row has been looked at, this time included: one number for all, or by the row's name (1 for
    those without one). It is stored; every look is tested at `rule.alpha / rule.looks`, however many there were.
    """
    measured = [comparison for comparison in comparisons if _is_measured(comparison)]
    logs = [log_ratios(one) for one in measured]
    slower = _tests(logs, rule)
    faster = _tests([[-value for value in row] for row in logs], rule)
    rows = zip(measured, logs, slower, faster, strict=True)
    judged = iter([_judge_one(one, values, up, down, rule, len(measured)) for one, values, up, down in rows])
    verdicts = (next(judged) if _is_measured(comparison) else _not_measured(comparison) for comparison in comparisons)
    times = dict.fromkeys((one.name for one in comparisons), looks) if isinstance(looks, int) else looks
    return tuple(replace(verdict, looks=times.get(verdict.comparison.name, 1)) for verdict in verdicts)


def needs_second_look(verdicts: Sequence[Verdict]) -> tuple[str, ...]:
    """The rows that more launches could bring to another word: all that are not `ok`, unless a flag doubts them.

    The gate stops when a row has had `Rule.looks` of them.
    """
    open_rows = (verdict for verdict in verdicts if verdict.word not in ("ok", "not measured"))
    return tuple(open_row.comparison.name for open_row in open_rows if not _doubts(open_row.comparison))


def suite_ratio(comparisons: Sequence[Comparison]) -> Estimate | None:
    """The geometric mean of the rows' ratios with its interval over launches; None if no row can take part.

    Launch i of every row is one pair of processes, so the mean is taken over rows within a launch, and the interval
    over launches: as many as every row has, the first ones, because later ones were made only for rows that stood out;
    one that a flag voids for any row is left out. Rows that were not measured or that are doubtful stay away.
    Geometric, because ratios have no other mean that is the same whichever side is the baseline (Hoefler & Belli 2015,
    rule 4).
    """
    rows = [comparison for comparison in comparisons if _is_measured(comparison) and not is_doubtful(comparison)]
    usable = [
        launches
        for launches in zip(*(row.launches for row in rows), strict=False)
        if not any(is_void(launch, row.timer) for launch, row in zip(launches, rows, strict=True))
    ]
    return estimate([math.exp(sum(map(log_ratio, launches)) / len(rows)) for launches in usable]) if usable else None


def launches_needed(rule: Rule, rows: int = 1) -> int:
    """The fewest launches with which one row among `rows` can be called regressed by one look.

    n launches on one side of the margin have p = 2^-n, and alone among m rows q = m 2^-n.
    """
    needed = MIN_LAUNCHES
    while 2.0**-needed >= rule.alpha / rule.looks or rows * 2.0**-needed > rule.fdr:
        needed += 1
    return needed


def _is_measured(comparison: Comparison) -> bool:
    """Whether a row takes part. A side that died on the way leaves launches, but nothing half known is ever `ok`."""
    return bool(comparison.launches) and comparison.failure is None


def _tests(rows: Sequence[Sequence[float]], rule: Rule) -> list[_Test]:
    """Whether each row's ratio exceeds the margin."""
    if not rows:
        return []
    p_values = [p_above(row, math.log(1 + rule.margin)) for row in rows]
    return [_Test(p=p, q=float(q)) for p, q in zip(p_values, false_discovery_control(p_values), strict=True)]


def detectable(logs: Sequence[float], rule: Rule, rows: int = 1) -> float | None:
    """The smallest slow-down, as a share, at which launches that scatter like `logs` would have been called regressed.

    Shift the launches so that their centre is log(1 + s). They are called if s >= `rule.centre` and the Walsh average
    that bounds the test from below, W_(t+1) with t the largest for which P(T <= t) is small enough, exceeds the margin:
    log(1 + s) > log(1 + margin) + (centre - W_(t+1)). Small enough is for a row that is slower alone, the hardest case:
    below alpha of the look, and at most `rule.fdr` / rows. None where so few launches show nothing, however slow.
    """
    averages = Walsh(logs)

    def is_too_likely(total: int) -> bool:
        chance = signed_rank_chance(len(logs), total)
        return chance >= rule.alpha / rule.looks or chance * rows > rule.fdr

    usable = bisect.bisect_left(range(len(averages) + 1), x=True, key=is_too_likely)
    if len(logs) < MIN_LAUNCHES or not usable:
        return None
    to_bound = (averages.median - averages[usable - 1]) * spread_of_memory(logs)
    to_bound = max(to_bound, movement.needed(logs, rule.alpha / rule.looks))
    return max(rule.centre, (1 + rule.margin) * math.exp(to_bound) - 1)


def _judge_one(
    comparison: Comparison, logs: Sequence[float], slower: _Test, faster: _Test, rule: Rule, rows: int
) -> Verdict:
    ratio = in_turns(logs)
    found = Verdict(
        word="inconclusive",
        comparison=comparison,
        ratio=ratio,
        wall=in_turns(wall_log_ratios(comparison)),
        mean=in_turns(mean_log_ratios(comparison)),
        p_slower=slower.p,
        p_faster=faster.p,
        q_slower=slower.q,
        q_faster=faster.q,
        detectable=detectable(logs, rule, rows),
    )
    if doubt := "; ".join(_doubts(comparison)):
        return replace(found, reason=doubt)
    word = _word(math.log(ratio.centre), ratio.high, slower, faster, rule)
    if word in ("ok", "improved") and (parted := _parted(found, rule)):
        return replace(found, reason=parted)
    if word in ("regressed", "improved") and (moved := _moved(ratio, logs, rule)):
        return replace(found, reason=moved)
    why = _why(ratio, slower, rule, rows) if word == "inconclusive" else ""
    if why and spread_of_memory(logs) > 1:  # launches that remember each other have a wider interval
        why += f"; the ratio moved by {_far(logs)} meanwhile"
    return replace(found, word=word, reason=why)


def _parted(verdict: Verdict, rule: Rule) -> str:
    """In words, what the ratio cannot see and another number of the same launches does; "" where they agree.

    CPU time does not see waiting, and a minimum or a median no cost that comes in every third iteration.
    """
    ratio = verdict.ratio
    others = (
        (verdict.wall, "by the wall clock", "waits"),
        (verdict.mean, "by the mean of all readings", "pays at times"),
    )
    for other, by, does in others:
        if not ratio or not other or ratio.high is None or other.low is None or other.high is None:
            continue
        if other.low > ratio.high and other.high >= 1 + rule.limit:
            between = _between(other.low, other.high)
            return f"{between} {by}, which parts from the ratio: the candidate {does} for something that it cannot see"
    return ""


def _moved(ratio: Estimate, logs: Sequence[float], rule: Rule) -> str:
    """In words, that the ratio moved too far during the job for its centre to say something; "" where it did not."""
    away = abs(math.log(ratio.centre)) - math.log(1 + rule.margin)
    if ratio.low is None or ratio.high is None or away > movement.needed(logs, rule.alpha / rule.looks):
        return ""
    return (
        f"{_between(ratio.low, ratio.high)}, but the ratio moved by {_far(logs)} during the "
        f"{plural(ratio.launches, 'launch', 'launches')}: what moved it may be all of the difference"
    )


def _far(logs: Sequence[float]) -> str:
    return f"{math.expm1(movement.spread(logs)) * 100:.1f} %"


def _word(centre: float, upper: float | None, slower: _Test, faster: _Test, rule: Rule) -> Word:
    """The verdict by `Rule`; `centre` is a logarithm, `upper` a ratio, None where there are too few launches."""
    if upper is None:
        return "inconclusive"
    enough = math.log(1 + rule.centre) - EQUAL
    if _is_shown(slower, rule) and centre >= enough:
        return "regressed"
    below = math.log(upper) < math.log(1 + rule.limit) - EQUAL
    if below and _is_shown(faster, rule) and -centre >= enough:
        return "improved"
    return "ok" if below else "inconclusive"


def _is_shown(test: _Test, rule: Rule) -> bool:
    return test.p < rule.alpha / rule.looks and test.q <= rule.fdr


def _doubts(comparison: Comparison) -> list[str]:
    """In words, what makes every claim about this row unsafe; nothing where few launches are affected."""
    if not is_doubtful(comparison):
        return []
    launches = comparison.launches
    counts = {name: sum(name in launch.flags for launch in launches) for name in FLAGS}
    return [
        f"{meaning(name)} ({name}) in {count} of {plural(len(launches), 'launch', 'launches')}"
        for name, count in counts.items()
        if count and voids_ratio(name, comparison.timer)
    ]


def _why(ratio: Estimate, slower: _Test, rule: Rule, rows: int) -> str:
    """One sentence: what the launches of an inconclusive row could not settle."""
    launches, alpha = plural(ratio.launches, "launch", "launches"), rule.alpha / rule.looks
    if ratio.low is None or ratio.high is None:
        return f"no interval from {launches}: {launches_needed(rule)} are needed"
    between = _between(ratio.low, ratio.high)
    if ratio.launches < (needed := launches_needed(rule)):
        return f"{between}: {launches} cannot show a difference at p < {alpha:.2g}, {needed} are needed"
    if slower.p < alpha and slower.q > rule.fdr:
        return f"{between} (p = {slower.p:.2g}), which may be chance among {rows} rows (q = {slower.q:.2g})"
    if slower.p < alpha:
        centre = f"{(ratio.centre - 1) * 100:.1f} %"
        return f"{between}: a centre of {centre} is below {_percent(rule.centre)}, the end above {_percent(rule.limit)}"
    if ratio.low > 1 + rule.margin:
        return f"{between}, but p = {slower.p:.2g} of {launches} is not below {alpha:.2g}"
    return f"{between}: the scatter of {launches} cannot exclude {_percent(rule.limit)}"


def _between(low: float, high: float) -> str:
    """`between 2.1 % faster and 6.3 % slower`, in shares of time."""
    ends = [f"{abs(end - 1) * 100:.1f} % {'slower' if end >= 1 else 'faster'}" for end in (low, high)]
    return f"between {ends[0]} and {ends[1]}"


def _percent(share: float) -> str:
    return f"{share * 100:g} %"


def _not_measured(comparison: Comparison) -> Verdict:
    """One sentence for what did not happen. A failed row with launches shows no number: it was not finished."""
    failure = comparison.failure
    if failure is None:
        reason = "no launch was made"
    else:
        who = f"the {comparison.failed}" if comparison.failed else "both sides"
        made = f" after {plural(len(comparison.launches), 'launch', 'launches')}" if comparison.launches else ""
        reason = f"{who} failed at {failure.stage}{made} ({failure.kind.replace('_', ' ')}): {failure.message}"
    return Verdict(word="not measured", comparison=comparison, reason=reason)
