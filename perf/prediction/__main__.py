"""The workshop's command line: fit what is shipped, and check it against what people printed."""

from __future__ import annotations

import argparse
import math
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from perf.prediction import memory_check, printed
from perf.prediction.published import calibrate_published
from perf.prediction.timm_tables import from_timm
from visionbench.command.verbs.predict import announce_progress
from visionbench.predicting import calibration
from visionbench.record.errors import BenchError
from visionbench.reports import FORMATS, render


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. A `BenchError` is one sentence on stderr and exit code 2."""
    options = _parser().parse_args(words)
    try:
        with warnings.catch_warnings(action="ignore"):
            if options.command == "fit":
                _fit(options.tables, options.output, published=options.published)
            else:
                _check(options.what, options.format)
    except BenchError as error:
        print(f"perf.prediction: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m perf.prediction", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    fit = commands.add_parser("fit", help="fit calibrations to timm's result tables and to printed rows")
    fit.add_argument("tables", nargs="*", type=Path, metavar="TABLE", help="timm's benchmark-*.csv")
    fit.add_argument("--published", action="store_true", help="also fit the rows of published_rows.csv")
    fit.add_argument("--output", type=Path, default=calibration.FOLDER, metavar="FOLDER", help="write them there")
    check = commands.add_parser("check", help="compare predictions with printed numbers that nothing was fitted on")
    check.add_argument("what", choices=("throughput", "memory"))
    check.add_argument("--format", choices=FORMATS, default="terminal")
    return parser


def _fit(tables: Sequence[Path], folder: Path, *, published: bool) -> None:
    calibrations = from_timm(tables, announce_progress) if tables else []
    calibrations += calibrate_published(progress=announce_progress) if published else []
    if not calibrations:
        raise BenchError("nothing to fit: name timm's tables, or say --published.")
    for fitted, skipped in calibrations:
        figures = fitted.held_out["model"]
        print(
            f"{calibration.write(fitted, folder)}: {figures.rows} rows of {figures.families} families, "
            f"{len(skipped)} left out; held-out families are {figures.mean:.1%} off on average, 80 % of them between "
            f"{math.expm1(fitted.low):+.0%} and {math.expm1(fitted.high):+.0%}"
        )


def _check(what: str, form: str) -> None:
    if what == "throughput":
        table = printed.table_of(printed.check_published(progress=announce_progress))
    else:
        table = memory_check.table_of(memory_check.check_memory(announce_progress))
    print(render(table, form), end="")


if __name__ == "__main__":
    raise SystemExit(main())
