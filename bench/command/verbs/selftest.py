"""The verb `selftest`: how often the gate is right on this machine, found out with rows whose truth is known."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from visionbench.command import ci, inputs, options, output, progress, values
from visionbench.command.processes import device_or_usual
from visionbench.command.requests import TERMINAL, Output, Turns
from visionbench.command.verbs.run import held_clocks
from visionbench.comparison import noise_profile
from visionbench.comparison.verdict import NOT_MEASURED, OK, Rule
from visionbench.record.units import plural

if TYPE_CHECKING:
    from visionbench.judging.selftest import Run, Suite

KEPT = Path("visionbench-selftest.jsonl")

CONDITIONS: dict[str, tuple[Literal["idle", "busy"], ...]] = {
    "idle": ("idle",),
    "busy": ("busy",),
    "both": ("idle", "busy"),
}

DESCRIPTION = """\
Run the gate on rows whose truth is known: equal sides, and one side with a few more identical layers, so an exact
cost. Both run on an idle machine and next to a busy core. Prints how often the gate was wrong, how often it found the
slow-down, and how often the interval held the truth. Writes this machine's noise profile, which `gate` quotes.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """How many rows of known truth to measure: `rows` of each kind, `cost` as the user wrote it (5%).

    `show` measures nothing and prints the profiles of the file.
    """

    turns: Turns
    rows: int = 30
    cost: str = "5%"
    conditions: tuple[Literal["idle", "busy"], ...] = CONDITIONS["both"]
    profile: Path = noise_profile.DEFAULT_FILE
    show: bool = False
    output: Output = TERMINAL


def add(parser: ArgumentParser) -> None:
    """What a user may ask."""
    parser.description = DESCRIPTION
    parser.add_argument(
        "--aa", type=values.positive, default=30, dest="rows", metavar="N", help="equal rows (default: 30)"
    )
    parser.add_argument(
        "--ab", default="5%", dest="cost", metavar="SHARE", help="injected cost of as many rows (default: 5%%)"
    )
    parser.add_argument("--condition", choices=tuple(CONDITIONS), default="both", help="default: both")
    options.add_turns(
        parser,
        KEPT,
        per="row, and as many again where the first leave the verdict open",
        budget="don't start a suite that would run past this",
        rounds=False,
    )
    parser.add_argument(
        "--profile",
        type=values.path,
        default=noise_profile.DEFAULT_FILE,
        metavar="FILE",
        help=f"default: {noise_profile.DEFAULT_FILE}",
    )
    parser.add_argument("--show", action="store_true", help="measure nothing: print the profiles in the file")
    options.add_output(parser)
    parser.set_defaults(verb=lambda words: run(_request(words)))


def _request(words: Namespace) -> Request:
    words.conditions = CONDITIONS[words.condition]
    return options.part(Request, words)


class _Suites(ci.Launches):
    """Progress: a line when a suite begins, and one per launch."""

    def began(self, suite: Suite, number: int, planned: int) -> None:
        """`suite 2/6: 12 rows, busy, +5 %`."""
        cost = f"+{float(suite.share * 100):g} %" if suite.share else "equal sides"
        progress.say(f"suite {number}/{planned}: {plural(len(suite.kinds), 'row')}, {suite.condition}, {cost}")


def run(request: Request) -> int:
    """Measure suites of known truth, count, print, and write the profile."""
    if request.show:
        return _show(request)
    from visionbench.judging import duet
    from visionbench.judging.gate import LAUNCHES, drawn
    from visionbench.judging.selftest import ONE_SOURCE, Ask, in_trees, parse_share, selftest
    from visionbench.judging.selftest import profile as tallied
    from visionbench.machine.environment import describe
    from visionbench.machine.neighbours import claimed
    from visionbench.models.ladder import KINDS
    from visionbench.reports.results.selftests import layout

    turns = request.turns
    device = device_or_usual(turns.device)
    stage = duet.stage(device, turns.threads)
    ask = Ask(
        rows=request.rows,
        share=parse_share(request.cost),
        conditions=request.conditions,
        launches=turns.launches or LAUNCHES,
        budget=turns.budget,
        seed=drawn(turns.seed),
    )
    folder, rule, environment = Path.cwd(), Rule(), describe(device, stage.threads)
    noise_profile.read(request.profile)  # a file of something else is reported now, and not after an hour
    output.check(request.output, request.profile, turns.keep)

    keep_turns = ci.keeper(turns.keep)

    def keep(runs: Sequence[Run]) -> None:
        keep_turns([row for suite in runs for row in suite.outcome.comparisons])

    held = held_clocks([device], locked=turns.lock_clocks)
    with ci.ended_politely(), claimed(turns.keep), held, in_trees(stage, folder) as (placed, sides):
        if sides is None:
            progress.say(ONE_SOURCE)
        runs = selftest(ask, tuple(KINDS), placed, environment, rule, sides, _Suites(), keep)
    profile = tallied(runs, ask, stage, environment, datetime.now(UTC).date())
    noise_profile.write(request.profile, profile)
    output.print_tables([layout((profile,))], request.output)
    progress.say(f"Noise profile: {request.profile}. Raw turns: {turns.keep}. Seed: {ask.seed}.")
    return OK


def _show(request: Request) -> int:
    """Print the profiles of the file, or without one those that visionbench was tested with."""
    from visionbench.reports.results.selftests import layout

    profiles = noise_profile.read(request.profile, asked=True)
    if not profiles and not request.profile.exists():
        profiles = noise_profile.read(inputs.committed_folder() / noise_profile.DEFAULT_FILE)
    output.print_tables([layout(profiles)], request.output)
    return OK if profiles else NOT_MEASURED
