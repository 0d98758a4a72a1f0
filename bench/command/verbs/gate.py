"""The verb `gate`: is the candidate slower than the baseline? Two revisions, or two ways of running one."""

from __future__ import annotations

import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from visionbench.command import ci, options, output, progress, values
from visionbench.command.processes import device_or_usual
from visionbench.command.requests import ONLY_HERE, TERMINAL, ForCI, HowToRun, Output, Selection, Turns
from visionbench.command.selection import specs_to_gate
from visionbench.command.verbs.run import held_clocks
from visionbench.comparison import comparison, noise_profile
from visionbench.comparison.verdict import Judgement, Rule
from visionbench.record.errors import BenchError
from visionbench.record.spec import Spec
from visionbench.record.store import check_writable
from visionbench.record.units import plural

if TYPE_CHECKING:
    from visionbench.command.sides import Sides
    from visionbench.judging.duet import Row, Stage
    from visionbench.judging.gate import Outcome

KEPT = Path("visionbench-gate.jsonl")

DESCRIPTION = """\
Time two revisions of the git repository that you are in, or with --vary two settings of your working tree. Two
processes, one per side, take turns. A row is one model with its settings.
After ten pairs the gate decides about it, or first measures ten more.

exit codes:
  0  no row regressed; some may be inconclusive
  1  a row regressed
  2  a mistake in the command or in a file
  3  a row is inconclusive (with --strict)
  4  a row could not be measured, or there were no rows
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Which rows to compare, the two sides, and how.

    `base` and `head` are git revisions (None: HEAD, and the working tree), `vary` are settings (field, value) instead.
    `allow_new` are models, or rows, that the base need not have. `rejudge` is a file of raw turns to judge without
    measuring.
    """

    selection: Selection
    how: HowToRun
    turns: Turns
    base: str | None = None
    head: str | None = None
    vary: tuple[tuple[str, str], ...] = ()
    environment: Literal["auto", "same"] = "auto"
    allow_new: tuple[str, ...] = ()
    rejudge: Path | None = None
    profile: Path = noise_profile.DEFAULT_FILE
    output: Output = TERMINAL
    ci: ForCI = ONLY_HERE


def add(parser: ArgumentParser) -> None:
    """What a user may ask."""
    parser.description = DESCRIPTION
    parser.add_argument(
        "words",
        nargs="*",
        metavar="MODEL",
        help="convnext_tiny, user:package.module:factory, ... (default: visionbench's own suite `ci`)",
    )
    parser.add_argument(
        "--model", action="append", default=[], metavar="MODEL", help="another way to name a MODEL (repeatable)"
    )
    options.add_suites(parser)
    sides = parser.add_argument_group("the two sides")
    sides.add_argument("--base", metavar="REVISION", help="the baseline, e.g. origin/main (default: HEAD)")
    sides.add_argument("--head", metavar="REVISION", help="the candidate (default: the working tree)")
    sides.add_argument(
        "--vary",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        type=_variation,
        help="compare settings, not revisions: memory_format=channels_last, precision=amp_bf16, compile=default, "
        "attention=math (repeatable); all other settings are the same on both sides",
    )
    sides.add_argument(
        "--environment",
        choices=("auto", "same"),
        default="auto",
        help="auto (default): a new environment per revision where their dependencies differ; same: your current one",
    )
    sides.add_argument(
        "--allow-new",
        action="append",
        default=[],
        metavar="MODEL",
        help="a model that the base may lack: it is then not compared (repeatable)",
    )
    how = options.add_turns(
        parser,
        KEPT,
        per="row, and as many again where the first leave the verdict open",
        budget="stop measuring after this long",
    )
    how.add_argument(
        "--rejudge", type=values.path, metavar="FILE", help="measure nothing: judge what a gate has kept there"
    )
    options.add_batch_size(options.add_spec(parser))
    parser.add_argument(
        "--profile",
        type=values.path,
        default=noise_profile.DEFAULT_FILE,
        metavar="FILE",
        help="read what `selftest` wrote, and print its error rates below the verdicts",
    )
    options.add_output(parser)
    ci.add_forms(parser)
    parser.set_defaults(verb=lambda words: run(_request(parser, words)))


_FOR_JUDGING = ("rejudge", "profile", "format", "width", "quiet", "strict", *ci.FORMS)
"""Options that mean something where nothing is measured."""


def _request(parser: ArgumentParser, words: Namespace) -> Request:
    if words.rejudge and (given := options.first_given(parser, words, but=_FOR_JUDGING)):
        raise BenchError(f"--rejudge judges every row of {words.rejudge} as it was measured: leave {given} out.")
    words.words += words.model
    return options.part(Request, words)


def _variation(text: str) -> tuple[str, str]:
    field, sign, value = text.partition("=")
    if not sign or not value:
        raise ArgumentTypeError(f"a setting is needed, like memory_format=channels_last, not '{text}'")
    return field, value


def run(request: Request) -> int:
    """Measure both sides in turns, judge, and show."""
    also = request.ci
    output.check(request.output, also.summary, also.junit, also.gab, also.bmf)
    judgement = _rejudged(request.rejudge, request) if request.rejudge else judge_sides(request)
    return ci.show(judgement, request.output, request.ci)


