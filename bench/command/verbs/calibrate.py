"""The verb `calibrate`: fit predictions to measured rows."""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from visionbench.command.options import Commands
from visionbench.command.output import CALIBRATIONS
from visionbench.command.verbs.predicting import quietly, told
from visionbench.comparison.verdict import OK
from visionbench.record.errors import BenchError
from visionbench.record.record import Record
from visionbench.record.units import plural

if TYPE_CHECKING:
    from visionbench.predicting.calibration import Calibration
    from visionbench.predicting.samples import Skipped

DESCRIPTION = """\
Fit the time model of `predict` to measured rows: your own records (`run anchors` measures fifteen networks in some
minutes), timm's published result files, or the rows that papers print. Held-out errors are printed and stored with it.
"""


def add(commands: Commands) -> None:
    """What a user may ask."""
    parser = commands.add_parser("calibrate", help="fit predictions to measured rows", description=DESCRIPTION)
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="records (.jsonl) or timm's results (.csv)")
    parser.add_argument("--published", action="store_true", help="also the rows that papers print, which come with us")
    parser.add_argument(
        "--output",
        type=Path,
        default=CALIBRATIONS,
        metavar="FOLDER",
        help=f"calibrations go there, where `predict` looks for them (default: {CALIBRATIONS})",
    )
    parser.set_defaults(verb=run)


def run(options: Namespace) -> int:
    """Write one calibration per card and way of running found in the files."""
    from visionbench.predicting import calibration

    if not options.files and not options.published:
        raise BenchError("nothing to calibrate on: name files of records or of timm's results, or say --published.")
    with quietly():
        made = list(_made(options))
    if not made:
        raise BenchError("nothing to calibrate on: the files hold no measured throughput of a known GPU.")
    for one, skipped in made:
        print(_sentence(calibration.write(one, options.output), one, skipped))
    return OK


def _made(options: Namespace) -> Iterator[tuple[Calibration, list[Skipped]]]:
    from visionbench.predicting.anchors import from_records
    from visionbench.predicting.calibrate import from_timm
    from visionbench.predicting.published import calibrate_published
    from visionbench.record import store

    tables = [path for path in options.files if path.suffix == ".csv"]
    logs = [store.read(path) for path in options.files if path.suffix != ".csv"]
    records = [record for log in logs for record in log.records]
    if tables:
        yield from from_timm(tables, told)
    if records:
        yield from from_records(_timed(records), progress=told)
    if options.published:
        yield from calibrate_published(progress=told)


def _timed(records: list[Record]) -> list[Record]:
    return [record for record in records if record.source == "measured" and record.failure is None]


def _sentence(path: Path, made: Calibration, skipped: list[Skipped]) -> str:
    found = made.held_out["model"]
    left_out = f", {plural(len(skipped), 'row')} left out" if skipped else ""
    return (
        f"{path}: {plural(found.rows, 'row')} of {plural(found.families, 'family', 'families')}{left_out}; "
        f"held-out families are {found.mean:.1%} off on average, 80 % of them between "
        f"{math.expm1(made.low):+.0%} and {math.expm1(made.high):+.0%}"
    )
