"""The verb `trend`: slow drifts in the history of a branch, which single comparisons are too small to show."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from visionbench.command import options as arguments
from visionbench.command import output
from visionbench.command.options import Commands

DESCRIPTION = """\
Where in the history of recorded numbers a level changed: when, from what to what, and which commits lie between.
A trend informs and never fails a job: whatever is found, the exit code is 0 (4 where there was nothing to look at).
"""


def add(commands: Commands) -> None:
    """What a user may ask."""
    parser = commands.add_parser("trend", help="slow drifts over many records files", description=DESCRIPTION)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="records, or files of pytest-benchmark")
    arguments.add_output(parser)
    parser.set_defaults(verb=run)


def run(options: Namespace) -> int:
    """Look for shifts in every series, and show them."""
    from visionbench.judging import result_files
    from visionbench.judging.trend import exit_code, trend
    from visionbench.reports.results.trends import layout

    batches = [result_files.load(path) for path in options.files]
    for batch in batches:
        output.tell(batch.problems)
    found = trend(sample for batch in batches for sample in batch.samples)
    output.print_tables([layout(found)], options)
    return exit_code(found)
