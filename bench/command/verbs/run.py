"""The verb `run`: measure what was asked for."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from visionbench.command import options as arguments
from visionbench.command import output, progress
from visionbench.command.options import LARGEST, Commands
from visionbench.command.verbs.measuring import measure
from visionbench.comparison.verdict import INTERRUPTED, NOT_MEASURED
from visionbench.record import store
from visionbench.record.record import to_json
from visionbench.record.spec import SUITES, Spec
from visionbench.record.units import plural

if TYPE_CHECKING:
    from visionbench.command.selection import Place


def add(commands: Commands) -> None:
    """What a user may ask."""
    text = "Measure models, tables or suites on this machine. What is already recorded is not measured again."
    parser = commands.add_parser("run", help="measure models, tables or suites", description=text)
    parser.add_argument(
        "models",
        nargs="*",
        metavar="WHAT",
        help="convnext_tiny, 'timm:swin_*', paper:..., user:package.module:factory; or a table's or suite's name",
    )
    parser.add_argument(
        "--table", action="append", default=[], metavar="NAME", help="every row of a table (repeatable)"
    )
    parser.add_argument(
        "--suite", action="append", default=[], choices=sorted(SUITES), help="a named set of specs (repeatable)"
    )
    arguments.add_where(parser)
    arguments.add_measuring(parser)
    spec = arguments.add_spec(parser)
    spec.add_argument(
        "--batch-size",
        type=arguments.batch,
        metavar="N",
        help="images per step (default: 64 on a GPU, the paper's; 1 on a CPU); max: the largest that fits",
    )
    spec.add_argument(
        "--batch-sizes", type=arguments.batches, metavar="N,N,...", help="each of them, and where more stops paying"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be measured, and stop")
    parser.add_argument("--json", action="store_true", help="print the new records, one JSON line each")
    parser.set_defaults(verb=run, resumes=True)


def run(options: Namespace) -> int:
    """Measure what was asked for, and print it as a table; or, with --json, the new records as lines."""
    from visionbench.command import batch_sizes
    from visionbench.command.selection import check, chosen, place

    here = place(options)
    specs = batch_sizes.each(chosen(options, here), options.batch_sizes)
    if options.dry_run:
        return _say_what_would_be_measured(specs, here, options)
    store.check_writable(options.records)
    check(specs, here, options)
    if options.batch_size == LARGEST:
        specs = batch_sizes.at_largest(specs, here, options)
    outcome = measure(specs, here, options)
    if options.json:
        print("".join(to_json(record) + "\n" for record in outcome.records), end="")
    else:
        _print_runs(specs, here, options)
    if outcome.interrupted:
        return INTERRUPTED
    return NOT_MEASURED if outcome.failed and not outcome.measured and not outcome.skipped else 0


def _say_what_would_be_measured(specs: Sequence[Spec], here: Place, options: Namespace) -> int:
    from collections import Counter

    from visionbench.machine.environment import describe
    from visionbench.measuring.sweep import plan

    environment = describe(here.devices[0], options.threads)
    records = store.read_if_there(options.records).records
    missing = plan(specs, here.protocol, records, environment, retry_failures=options.retry_failures)
    for spec, launches in Counter(missing).items():
        print(f"{spec} x{launches}")
    progress.say(f"{plural(len(missing), 'launch', 'launches')} to make, by protocol {here.protocol.name}.")
    return 0


def _print_runs(specs: Sequence[Spec], here: Place, options: Namespace) -> None:
    """The table of these specs' launches, those of earlier sweeps included."""
    from visionbench.command import batch_sizes
    from visionbench.reports import render
    from visionbench.reports.results import runs

    wanted = set(specs)
    records = [r for r in output.recorded([options.records]) if r.spec in wanted or r.source == "computed"]
    measured = [r for r in records if r.source == "measured" and r.protocol and r.protocol.name == here.protocol.name]
    if measured:
        table = runs.layout([*(r for r in records if r.source == "computed"), *measured])
        print(render(table, "terminal", output.width(None), colour=output.colour()), end="")
    for sentence in batch_sizes.saturation(measured):
        print(sentence)