def judge_sides(request: Request) -> Judgement:
    """Measure both sides in turns and judge. Raises `BenchError` for what cannot be compared."""
    from visionbench.machine.neighbours import claimed

    began = time.monotonic()
    noise_profile.read(request.profile, asked=True)  # reported now, and not after an hour
    if request.turns.keep:
        check_writable(request.turns.keep, "--keep")
    with ci.ended_politely(), ExitStack() as stack:
        stack.enter_context(claimed(request.turns.keep))
        sides, stage = _set_up(request, stack)
        stack.enter_context(held_clocks([stage.device], locked=request.turns.lock_clocks))
        outcome, seed = _play(sides.rows, stage, request.turns)
    return replace(_judgement(outcome, sides, request, seed), seconds=time.monotonic() - began)


def _set_up(request: Request, stack: ExitStack) -> tuple[Sides, Stage]:
    """The two sides and the stage that are asked for; work trees live as long as `stack`."""
    from visionbench.command import sides
    from visionbench.judging import duet

    device = device_or_usual(request.turns.device)
    specs = specs_to_gate(request.selection, request.how, device)
    if request.vary:
        both = sides.two_settings(specs, request.vary, base=request.base, head=request.head)
    else:
        both = sides.two_revisions(specs, stack, base=request.base, head=request.head, environment=request.environment)
    return both, duet.stage(device, request.turns.threads, sources=both.sources, rounds=request.turns.rounds)


def _play(rows: Sequence[Row], stage: Stage, turns: Turns) -> tuple[Outcome, int]:
    """What was measured, and the seed of its orders."""
    from visionbench.judging.gate import LAUNCHES, Plan, drawn, gate
    from visionbench.machine.environment import describe
    from visionbench.machine.neighbours import marked

    plan = Plan(launches=turns.launches or LAUNCHES, budget=turns.budget, seed=drawn(turns.seed))
    kept = f"; raw turns: {turns.keep}" if turns.keep else ""
    progress.say(
        f"Measuring {plural(len(rows), 'row')} in turns on {stage.device}, up to {plan.launches} launches a look{kept}"
    )
    environment = describe(stage.device, stage.threads)

    with marked([stage.device], progress.say):
        return gate(rows, stage, environment, plan, Rule(), ci.keeper(turns.keep), ci.Launches()), plan.seed


def judge_two(a: Spec, b: Spec, turns: Turns) -> Judgement:
    """Two specs of the same code, in turns in pairs of fresh processes, judged."""
    from visionbench.judging import duet
    from visionbench.machine.environment import find_device

    stage = duet.stage(turns.device or find_device(), turns.threads, rounds=turns.rounds)
    sides = comparison.Side(label="a", spec=a), comparison.Side(label="b", spec=b)
    outcome, _ = _play([duet.Row(name=b.model, baseline=sides[0], candidate=sides[1])], stage, turns)
    return Judgement(title=f"{b.model} against {a.model}", rule=outcome.rule, verdicts=outcome.verdicts)


def _judgement(outcome: Outcome, sides: Sides, request: Request, seed: int) -> Judgement:
    from visionbench.judging.gate import LAUNCHES
    from visionbench.judging.verdict import suite_ratio

    allowed = set(request.allow_new)
    unknown_there = filter(_is_unknown_there, outcome.comparisons)
    new = tuple(row.name for row in unknown_there if allowed & {row.name, row.candidate.spec.model})
    first = outcome.comparisons[0] if outcome.comparisons else None
    unknown = noise_profile.remark(request.profile, first.environment, datetime.now(UTC).date()) if first else ""
    cut, budget, full = "", f"The budget of {request.turns.budget or 0:g} s", request.turns.launches or LAUNCHES
    if outcome.cut_short and outcome.looked_at < full:
        made = f"{outcome.looked_at} of {plural(full, 'launch', 'launches')}"
        cut = f"{budget} was too small for one full look ({made})"
    if outcome.lost:
        cut = f"the GPU {progress.STOPPED}, and what was measured is kept"
    ended = [f"{budget} ended before all launches were made."] if outcome.cut_short and not cut else []
    called_new = [f"{', '.join(new)}: new, the baseline cannot build it, so nothing was compared."] if new else []
    perhaps: Iterable[str] = () if request.vary else _perhaps_new(outcome.comparisons, new)
    drawn = "" if request.turns.seed is not None or not request.ci.command else f" --seed {seed}"
    return Judgement(
        title=sides.title,
        rule=outcome.rule,
        verdicts=tuple(verdict for verdict in outcome.verdicts if verdict.comparison.name not in new),
        suite=suite_ratio(outcome.comparisons),
        remarks=tuple(text for text in (*sides.remarks, *called_new, *perhaps, *ended, unknown) if text),
        cut=cut,
        lost=outcome.lost,
        new=new,
        command=f"{request.ci.command}{drawn}",
    )


def _is_unknown_there(row: comparison.Comparison) -> bool:
    """Whether the baseline has no such model."""
    return row.failed == "baseline" and row.failure is not None and row.failure.stage == "build"


def _perhaps_new(rows: Sequence[comparison.Comparison], new: Sequence[str]) -> Iterator[str]:
    """What to do about models that the base cannot build, and that no option has called new."""
    models = dict.fromkeys(row.candidate.spec.model for row in rows if row.name not in new and _is_unknown_there(row))
    for model in models:
        yield f"The baseline cannot build {model}: if it is new, --allow-new {model} lets it pass."


def _rejudged(path: Path, request: Request) -> Judgement:
    from visionbench.judging.verdict import judge, suite_ratio

    comparisons = comparison.read(path)
    rule = replace(Rule(), looks=min((row.looks for row in comparisons), default=1))
    return Judgement(
        title=f"judged again from {path}",
        rule=rule,
        verdicts=judge(comparisons, rule),
        suite=suite_ratio(comparisons),
        command=request.ci.command,
    )
