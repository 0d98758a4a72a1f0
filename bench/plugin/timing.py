"""The second tier of the gate for one model of a test suite: timed against a git revision, in turns."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from visionbench.comparison import structure
from visionbench.comparison.structure import Structures
from visionbench.comparison.verdict import Change, Rule, Verdict
from visionbench.plugin.structure import changes_of, lines
from visionbench.plugin.words import Asked, Found, Wanted, Word
from visionbench.record.errors import BenchError
from visionbench.record.spec import Spec

if TYPE_CHECKING:
    from visionbench.command.sides import Sides
    from visionbench.judging.duet import Stage


def timed(wanted: Wanted, now: Structures, asked: Asked) -> Found:
    """The model against the base, in turns, as a gate of one row."""
    from visionbench.command import sides
    from visionbench.judging import duet

    options = Namespace(base=asked.base, head=None, environment="auto")
    with ExitStack() as stack:
        try:
            spec, device = _placed(wanted)
            found = sides.revisions(options, [spec], stack)
            verdict, remarks = _judged(found, duet.stage(device, wanted.threads, sources=found.sources), asked)
            behind = _behind(found, now, asked) if verdict.word == "regressed" else ()
        except BenchError as error:
            return Found(word="error", text=str(error), properties=(("verdict", "not measured"),))
    word: Word = "skipped" if verdict.word == "inconclusive" and not asked.strict else _WORDS[verdict.word]
    told = [] if word == "passed" else list(_told(verdict, found.title, (*remarks, *found.remarks), behind))
    text = "; ".join(line.strip(" .") for line in told) if word == "skipped" else "\n".join(told)  # a reason: one line
    return Found(word=word, text=text, properties=tuple(_numbers(verdict, asked)))


_WORDS: dict[str, Word] = {
    "ok": "passed",
    "improved": "passed",
    "regressed": "failed",
    "inconclusive": "failed",
    "not measured": "error",
}


def _placed(wanted: Wanted) -> tuple[Spec, str]:
    """The spec with its batch, and the device, chosen as `gate` does."""
    from visionbench.command.selection import usual_batch
    from visionbench.machine.environment import find_device

    device = wanted.device or find_device()
    return replace(wanted.spec, batch_size=usual_batch(wanted.batch_size, device)), device


def _judged(found: Sides, stage: Stage, asked: Asked) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict, and what is to be said about it.

    Each model is a gate of its own, so the false discoveries that a gate may make are shared out among them.
    """
    from visionbench.judging.gate import LAUNCHES, Plan, drawn, gate
    from visionbench.judging.verdict import launches_needed
    from visionbench.machine.environment import describe

    rule = replace(Rule(), fdr=Rule().fdr / max(asked.models, 1))
    plan = Plan(launches=max(LAUNCHES, launches_needed(rule)), budget=asked.budget, seed=drawn(None))
    outcome = gate(found.rows, stage, describe(stage.device, stage.threads), plan, rule)
    cut = (f"The budget of {asked.budget:g} s ended before all launches were made.",) if outcome.cut_short else ()
    return outcome.verdicts[0], cut


def _behind(found: Sides, now: Structures, asked: Asked) -> tuple[Change, ...]:
    """Changes of structure since the base, by the baseline that the base has committed; () where it has none."""
    base, repository = found.sources[0].tree, found.sources[0].repository
    if base is None or repository is None or not asked.baseline.resolve().is_relative_to(repository):
        return ()
    try:
        return changes_of(structure.read(base / asked.baseline.resolve().relative_to(repository)), now)
    except BenchError:
        return ()


def _told(verdict: Verdict, title: str, remarks: Sequence[str], behind: Sequence[Change]) -> Iterator[str]:
    """The verdict with its numbers and reasons, and which layers are behind a slow-down as far as structure knows."""
    from visionbench.reports.results.verdict_text import detail, doubts, why

    yield f"{verdict.comparison.name} is {verdict.word} ({title}): {detail(verdict)}".rstrip(": ")
    yield from (f"  {reason}" for reason in (*why(verdict), *doubts(verdict), *remarks))
    if behind:
        yield from ("  What its structure does otherwise than the base's:", *(f"  {line}" for line in lines(behind)))
    elif verdict.word == "regressed":
        yield "  Its structure is not known to differ from the base's: the same operators, or their layout, cost more."


def _numbers(verdict: Verdict, asked: Asked) -> Iterator[tuple[str, str]]:
    """The verdict for whoever collects test reports; ratios are of time, candidate over baseline."""
    yield "verdict", verdict.word
    yield "base", str(asked.base)
    if verdict.ratio is not None:
        bounds = {"ratio": verdict.ratio.centre, "ratio_low": verdict.ratio.low, "ratio_high": verdict.ratio.high}
        yield from ((name, f"{value:.5f}") for name, value in bounds.items() if value is not None)
    yield "launches", str(len(verdict.comparison.launches))
