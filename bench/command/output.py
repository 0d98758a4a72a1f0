"""Where results go: which records a report reads, and how its tables reach a terminal, a pipe or a file."""

from __future__ import annotations

import json
import os
import shutil
import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from visionbench.command import progress
from visionbench.comparison import comparison
from visionbench.comparison.comparison import Comparison
from visionbench.record import store
from visionbench.record.errors import BenchError, choose
from visionbench.record.record import Record
from visionbench.reports import records as committed

if TYPE_CHECKING:
    from visionbench.reports import Report
    from visionbench.reports.table import Table

RECORDS, COMPARISONS = Path("visionbench.jsonl"), Path("visionbench-effects.jsonl")
SUFFIXES = {".html": "html", ".csv": "csv", ".json": "json", ".md": "markdown", ".tex": "latex"}
"""What a file's name says of its format, where nothing else does."""

CALIBRATIONS = Path("visionbench-calibrations")


def recorded(paths: Sequence[Path] | None) -> list[Record]:
    """The user's records (the files named, or the default one) and, below them, the committed counts and predictions.

    Where the user has measured nothing yet, the committed measurements too: a report always has something to show,
    and every measured column names the machine it was measured on.
    """
    logs = [store.read(path) for path in paths] if paths else [store.read_if_there(RECORDS)]
    for log in logs:
        tell(log.problems)
    own = [record for log in logs for record in log.records]
    folder = Path(committed.__file__).parent
    ours = [record for path in sorted(folder.glob("*.jsonl")) for record in store.read(path).records]
    if any(record.source == "measured" for record in own):
        ours = [record for record in ours if record.source in ("computed", "predicted")]
    return [*ours, *own]


def predicted() -> list[Record]:
    """The committed predictions of the paper's rows on the paper's cards."""
    return list(store.read(Path(committed.__file__).parent / "predicted.jsonl").records)


def compared(paths: Sequence[Path] | None = None) -> list[Comparison]:
    """The user's comparisons (of the files named, or the default one); the committed ones where there are none."""
    found = paths or ([COMPARISONS] if COMPARISONS.exists() else [])
    own = [one for path in found for one in comparison.read(path)]
    folder = Path(committed.__file__).parent / "comparisons"
    return own or [one for path in sorted(folder.glob("*.jsonl")) for one in comparison.read(path)]


def chosen(names: Sequence[str]) -> list[Report]:
    """The reports of those names; those of the paper for none. Raises `BenchError` for a name that is none."""
    from visionbench.reports import REPORTS

    named = [REPORTS[choose("table", name, REPORTS)] for name in names]
    return named or [report for report in REPORTS.values() if report.paper_table]


def tell(problems: Iterable[str]) -> None:
    """What was wrong with a records file, on stderr."""
    for problem in problems:
        progress.say(f"bench.py: {problem}")


def print_tables(laid_out: Sequence[Table], options: Namespace, page: Callable[[], str] | None = None) -> None:
    """All tables in one format, to stdout or to a file. As HTML they are one `page`, with what else it may hold."""
    from visionbench.reports import render

    to_file = getattr(options, "output", None)
    if to_file is not None and options.format == "terminal":
        options.format = SUFFIXES.get(to_file.suffix, options.format)
    coloured = colour() and to_file is None
    if options.format == "html":
        texts = [page() if page else document(laid_out)]
    else:
        texts = [render(table, options.format, width(options.width), colour=coloured) for table in laid_out]
    if options.format == "json" and len(texts) > 1:
        texts = [json.dumps([json.loads(text) for text in texts], indent=2, ensure_ascii=False) + "\n"]
    text = "\n".join(texts)
    if getattr(options, "standalone", False):
        text = _standalone(text, options.format)
    if to_file is None:
        sys.stdout.write(text)
    else:
        write(to_file, text.encode())


def document(
    laid_out: Sequence[Table],
    records: Sequence[Record] = (),
    comparisons: Sequence[Comparison] = (),
    *,
    figures: bool = False,
) -> str:
    """The tables as one HTML file, with what stands behind their numbers; with `figures` what can be drawn, too."""
    from visionbench.reports.render import html

    drawn: Sequence[html.Picture] = ()
    if figures:
        from visionbench.reports.figures import Evidence

        drawn = html.pictures(Evidence(records=records, comparisons=comparisons))
    return html.page(laid_out, drawn, records, comparisons, version=_version())


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("visionbench")
    except PackageNotFoundError:
        return ""


def _standalone(text: str, form: str) -> str:
    """A document of its own, where the format has such a thing."""
    if form != "latex":
        raise BenchError("--standalone makes a LaTeX document: say --format latex.")
    from visionbench.reports.render.latex import document

    return document(text)


def write(path: Path, data: bytes) -> None:
    """Write a result to a file. Raises `BenchError` where that cannot be."""
    try:
        path.write_bytes(data)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise BenchError(f"cannot write {path} ({reason}): name another file with --output.") from error


def width(asked: int | None) -> int | None:
    """Columns to fill: as asked, else the terminal's; a file or a pipe has no width and gets everything."""
    if asked or not sys.stdout.isatty():
        return asked
    return shutil.get_terminal_size(fallback=(100, 40)).columns  # some terminals say that they have none


def colour() -> bool:
    """Whether results go to a terminal that has not asked for plain text (no-color.org)."""
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ
