"""The verb `gate`: is the candidate slower than the baseline? Two revisions, or two ways of running one."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from visionbench.command import ci, progress
from visionbench.command import options as arguments
from visionbench.command.options import Commands
from visionbench.comparison import comparison, noise_profile
from visionbench.comparison.verdict import Judgement, Rule
from visionbench.record.spec import SUITES
from visionbench.record.store import check_writable
from visionbench.record.units import plural

if TYPE_CHECKING:
    from visionbench.command.sides import Sides
    from visionbench.judging.duet import Row, Stage
    from visionbench.judging.gate import Outcome

KEPT = Path("visionbench-gate.jsonl")

DESCRIPTION = """\
Compare two git revisions of this repository, or with --vary two ways of running one, by two processes that live beside
each other and take turns. Exit codes: 0 nothing worse, 1 a row regressed, 2 a mistake in what was asked, 3 inconclusive
rows (with --strict), 4 a row could not be measured, or there was none.
"""


def add(commands: Commands) -> None:
    """What a user may ask."""
    parser = commands.add_parser(
        "gate", help="is head slower than base? two revisions, or two settings", description=DESCRIPTION
    )
    parser.add_argument("models", nargs="*", metavar="MODEL", help="as for run; default: the suite `ci`")
    parser.add_argument("--model", action="append", default=[], metavar="MODEL", help="the same, repeatable")
    parser.add_argument("--suite", action="append", default=[], choices=sorted(SUITES), help="a named set of specs")
    sides = parser.add_argument_group("the two sides")
    sides.add_argument("--base", metavar="REVISION", help="the baseline, e.g. origin/main (default: HEAD)")
    sides.add_argument("--head", metavar="REVISION", help="the candidate (default: the checkout as it lies there)")
    sides.add_argument(
        "--vary",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        type=_variation,
        help="compare settings, not revisions: memory_format=channels_last, precision=amp_bf16, compile=default, "
        "attention=math (repeatable: all at once)",
    )
    sides.add_argument(
        "--environment",
        choices=("auto", "same"),
        default="auto",
        help="auto: an environment per side where the revisions declare different dependencies; same: never",
    )
    how = parser.add_argument_group("how to measure")
    how.add_argument("--device", metavar="DEVICE", help="cuda, cuda:1 or cpu (default: the GPU if there is one)")
    how.add_argument("--threads", type=arguments.positive, metavar="N", help="CPU threads (default: 1, by CPU time)")
    how.add_argument("--launches", type=arguments.positive, metavar="N", help="process pairs per look (default: 10)")
    how.add_argument("--rounds", type=arguments.positive, metavar="N", help="turns of each side (default: 10 to 40)")
    how.add_argument("--budget", type=arguments.seconds, metavar="TIME", help="stop measuring after this long: 10m")
    how.add_argument("--seed", type=int, metavar="N", help="of orders and cores (default: drawn, and printed)")
    how.add_argument("--rejudge", type=Path, metavar="FILE", help="measure nothing: judge what a gate has kept there")
    spec = arguments.add_spec(parser)
    spec.add_argument("--batch-size", type=arguments.positive, metavar="N", help="images a step (default: 1; GPU: 64)")
    parser.add_argument("--keep", type=Path, default=KEPT, metavar="FILE", help=f"raw turns go there (default: {KEPT})")
    parser.add_argument(
        "--profile", type=Path, default=noise_profile.DEFAULT_FILE, metavar="FILE", help="noise profiles (`selftest`)"
    )
    arguments.add_output(parser)
    ci.add_forms(parser)
    parser.set_defaults(verb=run)


def _variation(text: str) -> tuple[str, str]:
    field, sign, value = text.partition("=")
    if not sign or not value:
        import argparse

        raise argparse.ArgumentTypeError(f"a setting is needed, like memory_format=channels_last, not '{text}'")
    return field, value


def run(options: Namespace) -> int:
    """Measure both sides in turns, judge, and show."""
    if options.rejudge:
        return ci.show(_rejudged(options), options)
    began = time.monotonic()
    check_writable(options.keep)
    with ci.ended_politely(), ExitStack() as stack:
        found, stage = _set_up(options, stack)
        outcome, seed = _played(found.rows, stage, options)
    judgement = _judgement(outcome, found, options, seed)
    return ci.show(replace(judgement, seconds=time.monotonic() - began), options)


def _set_up(options: Namespace, stack: ExitStack) -> tuple[Sides, Stage]:
    """The two sides and the stage that the options mean; work trees live as long as `stack`."""
    from visionbench.command import sides
    from visionbench.command.selection import gated
    from visionbench.judging import duet
    from visionbench.machine.environment import find_device

    device = options.device or find_device()
    specs = gated(options, device)
    found = sides.settings(options, specs) if options.vary else sides.revisions(options, specs, stack)
    return found, duet.stage(device, options.threads, sources=found.sources, rounds=options.rounds)


def _played(rows: Sequence[Row], stage: Stage, options: Namespace) -> tuple[Outcome, int]:
    from visionbench.judging.gate import LAUNCHES, Plan, drawn, gate
    from visionbench.machine.environment import describe

    plan = Plan(launches=options.launches or LAUNCHES, budget=options.budget, seed=drawn(options.seed))
    progress.say(
        f"Measuring {plural(len(rows), 'row')} in turns on {stage.device}, up to {plan.launches} launches a look; "
        f"raw turns: {options.keep}"
    )
    environment = describe(stage.device, stage.threads)

    def keep(made: Sequence[comparison.Comparison]) -> None:
        comparison.write(options.keep, made)

    return gate(rows, stage, environment, plan, Rule(), keep, ci.Launches()), plan.seed


def _judgement(outcome: Outcome, found: Sides, options: Namespace, seed: int) -> Judgement:
    from visionbench.judging.verdict import suite_ratio

    first = outcome.comparisons[0] if outcome.comparisons else None
    unknown = noise_profile.remark(options.profile, first.environment, datetime.now(UTC).date()) if first else ""
    cut = [f"The budget of {options.budget:g} s ended before all launches were made."] if outcome.cut_short else []
    drawn = "" if options.seed is not None else f" --seed {seed}"
    return Judgement(
        title=found.title,
        rule=outcome.rule,
        verdicts=outcome.verdicts,
        suite=suite_ratio(outcome.comparisons),
        remarks=tuple(text for text in (*found.remarks, *cut, unknown) if text),
        command=f"{ci.command(options)}{drawn}",
    )


def _rejudged(options: Namespace) -> Judgement:
    from visionbench.judging.verdict import judge, suite_ratio

    path: Path = options.rejudge
    found = comparison.read(path)
    rule = replace(Rule(), looks=min((one.looks for one in found), default=1))
    return Judgement(
        title=f"judged again from {path}",
        rule=rule,
        verdicts=judge(found, rule),
        suite=suite_ratio(found),
        command=ci.command(options),
    )
