"""The verb `calibrate`: fit predictions to your own measured rows."""

from __future__ import annotations

import csv
import json
import math
import warnings
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from visionbench.command import options, progress, values
from visionbench.command.inputs import CALIBRATIONS
from visionbench.command.verbs.predict import announce_progress
from visionbench.comparison.verdict import OK
from visionbench.record.clean import clean_json
from visionbench.record.errors import BenchError
from visionbench.record.files import is_device, reason
from visionbench.record.record import Record
from visionbench.record.units import plural

DESCRIPTION = """\
Fit the time model of `predict` to your own records. `run anchors` measures the fifteen networks that it needs, in a
few minutes. Held-out errors are printed, and stored with each calibration.
"""


def add(parser: ArgumentParser) -> None:
    """What a user may ask."""
    parser.description = DESCRIPTION
    parser.add_argument("files", nargs="*", type=values.path, metavar="FILE", help="records (.jsonl)")
    parser.add_argument(
        "--output",
        type=values.path,
        default=CALIBRATIONS,
        metavar="FOLDER",
        help=f"write calibrations there, where `predict` looks for them (default: {CALIBRATIONS})",
    )
    options.add_json(parser, "one array of calibrations")
    parser.set_defaults(verb=lambda words: run(words.files, words.output, as_json=words.json))


def run(files: Sequence[Path], folder: Path, *, as_json: bool = False) -> int:
    """Write one calibration per card and way of running found in the files of records."""
    from visionbench.predicting import calibration
    from visionbench.predicting.calibrate import from_records
    from visionbench.record import store

    if not files:
        raise BenchError("nothing to calibrate on: name files of records (`run anchors` makes one).")
    for path in files:
        _refuse_table(path)
    records = [record for path in files for record in store.read(path).records]
    with warnings.catch_warnings(action="ignore"):
        calibrations = from_records(_trusted(records), progress=announce_progress)
    if not calibrations:
        raise BenchError("nothing to calibrate on: the files hold no measured throughput of a known GPU.")
    told = []
    for fitted, skipped in calibrations:
        figures = fitted.held_out["model"]
        reasons = "; ".join(sorted({skip.reason for skip in skipped}))
        left_out = f", {plural(len(skipped), 'row')} left out ({reasons})" if skipped else ""
        path = calibration.write(fitted, folder)
        held_out = {"mean_error": figures.mean, "low": math.expm1(fitted.low), "high": math.expm1(fitted.high)}
        told.append({"file": str(path), "rows": figures.rows, "left_out": len(skipped), "level": 0.8} | held_out)
        if as_json:
            continue
        print(
            f"{path}: {plural(figures.rows, 'row')} of "
            f"{plural(figures.families, 'family', 'families')}{left_out}; held-out families are {figures.mean:.1%} off "
            f"on average, 80 % of them between {math.expm1(fitted.low):+.0%} and {math.expm1(fitted.high):+.0%}"
        )
    if as_json:
        print(clean_json(json.dumps(told, indent=2)))
    return OK


def _refuse_table(path: Path) -> None:
    """Raise `BenchError` for a CSV file, with the first row that is no row of it, if there is one."""
    if path.suffix != ".csv":
        return
    remedy = "calibrate reads records (.jsonl); `run anchors` makes them"
    try:
        if is_device(path):
            raise BenchError(f"{path} is a device; {remedy}.")
        with path.open(encoding="utf-8", errors="replace", newline="") as lines:
            rows = csv.reader(lines)
            header = next(rows, [])
            for row in rows:
                if row and len(row) != len(header):
                    cells = f"{len(row)} of {len(header)} cells"
                    raise BenchError(f"{path}, line {rows.line_num} ('{row[0][:60]}') has {cells}; {remedy}.")
    except csv.Error as error:
        raise BenchError(f"{path}, line {rows.line_num} is no row of a table ({error}); {remedy}.") from error
    except OSError as error:
        raise BenchError(f"cannot read {path} ({reason(error)}); {remedy}.") from error
    raise BenchError(f"{path} is a table and holds no records; {remedy}.")


def _trusted(records: Sequence[Record]) -> list[Record]:
    """Measured rows whose network a file may name: building a `user:` model would import what the file says."""
    measured = [record for record in records if record.source == "measured" and record.failure is None]
    trusted = [record for record in measured if not record.spec.model.startswith("user:")]
    left_out = len({record.spec for record in measured} - {record.spec for record in trusted})
    if left_out:
        progress.say(f"{plural(left_out, 'row')} of user: models left out: a file must not decide what is imported.")
    return trusted
