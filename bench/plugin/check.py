"""Both parts of the gate for one model of a test suite, without pytest.

The structure is counted in this process and compared with a file in the suite's repository; the timing is done in other
processes, in turns with a git revision. Both start from the suite's root directory, from where a user's factory is
imported, and leave directory and import path as they were.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from visionbench.comparison import structure
from visionbench.comparison.structure import OtherVersionsError, Structures
from visionbench.comparison.verdict import Change, Rule, Verdict
from visionbench.models import ModelError
from visionbench.record.clean import clean, clean_lines
from visionbench.record.errors import BenchError
from visionbench.record.files import locked
from visionbench.record.inputs import texts_of
from visionbench.record.spec import Spec, image_size_of

if TYPE_CHECKING:
    from visionbench.command.sides import Sides
    from visionbench.judging.duet import Stage

Word = Literal["passed", "failed", "skipped", "error"]

WORST: tuple[Word, ...] = ("failed", "error", "skipped", "passed")
"""Of the two parts, the outcome that is reported."""

UPDATE = "pytest --visionbench-update"
"""The command that accepts a change of structure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the command line and the ini file say: `folder` is the suite's root, `models` how many tests check a model.

    `base` is a git revision, None for no timing; `budget` is in seconds, for one model.
    """

    folder: Path
    baseline: Path
    update: bool = False
    base: str | None = None
    budget: float | None = None
    strict: bool = False
    models: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a check of a model ended: the outcome in pytest's words, the message, and properties for a test report.

    `summary` is the verdict on its speed in a line, "" where it was not timed.
    """

    word: Word = "passed"
    text: str = ""
    summary: str = ""
    properties: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model and how it is run; `batch_size` None is one image, and on a GPU as many as the gate takes."""

    spec: Spec
    batch_size: int | None
    training: bool
    device: str | None
    threads: int | None


def check(name: str, marker: Mapping[str, Any], settings: Settings, handed: Any = None) -> Outcome:
    """Both parts, as far as they are asked for; `marker` holds the keywords of the marker `visionbench`.

    `handed` is the network itself, or what makes it, where only this process has it.
    """
    with _in(settings.folder), _known(name, handed):
        try:
            model = _model(name, marker)
            now = _count(model)
            outcomes = [_compare_structure(now, settings)]
            if settings.base is not None:
                outcomes.append(_compare_time(model, now, settings) if handed is None else NOT_AT_THE_BASE)
        except (BenchError, ModelError) as error:
            return Outcome(word="failed", text=clean_lines(f"{name}: {error}"))
    return _together(outcomes)


@contextmanager
def _in(folder: Path) -> Iterator[None]:
    """Work in `folder`; what is imported from there stays imported, the import path does not stay changed."""
    path = list(sys.path)
    try:
        with contextlib.chdir(folder):
            yield
    finally:
        sys.path[:] = path


NOT_AT_THE_BASE = Outcome(
    word="error",
    text="the base cannot build an object of this process, so it was not timed: hand over a function at the top of a "
    "module that returns the network.",
    properties=(("verdict", "not measured"),),
)


def _known(name: str, handed: Any) -> AbstractContextManager[None]:
    """While it lasts, `name` is what was handed over; nothing changes for None."""
    if handed is None:
        return contextlib.nullcontext()
    import torch

    from visionbench.models.given import Given, copies, known

    factory = copies(handed, name) if isinstance(handed, torch.nn.Module) else handed
    return known(Given(name=name, factory=factory))


def _model(name: str, marker: Mapping[str, Any]) -> Model:
    """The model of that name, run as the marker says. Raises `BenchError` for a setting that does not exist."""
    from visionbench import models

    card, left = models.resolve(name), dict(marker)
    models.load(card.name)  # here, where what the import warns of is the suite's to see
    training, device, threads = left.pop("training", True), left.pop("device", None), left.pop("threads", None)
    if unknown := sorted(set(left) - ({field.name for field in fields(Spec)} - {"model"})):
        raise BenchError(f"visionbench has no setting {', '.join(unknown)}: mend the marker, or the call.")
    try:
        size = image_size_of(texts_of(left.get("inputs"))) or card.image_size
        spec = Spec(**{"image_size": size} | left | {"model": card.name})
    except BenchError as error:
        raise BenchError(f"{str(error).rstrip('.')}: mend the marker, or the call.") from error
    return Model(spec=spec, batch_size=left.get("batch_size"), training=training, device=device, threads=threads)


def _together(outcomes: Iterable[Outcome]) -> Outcome:
    """The worst outcome, and all messages."""
    outcomes = sorted(outcomes, key=lambda outcome: WORST.index(outcome.word))
    return Outcome(
        word=outcomes[0].word,
        text=clean_lines("\n\n".join(outcome.text for outcome in outcomes if outcome.text)),
        summary=clean("".join(outcome.summary for outcome in outcomes)),
        properties=tuple(pair for outcome in outcomes for pair in outcome.properties),
    )


# --- structure ---


def _count(model: Model) -> Structures:
    """The model's rows as they are now: inference and, unless it is not wanted, a training step.

    A suite may make warnings errors, and a process of many threads is warned of forking (Python 3.12): what is forked
    counts, on no device.
    """
    from visionbench.tracing.structure import structures

    with warnings.catch_warnings(action="ignore"):
        return structures(_specs(model))


def _specs(model: Model) -> list[Spec]:
    specs = structure.structure_specs([model.spec])
    return [spec for spec in specs if model.training or spec.task == "inference"]


def _compare_structure(now: Structures, settings: Settings) -> Outcome:
    """The model's rows against those of the baseline; or into the baseline, if it is to be updated."""
    properties: tuple[tuple[str, str], ...] = ()
    for row in list(now.rows.values())[:1]:  # of the inference, for programs that collect test reports
        counts = ((name, str(row.totals[name])) for name in ("params", "macs", "operators"))
        properties = (("row", row.row), *counts)
    try:
        if settings.update:
            with locked(settings.baseline, folders=True):
                structure.write(settings.baseline, structure.merged(settings.baseline, now))
            return Outcome(properties=(("structure", "written"), *properties))
        changes = _changes(structure.read(settings.baseline), now)
    except OtherVersionsError as error:
        properties = (("structure", "not comparable"), *properties)
        return Outcome(word="error", text=_in_the_suites_words(error), properties=properties)
    except BenchError as error:
        return Outcome(word="failed", text=_in_the_suites_words(error), properties=properties)
    if not changes:
        return Outcome(properties=(("structure", "unchanged"), *properties))
    new, name = all(change.before == "missing" for change in changes), settings.baseline.name
    first = f"{name} has no such row" if new else f"the structure is not that of {name}"
    remedy = f"If that is meant, accept it with `{UPDATE}` and commit the diff."
    text = "\n".join([f"{first}:", *_lines(changes), remedy])
    return Outcome(word="failed", text=text, properties=(("structure", "changed"), *properties))


