"""The verb `export`: records as one flat table. No torch, no GPU."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from visionbench.command import output
from visionbench.command.options import Commands
from visionbench.command.output import RECORDS
from visionbench.record import store
from visionbench.record.errors import BenchError
from visionbench.reports.export import FORMATS

DESCRIPTION = """\
Records as one flat table: one line per measurement of a launch, every column documented in reports/export.py.
--format otava writes the history of a branch instead, a line per file, in which Apache Otava looks for drifts.
"""


def add(commands: Commands) -> None:
    """What a user may ask."""
    parser = commands.add_parser(
        "export", help="records as a flat table: csv, json, parquet; or their history", description=DESCRIPTION
    )
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help=f"records to read (default: {RECORDS})")
    parser.add_argument("--format", choices=FORMATS, help="default: by the name of --output, else csv")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write there instead of stdout")
    parser.set_defaults(verb=run)


def run(options: Namespace) -> int:
    """Write the flat table of these files' records, in the files' order."""
    from visionbench.reports.export import export

    logs = [store.read(path) for path in options.files or [RECORDS]]
    for log in logs:
        output.tell(log.problems)
    form = options.format or _by_name(options.output)
    if form == "parquet" and options.output is None:
        raise BenchError("parquet is no text: name a file with --output.")
    data = export([log.records for log in logs], form)
    if options.output is None:
        sys.stdout.write(data.decode())
    else:
        output.write(options.output, data)
    return 0


def _by_name(path: Path | None) -> str:
    found = path.suffix.removeprefix(".") if path else ""
    if found and found not in FORMATS[:3]:
        raise BenchError(f"{path} names no format (.{found}): end it in .{', .'.join(FORMATS[:3])}, or say --format.")
    return found or "csv"
