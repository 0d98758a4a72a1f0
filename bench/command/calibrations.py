"""What the verbs of prediction share: where calibrations are, and how long rows of traces report themselves."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from visionbench.command import progress
from visionbench.command.output import CALIBRATIONS


def add_calibrations(parser: argparse.ArgumentParser) -> None:
    """Add the option that names a folder of one's own calibrations."""
    parser.add_argument(
        "--calibrations",
        type=Path,
        metavar="FOLDER",
        help=f"your own calibrations, used before ours (`calibrate` writes them; default: {CALIBRATIONS})",
    )


def announce_progress(done: int, total: int, name: str) -> None:
    """Report progress every 50 models, on stderr."""
    if done % 50 == 0:
        progress.say(f"traced {done}/{total}: {name}")


@contextmanager
def without_warnings() -> Iterator[None]:
    """Silence timm's deprecation warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
