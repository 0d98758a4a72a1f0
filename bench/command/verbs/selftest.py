"""The verb `selftest`: how often the gate is right on this machine, found out with rows whose truth is known."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from visionbench.command import ci, output, progress
from visionbench.command import options as arguments
from visionbench.command.options import Commands
from visionbench.comparison import comparison, noise_profile
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
Run the gate on equal sides, and on a side with an exact injected cost (identical layers more, never a sleep), idle and
beside a busy core. Prints how often it was wrong with a bound, how often it found the slow-down, how often the interval
held the truth; writes this machine's noise profile, without which `gate` says that nobody knows.
"""


def add(commands: Commands) -> None:
    """What a user may ask."""
    parser = commands.add_parser("selftest", help="how often is the gate right here?", description=DESCRIPTION)
    parser.add_argument("--aa", type=arguments.positive, default=30, metavar="N", help="equal rows (default: 30)")
    parser.add_argument("--ab", default="5%", metavar="SHARE", help="injected cost of as many rows (default: 5%%)")
    parser.add_argument("--condition", choices=tuple(CONDITIONS), default="both", help="default: both")
    parser.add_argument("--launches", type=arguments.positive, default=10, metavar="N", help="per look (default: 10)")
    parser.add_argument("--budget", type=arguments.seconds, metavar="TIME", help="begin no suite that ends later")
    parser.add_argument("--device", metavar="DEVICE", help="cuda or cpu (default: the GPU if there is one)")
    parser.add_argument("--threads", type=arguments.positive, metavar="N", help="CPU threads (default: 1, by CPU time)")
    parser.add_argument("--seed", type=int, metavar="N", help="default: drawn, and printed")
    parser.add_argument("--keep", type=Path, default=KEPT, metavar="FILE", help=f"raw turns (default: {KEPT})")
    parser.add_argument(
        "--profile",
        type=Path,
        default=noise_profile.DEFAULT_FILE,
        metavar="FILE",
        help=f"default: {noise_profile.DEFAULT_FILE}",
    )
    parser.add_argument("--show", action="store_true", help="measure nothing: print the profiles there are")
    arguments.add_output(parser)
    parser.set_defaults(verb=run)


class _Suites(ci.Launches):
    """Progress: a line when a suite begins, and one per launch."""

    def began(self, suite: Suite, number: int, planned: int) -> None:
        """`suite 2/6: 12 rows, busy, +5 %`."""
        cost = f"+{float(suite.share * 100):g} %" if suite.share else "equal sides"
        progress.say(f"suite {number}/{planned}: {plural(len(suite.kinds), 'row')}, {suite.condition}, {cost}")


def run(options: Namespace) -> int:
    """Measure suites of known truth, count, print, and write the profile."""
    if options.show:
        return _show(options)
    from visionbench.judging import duet
    from visionbench.judging.gate import drawn
    from visionbench.judging.selftest import ONE_SOURCE, Ask, in_trees, parse_share, selftest
    from visionbench.judging.selftest import profile as tallied
    from visionbench.machine.environment import describe, find_device
    from visionbench.models.ladder import KINDS
    from visionbench.reports.results.selftests import layout

    device = options.device or find_device()
    stage = duet.stage(device, options.threads)
    ask = Ask(
        rows=options.aa,
        share=parse_share(options.ab),
        conditions=CONDITIONS[options.condition],
        launches=options.launches,
        budget=options.budget,
        seed=drawn(options.seed),
    )
    here, rule, environment = Path.cwd(), Rule(), describe(device, stage.threads)
    noise_profile.read(options.profile)  # a file of something else is told now, and not after an hour

    def keep(made: Sequence[Run]) -> None:
        comparison.write(options.keep, (one for suite in made for one in suite.outcome.comparisons))

    with ci.ended_politely(), in_trees(stage, here) as (placed, sides):
        if sides is None:
            progress.say(ONE_SOURCE)
        runs = selftest(ask, tuple(KINDS), placed, environment, rule, sides, _Suites(), keep)
    made = tallied(runs, ask, stage, environment, datetime.now(UTC).date())
    noise_profile.write(options.profile, made)
    output.print_tables([layout((made,))], options)
    progress.say(f"Noise profile: {options.profile}. Raw turns: {options.keep}. Seed: {ask.seed}.")
    return OK


def _show(options: Namespace) -> int:
    """Print the profiles of the file; where there is none, those that visionbench was tested with."""
    from visionbench.reports import records as committed
    from visionbench.reports.results.selftests import layout

    ours = Path(committed.__file__).parent / noise_profile.DEFAULT_FILE
    found = noise_profile.read(options.profile if options.profile.exists() else ours)
    output.print_tables([layout(found)], options)
    return OK if found else NOT_MEASURED
