"""The verb `report`: tables from what is recorded. No torch, no GPU."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from visionbench.command import options as arguments
from visionbench.command import output, progress
from visionbench.command.options import Commands
from visionbench.record.errors import BenchError


def add(commands: Commands) -> None:
    """What a user may ask."""
    text = "Print tables from recorded numbers. Needs no torch and no GPU."
    parser = commands.add_parser("report", help="print tables from records", description=text)
    parser.add_argument("tables", nargs="*", metavar="TABLE", help="convnext_table1, ... (see `list tables`)")
    parser.add_argument("--all", action="store_true", help="every table")
    arguments.add_evidence(parser)
    arguments.add_output(parser)
    parser.add_argument("--standalone", action="store_true", help="with --format latex: a document that compiles")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write there instead of stdout")
    parser.set_defaults(verb=run)


def run(options: Namespace) -> int:
    """Print tables from records: those named, else ./visionbench.jsonl, else what was measured for the README.

    As HTML all tables if none is named: a page is for browsing.
    """
    whole = options.all or (options.format == "html" and not options.tables)
    if not options.tables and not whole:
        raise BenchError("which table? Name one (`list tables`) or say --all.")
    from visionbench.reports import REPORTS

    chosen = list(REPORTS.values()) if whole else output.chosen(options.tables)
    records, comparisons = output.recorded(options.records), output.compared(options.comparisons)
    if options.tables and not options.comparisons and not output.COMPARISONS.exists():
        _say_whose(options.tables)
    laid_out = [one.layout(records, comparisons) for one in chosen]
    # Of all tables those that have something to say; one that is named says that it has nothing.
    tables = [table for table in laid_out if table.rows or not whole]
    # The whole page shows the figures, too; drawing them takes longer than everything else.
    output.print_tables(tables, options, lambda: output.document(tables, records, comparisons, figures=whole))
    return 0


def _say_whose(tables: Sequence[str]) -> None:
    shown = [name for name in tables if name.startswith("effects")]
    if shown:
        progress.say(
            f"{', '.join(shown)}: nothing compared here yet (`effects`); shown is what comes with visionbench."
        )
