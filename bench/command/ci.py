"""What the verbs share that measure in turns: how turns are kept, and how a judgement reaches its readers.

These are the terminal, a job's summary page, annotations, test reports and trackers.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from visionbench.command import output, progress, values
from visionbench.command.requests import ForCI, Output
from visionbench.comparison import comparison
from visionbench.comparison.comparison import Comparison
from visionbench.comparison.verdict import Judgement, exit_code
from visionbench.record import files

if TYPE_CHECKING:
    from visionbench.reports.table import Table

FORMS = {
    "summary": "Markdown for a job's summary page (where $GITHUB_STEP_SUMMARY is set, that file gets it too)",
    "junit": "a JUnit report: a regressed row fails, an inconclusive one is skipped, an unmeasured one is an error",
    "gab": "the times for github-action-benchmark (customSmallerIsBetter)",
    "bmf": "the times for bencher.dev",
}


def add_forms(parser: argparse.ArgumentParser) -> None:
    """Options that say where else to write the judgement."""
    group = parser.add_argument_group("for CI")
    group.add_argument("--strict", action="store_true", help="inconclusive rows end with exit code 3")
    for form, text in FORMS.items():
        group.add_argument(f"--{form}", type=values.path, metavar="FILE", help=text)


def show(judgement: Judgement, how: Output, also: ForCI) -> int:
    """Print the judgement, write what else was asked for, and return the exit code."""
    from visionbench.reports import ci
    from visionbench.reports.results import verdict_text, verdicts

    tables: list[Table | None] = [verdicts.changes(judgement)]
    if judgement.verdicts or not judgement.structures:
        tables.append(verdicts.layout(judgement))
    shown = [table for table in tables if table]
    if not shown and (how.format != "terminal" or how.file is not None):  # a document is one of its format
        shown = [verdicts.layout(judgement)]
    with suppress(BrokenPipeError):  # whoever reads the table may stop; the files and the exit code are for others
        if shown:
            output.print_tables(shown, how)
        else:
            print(f"{verdict_text.headline(judgement)}.")
    for form in FORMS:
        path: Path | None = getattr(also, form)
        if path is not None:
            files.write_whole(path, ci.form(form, judgement))
    if os.environ.get("GITHUB_ACTIONS") == "true":
        document = how.file is None and how.format != "terminal"  # and GitHub's runner reads both streams
        with suppress(BrokenPipeError):
            (progress.put if document else sys.stdout.write)(ci.form("annotations", judgement))
    page = os.environ.get("GITHUB_STEP_SUMMARY")
    if page:
        _append(Path(page), ci.form("summary", judgement))
    return exit_code(judgement, strict=also.strict)


def _append(page: Path, text: str) -> None:
    """It was not asked for, so a verdict stays one where it cannot be written."""
    try:
        with page.open("a", encoding="utf-8") as file:
            file.write(text)
    except (OSError, ValueError) as error:
        why = files.reason(error)
        progress.complain(f"the job's summary page {page} cannot be written ({why}); the verdict stands.")


def keeper(path: Path | None) -> Callable[[Sequence[Comparison]], None]:
    """Writes turns to `path` (None: nowhere). What the file held of other rows is moved first, and that is said.

    Raises `BenchError` now, before anything is measured, for a file that holds something else than turns.
    """
    if path is not None and path.is_file() and path.stat().st_size:
        comparison.read(path)
    is_first = True

    def keep(comparisons: Sequence[Comparison]) -> None:
        nonlocal is_first
        if path is None or not comparisons:
            return
        if is_first and (aside := comparison.set_aside(path, comparisons)):
            progress.say(f"What {path} held is now in {aside}.")
        is_first = False
        comparison.write(path, comparisons)

    return keep


class Launches:
    """Progress of a gate as lines on stderr: one when a launch ends."""

    def launched(self, done: int, planned: int, rows: int, seconds_left: float) -> None:
        """`launch 3/10 of 12 rows (about 4 min 20 s left in this look)`."""
        from visionbench.record.units import duration, plural

        left = f" (about {duration(seconds_left)} left in this look)" if seconds_left else ""
        progress.say(f"launch {done}/{planned} of {plural(rows, 'row')}{left}")


@contextmanager
def ended_politely() -> Iterator[None]:
    """A CI job that is cancelled sends SIGTERM: end as by Ctrl-C, so that no process and no work tree is left."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
