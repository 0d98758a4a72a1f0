"""The command line: what a user may say, and how mistakes are told.

This is the composition root, and it is thin: it parses, and hands typed options to a verb of
`visionbench.command.verbs`, which imports what it needs when it needs it. `--help` and `report` never import torch.
"""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

from visionbench.command.options import Parser
from visionbench.command.verbs import (
    calibrate,
    compare,
    doctor,
    effects,
    export,
    figures,
    gate,
    listing,
    predict,
    report,
    run,
    selftest,
    tables,
    trace,
    validate_predictions,
)
from visionbench.comparison.verdict import INTERRUPTED, OK, USAGE
from visionbench.models import ModelError
from visionbench.record.errors import BenchError

VERBS = (
    *(tables, run, report, figures, trace, effects),
    *(gate, compare, selftest),
    *(predict, calibrate, validate_predictions),
    *(export, listing, doctor),
)

DESCRIPTION = """\
Benchmarks of vision models that deserve trust.

  python bench.py                       the first journey: count every row of the ConvNeXt paper's tables
                                        exactly, measure a few of them here, print the tables beside the paper's
  python bench.py --gpu a100            the same on an A100 (and only there), every row: TF32, channels_last
  python bench.py run convnext_tiny     measure models, tables or suites; resumes where it stopped
  python bench.py report --all          print the tables from what has been recorded; no torch, no GPU
  python bench.py figures --all         draw what has been recorded, printed and counted: SVG, PDF or PNG
  python bench.py trace convnext_tiny   one model's exact counts: params, MACs, traffic, training memory
  python bench.py gate --base main      is this checkout slower than main? both, in turns, with error rates known
  python bench.py compare --exact       did any model change? exact counts against a baseline in git, no clock
  python bench.py effects resnet50      what channels_last, TF32, autocast, bf16, compile do, each alone, in turns
  python bench.py export --output x.csv records as one flat table, for pandas and spreadsheets
  python bench.py list models 'swin*'   what there is: models, tables, suites, protocols, devices
  python bench.py doctor                is this machine fit to measure, and what to do where it is not
"""

EPILOG = """\
Everything measured is appended to ./visionbench.jsonl (--records FILE) as it comes: Ctrl-C, a crash or a power cut
loses nothing, and the same command goes on where it stopped. Results go to stdout, progress to stderr.
Exit codes: 0 done (rows that failed are in the tables, with their cause), 1 a regression or a change, 2 a mistake in
what was asked, 3 inconclusive rows under --strict, 4 nothing could be measured or compared, 130 interrupted.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. A `BenchError` is one sentence on stderr and exit code 2."""
    _open_what_is_closed()
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or (words[0].startswith("-") and words[0] not in ("-h", "--help", "--version")):
        words.insert(0, "tables")
    options = _parser().parse_args(words)
    options.words = words
    verb: Callable[[argparse.Namespace], int] = options.verb
    try:
        code = verb(options)
        sys.stdout.flush()
        return code
    except (BenchError, ModelError) as error:
        print(f"bench.py: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        goes_on = ", and the same command goes on from there" if options.resumes else ""
        print(f"\nbench.py: interrupted; what was measured is kept{goes_on}.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `| head` has read enough
        _forget_output()
        return OK
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
        _forget_output()
        print(
            f"bench.py: cannot write the results ({(error.strerror or str(error)).lower()}): free some space.",
            file=sys.stderr,
        )
        return USAGE


def _open_what_is_closed() -> None:
    """A closed stdin, stdout or stderr would give its number to the next file or socket, and its text with it."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r+"))  # noqa: SIM115 -- for as long as the process lives
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # an ASCII terminal gets question marks, not a traceback


def _forget_output() -> None:
    """Nothing more can be written to stdout: let what is still in its buffer go nowhere."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python bench.py",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(resumes=False)
    parser.add_argument("--version", action="version", version=f"visionbench {_version()}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser, required=True)
    for verb in VERBS:
        verb.add(commands)
    return parser


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("visionbench")
    except PackageNotFoundError:
        return "(not installed)"
