"""What a self-test's runs come to: counts, rates with their exact bounds, and the machine's noise profile."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from statistics import median

from scipy.stats import beta

from visionbench.comparison.noise_profile import Condition, Findings, Profile
from visionbench.comparison.verdict import Verdict, Word
from visionbench.judging.duet import Stage
from visionbench.judging.selftest import EQUAL, Ask, Run
from visionbench.record.fingerprint import fingerprint, fingerprint_id
from visionbench.record.record import Environment

CONFIDENCE = 0.95


def at_most(hits: int, tries: int) -> float | None:
    """The one-sided upper bound of a rate (Clopper and Pearson 1934); None where nothing was tried."""
    if tries == 0:
        return None
    return 1.0 if hits == tries else float(beta.ppf(CONFIDENCE, hits + 1, tries - hits))


def at_least(hits: int, tries: int) -> float | None:
    """The one-sided lower bound of a rate; None where nothing was tried."""
    if tries == 0:
        return None
    return 0.0 if hits == 0 else float(beta.ppf(1 - CONFIDENCE, hits, tries - hits + 1))


def findings(runs: Sequence[Run], ask: Ask) -> tuple[Findings, ...]:
    """What was found out under each condition, in the order in which they were asked for."""
    by_condition = ((name, [run for run in runs if run.suite.condition == name]) for name in ask.conditions)
    return tuple(_findings(name, its, ask) for name, its in by_condition if its)


def _findings(condition: Condition, runs: Sequence[Run], ask: Ask) -> Findings:
    suites = [run for run in runs if run.suite.share == EQUAL]
    same = _measured(suites)
    slower = _measured(run for run in runs if run.suite.share != EQUAL)
    regressed, found = _count(same, "regressed"), _count(slower, "regressed")
    failed = sum(any(verdict.word == "regressed" for verdict in run.outcome.verdicts) for run in suites)
    covers = [*_covers(same, 1.0), *_covers(slower, 1 + float(ask.share))]
    return Findings(
        condition=condition,
        share=float(ask.share),
        same=len(same),
        regressed=regressed,
        improved=_count(same, "improved"),
        inconclusive=_count(same, "inconclusive"),
        regressed_at_most=at_most(regressed, len(same)),
        suites=len(suites),
        failed_suites=failed,
        failed_suites_at_most=at_most(failed, len(suites)),
        slower=len(slower),
        found=found,
        found_at_least=at_least(found, len(slower)),
        intervals=len(covers),
        covered=sum(covers),
        same_ratio=_middle(verdict.ratio.centre for verdict in same if verdict.ratio),
        slower_ratio=_middle(verdict.ratio.centre for verdict in slower if verdict.ratio),
        detectable=_middle(one.detectable for one in (*same, *slower) if one.detectable is not None),
        launch_seconds=_middle(seconds for run in runs for seconds in run.launch_seconds),
        lost=sum(len(run.outcome.verdicts) for run in runs) - len(same) - len(slower),
    )


def _measured(runs: Iterable[Run]) -> list[Verdict]:
    return [verdict for run in runs for verdict in run.outcome.verdicts if verdict.word != "not measured"]


def _count(verdicts: Sequence[Verdict], word: Word) -> int:
    return sum(verdict.word == word for verdict in verdicts)


def _covers(verdicts: Iterable[Verdict], truth: float) -> list[bool]:
    """Whether each interval holds the truth; launches that allow no interval are no evidence."""
    ratios = (verdict.ratio for verdict in verdicts)
    return [one.low <= truth <= one.high for one in ratios if one and one.low is not None and one.high is not None]


def _middle(values: Iterable[float]) -> float | None:
    known = list(values)
    return median(known) if known else None


def profile(runs: Sequence[Run], ask: Ask, stage: Stage, environment: Environment, today: date) -> Profile:
    """The noise profile of this machine: what `selftest`'s runs found on it, and how."""
    return Profile(
        fingerprint=fingerprint_id(environment),
        facts=fingerprint(environment),
        date=today.isoformat(),
        device=environment.device,
        torch=environment.torch,
        launches=ask.launches,
        rounds=stage.rounds,
        rule=runs[0].outcome.rule,  # the applied one, and all suites' alike: none has a budget of its own
        findings=findings(runs, ask),
    )
