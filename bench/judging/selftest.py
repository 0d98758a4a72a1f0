"""The gate's self-test: rows whose truth is known, judged as any others, and how often the verdict was right.

Equal rows run one ladder (`visionbench.models.ladder`) on both sides, slower rows have a candidate with some blocks
more, which costs an exact share. Each side has its own work tree, as in real use, where paths and compiled
files differ although the code does not. Suites of rows are disjoint runs of the whole gate, second looks included,
because a rate that is counted over overlapping windows of the same launches has a far wider bound than it seems to
have.

A suite has rows of one truth: slower rows beside equal ones would lend them their p-values through the false discovery
rate. Suites of both truths and under all conditions take turns, so that a budget that ends leaves some of each, and
so that no hour of the day is one condition's.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import date
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Protocol, get_args

from scipy.stats import beta

from visionbench.comparison.comparison import Side
from visionbench.comparison.noise_profile import Condition, Findings, Profile
from visionbench.comparison.verdict import Rule, Verdict, Word
from visionbench.judging import gate as judging
from visionbench.judging.busy_core import busy_core
from visionbench.judging.duet import Row, Stage
from visionbench.judging.worktrees import Revision, checked_out, repository
from visionbench.record.errors import BenchError
from visionbench.record.fingerprint import fingerprint, fingerprint_id
from visionbench.record.record import Environment
from visionbench.record.spec import Spec

FEWEST_BLOCKS, MOST_BLOCKS = 20, 60
"""Fewer, and the stem's time shows in the ratio; more, and a launch takes minutes."""

IMAGE_SIZE = 64
"""Pixels: what ladders are sized for."""

FILLING = 512
"""Images per step on a GPU: as many pixels as 42 of 224 x 224. One image would time the host's launches."""

CONFIDENCE = 0.95
"""Of the exact bounds of rates."""

EQUAL = Fraction(0)
"""The share that equal rows' candidates cost more."""


