"""The verb `report`: tables from what is recorded. No torch, no GPU."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from visionbench.command import inputs, options, output, progress, values
from visionbench.command.requests import TERMINAL, Output
from visionbench.record.errors import BenchError

if TYPE_CHECKING:
    from visionbench.record.record import Record
    from visionbench.reports import Report
    from visionbench.reports.table import Cell, Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Which tables to print, from which files (none: the default ones and the committed ones), and how."""

    tables: tuple[str, ...] = ()
    all: bool = False
    user_models: bool = False
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
    parser.add_argument(
        "tables",
        nargs="*",
        metavar="TABLE",
        help="swin_table1, ... (see `list tables`), a paper (swin), or a file of your own (mypaper.toml)",
    )
    parser.add_argument("--all", action="store_true", help="every table")
    options.add_evidence(parser)
    inputs.add_user_models(parser)
    options.add_output(parser)
    parser.add_argument("--standalone", action="store_true", help="with --format latex: a document that compiles")
    parser.add_argument(
        "--columns",
        type=values.words,
        default=(),
        metavar="WORDS",
        help="the columns to print, by the beginning of their headers: params,img/s; flops.exact names the exact one",
    )
    parser.add_argument("--notes", action="store_true", help="with --format latex: explain the columns below the table")
    parser.add_argument("--output", type=values.path, dest="file", metavar="FILE", help="write there instead of stdout")
    parser.set_defaults(verb=lambda words: run(options.part(Request, words)))


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

    output.check(request.output)
    files: list[Report] = []
    if request.all:
        reports = list(REPORTS.values())
    elif request.whole:  # a page is for browsing: with every paper's tables it would take a minute to open
        reports = [report for report in REPORTS.values() if report.paper_table or not report.paper]
    else:
        named = [(name, inputs.reports_of(name)) for name in request.tables]
        reports = [report for _, found in named for report in found]
        files = [report for name, found in named if name.endswith(".toml") for report in found]
    own = inputs.own_records(request.records)
    recorded = inputs.with_committed(own, measured=not files)
    comparisons = inputs.read_comparisons(request.comparisons)
    timed = {id(r.spec): r.spec for r in own if r.source == "measured" and r.spec.task == "inference"}
    networks = [(spec.model, spec.image_size) for spec in timed.values() if not spec.inputs]
    reports = [report.beside(networks) for report in reports]
    from visionbench.reports.launches import Records

    counted = _count_missing(files, recorded, request.user_models)
    records = Records((*recorded, *counted))  # the last count is the one that is shown
    effects = [name for name in request.tables if name.startswith("effects")]
    if effects and not request.comparisons and not inputs.COMPARISONS.exists():
        shown = ", ".join(effects)
        progress.say(f"{shown}: nothing compared here yet (`effects`); shown is what comes with visionbench.")
    measured_here = any(record.source == "measured" for record in own)
    # Of a user's own table no column is of a machine that came with visionbench: it is going to be printed.
    theirs = records if measured_here else Records(tuple(r for r in records if r.source != "measured"))
    of_files = {report.name for report in files}
    laid_out = [report.layout(theirs if report.name in of_files else records, comparisons) for report in reports]
    if request.tables and not measured_here:
        _say_where(laid_out)
    if request.output.columns:
        from visionbench.reports.table import pick_of_all

        laid_out = pick_of_all(laid_out, request.output.columns)
    # Of all tables those that have something to say; one that is named says that it has nothing.
    tables = [table for table in laid_out if table.rows or not request.whole]
    # The whole page shows the figures, too; drawing them takes longer than everything else.
    return tables, lambda: output.document(tables, records, comparisons, whole=request.whole, own=measured_here)


def _say_where(tables: Sequence[Table]) -> None:
    """That measurements are not the user's: the columns name machines, and do not say whose."""

    def is_timed(cell: Cell) -> bool:
        return cell.source == "measured" and isinstance(cell.evidence, tuple)

    timed = (table.name for table in tables if any(is_timed(cell) for row in table.rows for cell in row.cells))
    if shown := dict.fromkeys(timed):
        progress.say(f"{', '.join(shown)}: nothing measured here yet (`run`); what is measured came with visionbench.")


def _count_missing(reports: Sequence[Report], records: Sequence[Record], user_models: bool) -> list[Record]:
    """Counts for the rows of a user's own files that have none; only where there are such is torch imported.

    A recorded count of a user's network is not believed: its file may have changed, which `counting` knows. It is
    counted only where `user_models` are wanted: that imports what the paper's file says.
    Raises `BenchError` for a model that there is not; one that cannot be counted is said, and its cells stay dashes.
    """
    from visionbench.reports.paper import profiles

    places = {
        row.network: place
        for report in reports
        for row, place in zip(report.rows, report.places, strict=False)
        if row.model
    }
    if not places:
        return []
    shipped = profiles.shipped()
    have = {(r.spec.model, r.spec.image_size) for r in records if r.source == "computed" and r.spec.task == "inference"}
    have |= {(model, size) for model, size, form in shipped if not form}
    wanted = [network for network in places if network not in have or network[0].startswith("user:")]
    if not user_models:
        inputs.refuse_user_models(model for model, _ in wanted)
        wanted = [network for network in wanted if not network[0].startswith("user:")]
    if not wanted:
        return []
    from visionbench.command import counting

    if not all(counting.versions()):
        progress.say(f"{len(wanted)} rows are not counted: torch and timm are not installed here.")
        return []
    counted = counting.count(wanted)
    made = [counted[(*network, "")] for network in wanted if (*network, "") in counted]
    for profile in made:
        place = places[profile.model, profile.size]
        if profile.error.startswith(("no model ", "'")):  # a mistake of the file's
            raise BenchError(f"{place}: {profile.error}.")
        if profile.error:
            progress.complain(f"{place}: {profile.error}")
    return [profiles.record(profile) for profile in made if not profile.error]
