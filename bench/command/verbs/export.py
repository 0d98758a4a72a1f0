"""The verb `export`: records as one flat table. No torch, no GPU."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from visionbench.command import inputs, output, values
from visionbench.record import store
from visionbench.record.errors import BenchError
from visionbench.record.program import program_name

DESCRIPTION = """\
Write records as one flat table, one line per measurement of a launch. docs/measuring.md explains the columns.
With --format otava: write the history of a branch, one line per file, in which Apache Otava looks for drifts.
"""


def add(parser: ArgumentParser) -> None:
    """What a user may ask."""
    from visionbench.reports.export import FORMATS

    parser.description = DESCRIPTION
    parser.add_argument(
        "files", nargs="*", type=values.path, metavar="FILE", help=f"records to read (default: {inputs.RECORDS})"
    )
    parser.add_argument("--format", choices=FORMATS, help="default: by the name of --output, else csv")
    parser.add_argument(
        "--json", action="store_const", const="json", dest="format", help="print the result as JSON: --format json"
    )
    parser.add_argument("--output", type=values.path, metavar="FILE", help="write there instead of stdout")
    parser.set_defaults(verb=lambda words: run(words.files, words.format, words.output))


def run(files: Sequence[Path], form: str | None, file: Path | None) -> int:
    """Write the flat table of these files' records, in the files' order."""
    from visionbench.reports.export import export

    if not files and not inputs.RECORDS.exists():
        run_it = f"`{program_name()} run MODEL` writes {inputs.RECORDS}"
        raise BenchError(f"nothing is measured in this folder yet: {run_it}, or name files of records.")
    logs = [store.read(path) for path in files or [inputs.RECORDS]]
    for log in logs:
        inputs.report_problems(log.problems)
    form = form or _by_name(file)
    if form == "parquet" and file is None:
        raise BenchError("parquet is no text: name a file with --output.")
    data = export([log.records for log in logs], form)
    if file is None:
        sys.stdout.write(data.decode())
    else:
        output.write(file, data)
    return 0


def _by_name(path: Path | None) -> str:
    from visionbench.reports.export import FORMATS

    ending = path.suffix.removeprefix(".") if path else ""
    if ending and ending not in FORMATS[:3]:
        raise BenchError(f"{path} names no format (.{ending}): end it in .{', .'.join(FORMATS[:3])}, or say --format.")
    return ending or "csv"
