"""The verb `trace`: one model's exact counts."""

from __future__ import annotations

import sys
from argparse import Namespace
from contextlib import redirect_stdout

from visionbench.command import cards
from visionbench.command import options as arguments
from visionbench.command.options import Commands
from visionbench.record.record import to_json


def add(commands: Commands) -> None:
    """What a user may ask."""
    text = "One model's card: exact counts by a trace on the meta device; no weights, no hardware."
    parser = commands.add_parser("trace", help="one model's exact counts", description=text)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="as for run")
    arguments.add_spec(parser).add_argument(
        "--batch-size", type=arguments.positive, metavar="N", help="images per step (default: 1)"
    )
    parser.add_argument(
        "--depth",
        type=arguments.positive,
        default=2,
        metavar="N",
        help="modules below the model to break down by (default: 2)",
    )
    parser.add_argument(
        "--second-opinion", action="store_true", help="count with fvcore too, on real tensors, and explain differences"
    )
    parser.add_argument("--json", action="store_true", help="print the record, one JSON line per model")
    parser.set_defaults(verb=run)


def run(options: Namespace) -> int:
    """Print each model's card, or its computed record."""
    from visionbench.command.selection import traced
    from visionbench.machine.environment import describe
    from visionbench.tracing.step import run as run_trace
    from visionbench.tracing.step import to_record

    environment = describe("meta")
    for spec in traced(options):
        with redirect_stdout(sys.stderr):  # what a user's factory prints is no result of ours
            found = run_trace(spec)
        record = to_record(found, environment)
        print(to_json(record) if options.json else cards.card(found, record, options.depth))
        if options.second_opinion:
            print(cards.opinion(spec), file=sys.stderr if options.json else sys.stdout)
    return 0
