"""How tables reach a terminal, a pipe or a file."""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from visionbench.command.requests import Output
from visionbench.record import files
from visionbench.record.clean import clean_json, without_commands
from visionbench.record.errors import BenchError
from visionbench.record.program import release

if TYPE_CHECKING:
    from visionbench.comparison.comparison import Comparison
    from visionbench.record.record import Record
    from visionbench.reports.table import Table

SUFFIXES = {".html": "html", ".csv": "csv", ".json": "json", ".md": "markdown", ".tex": "latex"}
"""What a file's name says of its format, where nothing else does."""

NO_TABLE = (".pdf", ".png", ".svg", ".jpg", ".xls", ".xlsx", ".ods", ".doc", ".docx", ".parquet")
"""Endings of what is no text: a table under such a name could not be opened."""


def print_tables(tables: Sequence[Table], output: Output, page: Callable[[], str] | None = None) -> None:
    """All tables in one format, to stdout or to a file. As HTML they are one `page`, with what else it may hold."""
    text = text_of(tables, output, page)
    if output.file is None:
        sys.stdout.write(text)
    else:
        write(output.file, text.encode())


def text_of(tables: Sequence[Table], output: Output, page: Callable[[], str] | None = None) -> str:
    """All tables in one format. Raises `BenchError` for a standalone document of another format than LaTeX."""
    from visionbench.reports import render

    form: str = output.format
    if output.file is not None and form == "terminal":
        form = SUFFIXES.get(output.file.suffix, form)
    coloured = colour() and output.file is None
    if form == "html":
        texts = [page() if page else document(tables)]
    else:
        notes = output.notes or output.standalone
        texts = [render(table, form, width(output.width), colour=coloured, notes=notes) for table in tables]
    if form == "json" and len(texts) > 1:
        texts = [json.dumps([json.loads(text) for text in texts], indent=2, ensure_ascii=False) + "\n"]
    text = without_commands("\n".join(texts))
    if not output.standalone:
        return text
    if form != "latex":
        raise BenchError("--standalone makes a LaTeX document: say --format latex.")
    from visionbench.reports.render import latex

    return latex.document(text)


def document(
    tables: Sequence[Table],
    records: Sequence[Record] = (),
    comparisons: Sequence[Comparison] = (),
    *,
    whole: bool = False,
    own: bool = False,
) -> str:
    """The tables as one HTML file, with the evidence for their numbers.

    The `whole` page has a summary on top, and what can be drawn, too. `own`: the measurements are the user's.
    """
    from visionbench.reports.render import html

    if not whole:
        return html.page(tables, (), records, comparisons, version=release() or "")
    from visionbench.reports.figures import Evidence
    from visionbench.reports.results import summary

    return html.page(
        sorted(tables, key=lambda table: table.name != summary.NAME),
        html.pictures(Evidence(records=records, comparisons=comparisons)),
        records,
        comparisons,
        summary=summary.sentences(records, comparisons, own=own),
        version=release() or "",
    )


def print_records(records: Iterable[Record]) -> None:
    """What `--json` prints of a verb that makes records: one JSON document a line."""
    from visionbench.record.record import to_json

    for record in records:
        print(clean_json(to_json(record)))


def write(path: Path, data: bytes, option: str = " with --output") -> None:
    """Write a result to a file, whole. Raises `BenchError` where that cannot be; an older file is then as it was.

    `option` is what names the file.
    """
    files.write_whole(path, data, f"name another file{option}")


def check(output: Output, *others: Path | None) -> None:
    """Raise `BenchError` now for a file that could not be written when all is done; `others` are written beside it."""
    if output.file is not None and output.file.suffix in NO_TABLE:
        raise BenchError(
            f"{output.file}: tables are not written as {output.file.suffix}: end the name with one of "
            f"{', '.join(SUFFIXES)}, or .txt."
        )
    remedies = [(output.file, "name another file with --output"), *((path, "name another file") for path in others)]
    for path, remedy in remedies:
        if path is not None:
            files.check_room(path, remedy)


def width(asked: int | None) -> int | None:
    """Columns to fill: as asked, else as `COLUMNS` says, else the terminal's.

    A pipe from a terminal (`| less`) is read there, so it has that width. Any other pipe and a file get everything.
    """
    if asked:
        return asked
    if os.environ.get("COLUMNS", "").isdecimal() and int(os.environ["COLUMNS"]) > 0:
        return int(os.environ["COLUMNS"])
    if sys.stdout.isatty():
        return shutil.get_terminal_size(fallback=(100, 40)).columns  # some terminals say that they have none
    return _reader()


def _reader() -> int | None:
    """The width of the terminal behind a pipe whose progress goes to that terminal; None for a file, or without one."""
    try:
        piped = stat.S_ISFIFO(os.fstat(sys.stdout.fileno()).st_mode)
        return os.get_terminal_size(sys.stderr.fileno()).columns or None if piped else None
    except (OSError, ValueError):  # no descriptor, or no terminal
        return None


def colour() -> bool:
    """Whether results go to a terminal that has not asked for plain text (no-color.org)."""
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