ONE_SOURCE = (
    "Both sides ran from the same folder, because there is no git checkout to put into two: in life their paths differ."
)
"""What to say of a self-test for which `in_trees` had no trees."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What is wanted: so many equal rows, and as many whose candidate costs `share` more (0: none), per condition.

    `launches` are per look. `budget`, in seconds, is for everything: no suite is begun that would not end in time,
    going by the longest so far; the first always is.
    """

    rows: int = 30
    share: Fraction = Fraction(1, 20)
    conditions: tuple[Condition, ...] = get_args(Condition)
    launches: int = judging.LAUNCHES
    budget: float | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """One run of the gate: a row per kind of ladder, all of one truth."""

    condition: Condition
    share: Fraction
    kinds: tuple[str, ...]
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What came of a suite. `launch_seconds` are those of the first look, in which all rows take part."""

    suite: Suite
    outcome: judging.Outcome
    launch_seconds: tuple[float, ...]


class Progress(judging.Progress, Protocol):
    """Receives the self-test's progress: the gate's launches, and which suite they belong to."""

    def began(self, suite: Suite, number: int, planned: int) -> None:
        """The suite of that number, counted from 1, begins."""


def parse_share(text: str) -> Fraction:
    """`5%` or `0.05`, exactly. Raises `BenchError` for anything else, and for what no ladder costs more."""
    try:
        share = Fraction(text.strip().removesuffix("%").strip()) / (100 if text.strip().endswith("%") else 1)
    except (ValueError, ZeroDivisionError) as error:
        raise BenchError(f"'{text}' is no share: say 5% or 0.05.") from error
    depths(share)
    return share


def depths(share: Fraction) -> tuple[int, int]:
    """Blocks of the baseline and of the candidate, which costs exactly `share` more: the smallest that do.

    Raises `BenchError` if none do.
    """
    for blocks in range(FEWEST_BLOCKS, MOST_BLOCKS + 1):
        more = blocks * share
        if more.denominator == 1 and 0 <= more <= MOST_BLOCKS - FEWEST_BLOCKS:
            return blocks, blocks + int(more)
    raise BenchError(
        f"no ladder of {FEWEST_BLOCKS} to {MOST_BLOCKS} blocks gets exactly {float(share * 100):g} % slower by whole "
        "blocks: ask for 2 %, 4 %, 5 %, 10 % or 20 %."
    )


def rows(
    kinds: Sequence[str], share: Fraction, sides: tuple[Revision, Revision] | None = None, *, images: int = 1
) -> tuple[Row, ...]:
    """One row per kind, with a candidate that costs exactly `share` more. `sides` are the revisions they run from, and
    `images` the batch.
    """
    return tuple(
        Row(
            name=f"{kind}, {blocks[0]} against {blocks[1]} blocks",
            baseline=_side(kind, blocks[0], sides[0] if sides else None, images),
            candidate=_side(kind, blocks[1], sides[1] if sides else None, images),
        )
        for blocks in [depths(share)]
        for kind in kinds
    )


def _side(kind: str, blocks: int, revision: Revision | None, images: int) -> Side:
    spec = Spec(model=f"ladder:{kind}_{blocks}", image_size=IMAGE_SIZE, batch_size=images)
    return Side(label=f"{blocks} blocks", spec=spec, commit=revision.commit if revision else None)


def schedule(ask: Ask, kinds: Sequence[str]) -> tuple[Suite, ...]:
    """The suites in the order in which they are run: one row per kind in each, fewer in the last ones.

    Raises `BenchError` if nothing is asked for.
    """
    if ask.rows < 1 or ask.launches < 1 or not kinds or not ask.conditions:
        raise BenchError("a self-test needs rows, launches and a condition: say --aa 30.")
    rng = random.Random(ask.seed)  # noqa: S311  # seeds of suites, no secrets
    wanted = itertools.islice(itertools.cycle(kinds), ask.rows)
    shares = (EQUAL, ask.share) if ask.share else (EQUAL,)
    suites = []
    while some := tuple(itertools.islice(wanted, len(kinds))):
        for condition, share in itertools.product(ask.conditions, shares):
            suites.append(Suite(condition=condition, share=share, kinds=some, seed=rng.randrange(2**31)))
    return tuple(suites)


def selftest(
    ask: Ask,
    kinds: Sequence[str],
    stage: Stage,
    environment: Environment,
    rule: Rule,
    sides: tuple[Revision, Revision] | None = None,
    progress: Progress | None = None,
    keep: Callable[[Sequence[Run]], None] = lambda _: None,
) -> tuple[Run, ...]:
    """Run the suites, or those for which the budget lasts. `stage` and `sides` are `in_trees`'s, or of one source.

    `keep` gets all runs so far after each.

    Raises `BenchError` for an impossible request, and if not one row of the first suite could be measured.
    """
    planned, runs = schedule(ask, kinds), list[Run]()
    begun, longest = time.monotonic(), 0.0
    for number, suite in enumerate(planned, start=1):
        began = time.monotonic()
        if runs and ask.budget is not None and began - begun + longest > ask.budget:
            break
        if progress is not None:
            progress.began(suite, number, len(planned))
        runs.append(_run(suite, ask, stage, environment, rule, sides, progress))
        verdicts = runs[0].outcome.verdicts
        if all(verdict.word == "not measured" for verdict in verdicts):
            raise BenchError(f"not one row of the self-test could be measured ({verdicts[0].reason}): mend that first.")
        keep(runs)
        longest = max(longest, time.monotonic() - began)
    return tuple(runs)


def _run(
    suite: Suite,
    ask: Ask,
    stage: Stage,
    environment: Environment,
    rule: Rule,
    sides: tuple[Revision, Revision] | None,
    progress: Progress | None,
) -> Run:
    neighbour = busy_core(random.Random(suite.seed)) if suite.condition == "busy" else nullcontext()  # noqa: S311
    # No budget: a suite that is cut short says nothing about the gate as it is used.
    plan = judging.Plan(launches=ask.launches, seed=suite.seed)
    played = rows(suite.kinds, suite.share, sides, images=1 if stage.device.startswith("cpu") else FILLING)
    ends = [time.monotonic()]
    with neighbour:
        outcome = judging.gate(
            played, stage, environment, plan, rule, lambda _: ends.append(time.monotonic()), progress
        )
    seconds = tuple(end - begin for begin, end in itertools.pairwise(ends[: ask.launches + 1]))
    return Run(suite=suite, outcome=outcome, launch_seconds=seconds)


@contextmanager
def in_trees(stage: Stage, start: Path) -> Iterator[tuple[Stage, tuple[Revision, Revision] | None]]:
    """The stage with one work tree per side, both at the commit of the checkout that contains `start`.

    Where there is no such checkout both sides run from the same source, and there are no revisions (`ONE_SOURCE`).
    """
    with ExitStack() as stack:
        sides = None
        with suppress(BenchError):  # no git, no checkout, no commit: none of them is needed
            root = repository(start)
            baseline, candidate = (stack.enter_context(checked_out(root, "HEAD")) for _ in range(2))
            sides = baseline, candidate
            stage = replace(
                stage,
                baseline=replace(stage.baseline, tree=baseline.tree, repository=root),
                candidate=replace(stage.candidate, tree=candidate.tree, repository=root),
            )
        yield stage, sides


# --- what the runs come to


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
    return tuple(_findings(name, of_condition, ask) for name, of_condition in by_condition if of_condition)


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
    return [
        ratio.low <= truth <= ratio.high
        for ratio in ratios
        if ratio and ratio.low is not None and ratio.high is not None
    ]


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
