"""The options that verbs share, and the types of their values: each refuses what it cannot mean, in one sentence."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TypeAlias

from visionbench.command.output import COMPARISONS, RECORDS
from visionbench.comparison.verdict import USAGE
from visionbench.record.spec import ATTENTIONS, COMPILE_MODES, EFFORTS, MEMORY_FORMATS, PRECISIONS, PROTOCOLS, TASKS
from visionbench.reports import FORMATS

Commands: TypeAlias = "argparse._SubParsersAction[Parser]"
"""Where a verb adds its parser."""

MOST = 10**9
"""No batch, image or count of anything here is larger."""

LARGEST = "max"
"""The batch size that means: the largest that fits."""


class Parser(argparse.ArgumentParser):
    """argparse, whose mistakes are one sentence that ends with the remedy, as all of ours."""

    def error(self, message: str) -> None:  # type: ignore[override]
        """Say it and end with exit code 2."""
        print(f"bench.py: {message}; see `{self.prog} --help`.", file=sys.stderr)
        raise SystemExit(USAGE)


def add_where(parser: argparse.ArgumentParser) -> None:
    """Options that say where to measure and where to keep what was measured."""
    where = parser.add_argument_group("where")
    where.add_argument(
        "--gpu",
        metavar="NAME",
        help="insist that the GPU here is a v100, a100, h100-sxm5-80gb, ... and measure as the paper did on it",
    )
    where.add_argument(
        "--device",
        metavar="DEVICE",
        help="cuda, cuda:1 or cpu (default: the GPU if there is one); cuda:0,cuda:1 spreads rows over equal GPUs, "
        "which is off by default because they share the host's cores and its power",
    )
    where.add_argument("--threads", type=positive, metavar="N", help="CPU threads (default: torch's choice)")
    where.add_argument(
        "--records", type=Path, default=RECORDS, metavar="FILE", help=f"append records there (default: {RECORDS})"
    )


def add_evidence(parser: argparse.ArgumentParser) -> None:
    """Options that say which files to read: records, and comparisons."""
    parser.add_argument(
        "--records",
        type=Path,
        action="append",
        metavar="FILE",
        help=f"records to read (repeatable; default: {RECORDS} and the committed ones)",
    )
    parser.add_argument(
        "--comparisons",
        type=Path,
        action="append",
        metavar="FILE",
        help=f"what `effects` has kept (repeatable; default: {COMPARISONS}, or the committed ones)",
    )


def add_measuring(parser: argparse.ArgumentParser) -> None:
    """Options that say how long and how often to measure."""
    how = parser.add_argument_group("how to measure")
    how.add_argument(
        "--protocol",
        choices=sorted(PROTOCOLS),
        help="swin: the paper's (50 warm-up, 30 timed); steady: ours; smoke: a first look (default on a CPU)",
    )
    how.add_argument(
        "--effort",
        choices=tuple(EFFORTS),
        help="1, 3 or 10 launches per row, by protocol steady if none is named",
    )
    how.add_argument("--launches", type=positive, metavar="N", help="fresh processes per row (an interval needs 7)")
    how.add_argument(
        "--target-ci",
        type=share,
        metavar="SHARE",
        help="add launches until the interval is within +-1%% (say) of the number",
    )
    how.add_argument(
        "--row-time", type=seconds, metavar="TIME", help="stop adding launches to a row that has taken this long"
    )
    how.add_argument(
        "--lock-clocks",
        action="store_true",
        help="fix the GPU's clock while measuring (needs root; put back afterwards)",
    )
    how.add_argument(
        "--max-time", type=seconds, metavar="TIME", help="stop starting launches after this long: 90, 90s, 10m, 2h"
    )
    how.add_argument("--retry-failures", action="store_true", help="measure rows again that failed before")


def add_spec(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Options that are fields of a spec, but for the batch size, which verbs treat differently."""
    spec = parser.add_argument_group("what is run")
    spec.add_argument(
        "--image-size",
        type=positive,
        metavar="PIXELS",
        help="square input (default: the table's, or what the model was trained on)",
    )
    spec.add_argument("--task", choices=TASKS, default="inference", help="default: inference")
    spec.add_argument("--precision", choices=PRECISIONS, help="default: fp32")
    spec.add_argument("--memory-format", choices=MEMORY_FORMATS, help="default: contiguous")
    spec.add_argument(
        "--compile", choices=COMPILE_MODES, dest="compile_mode", help="torch.compile's mode (default: eager)"
    )
    spec.add_argument(
        "--attention",
        choices=ATTENTIONS,
        default="fused",
        help="fused kernels, or the math as in 2022 (default: fused)",
    )
    return spec


def add_output(parser: argparse.ArgumentParser) -> None:
    """Options that say how tables are printed."""
    output = parser.add_argument_group("output")
    output.add_argument("--format", choices=FORMATS, default="terminal", help="default: terminal")
    output.add_argument("--json", action="store_const", const="json", dest="format", help="short for --format json")
    output.add_argument(
        "--width", type=positive, metavar="COLUMNS", help="for the terminal (default: as wide as it is)"
    )


def positive(text: str) -> int:
    """A whole number of at least 1, and not beyond what anything here counts."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value > MOST:
        raise argparse.ArgumentTypeError(f"{text} is too large: {MOST:,} at most")
    if value < 1:
        raise argparse.ArgumentTypeError(f"a whole number of at least 1 is needed, not '{text}'")
    return value


def batch(text: str) -> int | str:
    """A number of images, or `max`."""
    return text if text == LARGEST else positive(text)


def batches(text: str) -> tuple[int, ...]:
    """`1,8,64`: numbers of images."""
    return tuple(dict.fromkeys(positive(word) for word in text.split(",")))


def share(text: str) -> float:
    """`1%` or `0.01`: more than nothing and less than all."""
    number, scale = (text[:-1], 100.0) if text.endswith("%") else (text, 1.0)
    try:
        value = float(number) / scale
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"a share is needed, like 1% or 0.01, not '{text}'")
    return value


_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(text: str) -> float:
    """`90`, `90s`, `10m` or `2h`, in seconds."""
    number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS else (text, "s")
    try:
        value = float(number) * _UNITS[unit]
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"a time is needed, like 90, 90s, 10m or 2h, not '{text}'")
    return value