def _in_the_suites_words(error: BenchError) -> str:
    """An error whose remedy is pytest's option and not the command line's."""
    return str(error).replace(structure.UPDATE, UPDATE)


def _changes(before: Structures, now: Structures) -> tuple[Change, ...]:
    """The differences in this model's rows; the file's other rows belong to other tests."""
    from visionbench.judging.structure import compare

    names = now.rows.keys() | now.failures.keys() | now.untrained.keys()
    return compare(replace(before, rows={name: row for name, row in before.rows.items() if name in names}), now)


def _lines(changes: Iterable[Change]) -> Iterator[str]:
    """What changed, row by row, and the layers behind it."""
    from visionbench.reports.results.verdict_text import difference

    row = ""
    for change in changes:
        if change.row != row:
            row = change.row
            yield f"  {row}"
        yield f"    {difference(change)}"
        yield from (f"      {place}" for place in change.where)


# --- time ---

_WORDS: dict[str, Word] = {
    "ok": "passed",
    "improved": "passed",
    "regressed": "failed",
    "inconclusive": "failed",
    "not measured": "error",
}


def _compare_time(model: Model, now: Structures, settings: Settings) -> Outcome:
    """The model against the base, in turns, as a gate of one row; batch and device are chosen as `gate` does."""
    from visionbench.command.selection import defaults_in_turns
    from visionbench.command.sides import two_revisions
    from visionbench.judging import duet
    from visionbench.machine.environment import find_device

    with ExitStack() as stack:
        try:
            device = model.device or find_device()
            loss = model.spec.loss if model.spec.task == "train" else None
            spec = replace(model.spec, loss=loss, batch_size=model.batch_size or defaults_in_turns(device).batch_size)
            sides = two_revisions([spec], stack, base=settings.base)
            verdict, remarks = _judge(sides, duet.stage(device, model.threads, sources=sides.sources), settings)
            behind = tuple(_since_the_base(sides, model, now)) if verdict.word == "regressed" else ()
        except BenchError as error:
            return Outcome(word="error", text=str(error), properties=(("verdict", "not measured"),))
    word: Word = "skipped" if verdict.word == "inconclusive" and not settings.strict else _WORDS[verdict.word]
    lines = [] if word == "passed" else list(_describe(verdict, sides.title, (*remarks, *sides.remarks), behind))
    # The reason of a skip is one line.
    text = "; ".join(line.strip(" .") for line in lines) if word == "skipped" else "\n".join(lines)
    return Outcome(word=word, text=text, summary=_headline(verdict), properties=tuple(_numbers(verdict, settings)))


def _judge(sides: Sides, stage: Stage, settings: Settings) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict, and remarks about it.

    Each model is a separate gate, so they share the false discoveries that one gate may make.
    """
    from visionbench.judging.gate import LAUNCHES, Plan, drawn, gate
    from visionbench.judging.verdict import launches_needed
    from visionbench.machine.environment import describe

    rule = replace(Rule(), fdr=Rule().fdr / max(settings.models, 1))
    plan = Plan(launches=max(LAUNCHES, launches_needed(rule)), budget=settings.budget, seed=drawn(None))
    outcome = gate(sides.rows, stage, describe(stage.device, stage.threads), plan, rule)
    too_small = outcome.looked_at < plan.launches
    how = "was too small for one full look" if too_small else "ended before all launches were made"
    cut = (f"The budget of {settings.budget:g} s {how}.",) if outcome.cut_short else ()
    return outcome.verdicts[0], cut


def _since_the_base(sides: Sides, model: Model, now: Structures) -> Iterator[str]:
    """How the model's structure differs from the base's, whose tree is counted for it; or why that is unknown."""
    from visionbench.plugin.base_structure import count_base

    try:
        changes = _changes(count_base(sides.sources[0], _specs(model)), now)
    except BenchError as error:
        yield f"Whether its structure is the base's is unknown: {error}"
        return
    if changes:
        yield from ("What its structure does otherwise than the base's:", *_lines(changes))
    else:
        yield "Its structure is the base's: the same operators, or their layout, cost more."


def _headline(verdict: Verdict) -> str:
    from visionbench.reports.results.verdict_text import detail

    return f"{verdict.comparison.name}: {verdict.word}, {detail(verdict)}".rstrip(", ")


def _describe(verdict: Verdict, title: str, remarks: Sequence[str], behind: Sequence[str]) -> Iterator[str]:
    """The verdict with its numbers and reasons, and which layers are behind a slow-down as far as structure knows."""
    from visionbench.reports.results.verdict_text import detail, doubts, why

    yield f"{verdict.comparison.name} is {verdict.word} ({title}): {detail(verdict)}".rstrip(": ")
    yield from (f"  {reason}" for reason in (*why(verdict), *doubts(verdict), *remarks, *behind))


def _numbers(verdict: Verdict, settings: Settings) -> Iterator[tuple[str, str]]:
    """The verdict for programs that collect test reports; ratios are of time, candidate over baseline."""
    yield "verdict", verdict.word
    yield "base", str(settings.base)
    if verdict.ratio is not None:
        bounds = {"ratio": verdict.ratio.centre, "ratio_low": verdict.ratio.low, "ratio_high": verdict.ratio.high}
        yield from ((name, f"{value:.5f}") for name, value in bounds.items() if value is not None)
    yield "launches", str(len(verdict.comparison.launches))
