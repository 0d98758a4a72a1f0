"""The verb `report`: tables from what is recorded. No torch, no GPU."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from bench import arguments, output
from bench.arguments import Commands
from bench.output import RECORDS
from bench.record.errors import BenchError


def add(commands: Commands) -> None:
    """What a user may ask."""
    text = "Print tables from recorded numbers. Needs no torch and no GPU."
    parser = commands.add_parser("report", help="print tables from records", description=text)
    parser.add_argument("tables", nargs="*", metavar="TABLE", help="convnext_table1, ... (see `list tables`)")
    parser.add_argument("--all", action="store_true", help="every table")
    parser.add_argument(
        "--records",
        type=Path,
        action="append",
        metavar="FILE",
        help=f"records to read (repeatable; default: {RECORDS} and the committed ones)",
    )
    arguments.add_output(parser)
    parser.add_argument("--output", type=Path, metavar="FILE", help="write there instead of stdout")
    parser.set_defaults(verb=run)


def run(options: Namespace) -> int:
    """Print tables from records: those named, else ./visionbench.jsonl, else what was measured for the README."""
    if not options.tables and not options.all:
        raise BenchError("which table? Name one (`list tables`) or say --all.")
    chosen = output.chosen([] if options.all else options.tables)
    records = output.recorded(options.records)
    output.print_tables([one.layout(records) for one in chosen], options)
    return 0
