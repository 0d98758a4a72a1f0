"""The verb `report`: tables from what is recorded. No torch, no GPU."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from visionbench.command import inputs, options, output, progress
from visionbench.command.requests import TERMINAL, Output
from visionbench.record.errors import BenchError

if TYPE_CHECKING:
    from visionbench.reports.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Which tables to print, from which files (none: the default ones and the committed ones), and how."""

    tables: tuple[str, ...] = ()
    all: bool = False
    records: tuple[Path, ...] = ()
    comparisons: tuple[Path, ...] = ()
    output: Output = TERMINAL

    @property
    def whole(self) -> bool:
        """Whether every table is wanted. As HTML they are if none is named: a page is for browsing."""
        return self.all or (self.output.format == "html" and not self.tables)


def add(parser: ArgumentParser) -> None:
    """What a user may ask."""
    parser.description = "Print tables from recorded numbers. Needs no torch and no GPU."
    parser.add_argument("tables", nargs="*", metavar="TABLE", help="convnext_table1, ... (see `list tables`)")
    parser.add_argument("--all", action="store_true", help="every table")
    options.add_evidence(parser)
    options.add_output(parser)
    parser.add_argument("--standalone", action="store_true", help="with --format latex: a document that compiles")
    parser.add_argument("--output", type=Path, dest="file", metavar="FILE", help="write there instead of stdout")
    parser.set_defaults(verb=lambda words: run(_request(words)))


def _request(words: Namespace) -> Request:
    return Request(
        tables=tuple(words.tables),
        all=words.all,
        records=tuple(words.records or ()),
        comparisons=tuple(words.comparisons or ()),
        output=options.part(Output, words),
    )


def run(request: Request) -> int:
    """Print tables from records: those named, else ./visionbench.jsonl, else what was measured for the README."""
    tables, page = tables_and_page(request)
    output.print_tables(tables, request.output, page)
    return 0


def tables_and_page(request: Request) -> tuple[list[Table], Callable[[], str]]:
    """The tables that were asked for, and what makes them one HTML page. Raises `BenchError` for an unknown name."""
    if not request.tables and not request.whole:
        raise BenchError("which table? Name one (`list tables`) or say --all.")
    from visionbench.reports import REPORTS

    reports = list(REPORTS.values()) if request.whole else inputs.reports_named(request.tables)
    records, comparisons = inputs.read_records(request.records), inputs.read_comparisons(request.comparisons)
    if request.tables and not request.comparisons and not inputs.COMPARISONS.exists():
        _say_whose(request.tables)
    laid_out = [report.layout(records, comparisons) for report in reports]
    # Of all tables those that have something to say; one that is named says that it has nothing.
    tables = [table for table in laid_out if table.rows or not request.whole]
    # The whole page shows the figures, too; drawing them takes longer than everything else.
    return tables, lambda: output.document(tables, records, comparisons, figures=request.whole)


def _say_whose(tables: Sequence[str]) -> None:
    shown = [name for name in tables if name.startswith("effects")]
    if shown:
        progress.say(
            f"{', '.join(shown)}: nothing compared here yet (`effects`); shown is what comes with visionbench."
        )
