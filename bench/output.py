"""Where results go: which records a report reads, and how its tables reach a terminal, a pipe or a file."""

from __future__ import annotations

import json
import os
import shutil
import sys
from argparse import Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench import progress
from bench.record import store
from bench.record.errors import BenchError, choose
from bench.record.record import Record
from reports import records as committed

if TYPE_CHECKING:
    from reports import Report
    from reports.table import Table

RECORDS = Path("visionbench.jsonl")


def recorded(paths: Sequence[Path] | None) -> list[Record]:
    """The user's records (the files named, or the default one) and, below them, the committed counts.

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
        ours = [record for record in ours if record.source == "computed"]
    return [*ours, *own]


def chosen(names: Sequence[str]) -> list[Report]:
    """The reports of those names; all of them for none. Raises `BenchError` for a name that is none."""
    from reports import REPORTS

    return [REPORTS[choose("table", name, REPORTS)] for name in names] or list(REPORTS.values())


def tell(problems: Iterable[str]) -> None:
    """What was wrong with a records file, on stderr."""
    for problem in problems:
        progress.say(f"bench.py: {problem}")


def print_tables(laid_out: Sequence[Table], options: Namespace) -> None:
    """All tables in one format, to stdout or to a file."""
    from reports import render

    to_file = getattr(options, "output", None)
    coloured = colour() and to_file is None
    texts = [render(table, options.format, width(options.width), colour=coloured) for table in laid_out]
    if options.format == "json" and len(texts) > 1:
        texts = [json.dumps([json.loads(text) for text in texts], indent=2, ensure_ascii=False) + "\n"]
    text = "\n".join(texts)
    if to_file is None:
        sys.stdout.write(text)
        return
    try:
        to_file.write_text(text, encoding="utf-8")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise BenchError(f"cannot write {to_file} ({reason}): name another file with --output.") from error


def width(asked: int | None) -> int | None:
    """Columns to fill: as asked, else the terminal's; a file or a pipe has no width and gets everything."""
    if asked or not sys.stdout.isatty():
        return asked
    return shutil.get_terminal_size(fallback=(100, 40)).columns  # some terminals say that they have none


def colour() -> bool:
    """Whether results go to a terminal that has not asked for plain text (no-color.org)."""
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ
