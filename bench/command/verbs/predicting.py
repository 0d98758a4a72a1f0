"""What the verbs of prediction share: traces of many models, quietly and with a word now and then."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from visionbench.command import progress
from visionbench.command.output import CALIBRATIONS


def add_calibrations(parser: argparse.ArgumentParser) -> None:
    """The option that says where calibrations of one's own lie."""
    parser.add_argument(
        "--calibrations",
        type=Path,
        metavar="FOLDER",
        help=f"of your own, used before ours (`calibrate` writes them; default: {CALIBRATIONS})",
    )


def told(done: int, total: int, name: str) -> None:
    """Every fiftieth model of a long row of traces, on stderr."""
    if done % 50 == 0:
        progress.say(f"traced {done}/{total}: {name}")


@contextmanager
def quietly() -> Iterator[None]:
    """Timm warns of every old name in an old table."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
