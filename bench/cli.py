"""The command line: what a user may say, and how mistakes are told.

This is the composition root, and it is thin: it parses, and hands typed options to a verb of `bench.verbs`, which
imports what it needs when it needs it. `--help` and `report` never import torch.
"""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from bench import arguments, listing, verbs
from bench.output import RECORDS
from bench.record.errors import BenchError
from bench.record.spec import SUITES
from models import ModelError

OK, USAGE = 0, 2

DESCRIPTION = """\
Benchmarks of vision models that deserve trust.

  python bench.py                       the first journey: count every row of the ConvNeXt paper's Tables 1, 2 and 12
                                        exactly, measure a few of them here, print the tables beside the paper's
  python bench.py --gpu a100            the same on an A100 (and only there), every row: TF32, channels_last
  python bench.py run convnext_tiny     measure models, tables or suites; resumes where it stopped
  python bench.py report --all          print the tables from what has been recorded; no torch, no GPU
  python bench.py trace convnext_tiny   one model's exact counts: params, MACs, traffic, training memory
  python bench.py list models 'swin*'   what there is: models, tables, suites, protocols, devices
  python bench.py doctor                is this machine fit to measure, and what to do where it is not
"""

EPILOG = """\
Everything measured is appended to ./visionbench.jsonl (--records FILE) as it comes: Ctrl-C, a crash or a power cut
loses nothing, and the same command goes on where it stopped. Results go to stdout, progress to stderr.
Exit codes: 0 done (rows that failed are in the tables, with their cause), 2 a mistake in what was asked, 4 nothing
could be measured, 130 interrupted.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. A `BenchError` is one sentence on stderr and exit code 2."""
    _open_what_is_closed()
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or (words[0].startswith("-") and words[0] not in ("-h", "--help", "--version")):
        words.insert(0, "tables")
    options = _parser().parse_args(words)
    verb: Callable[[argparse.Namespace], int] = options.verb
    try:
        code = verb(options)
        sys.stdout.flush()
        return code
    except (BenchError, ModelError) as error:
        print(f"bench.py: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        print(
            "\nbench.py: interrupted; what was recorded is kept, the same command goes on from there.", file=sys.stderr
        )
        return verbs.INTERRUPTED
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


class _Parser(argparse.ArgumentParser):
    """argparse, whose mistakes are one sentence that ends with the remedy, as all of ours."""

    def error(self, message: str) -> None:  # type: ignore[override]
        print(f"bench.py: {message}; see `{self.prog} --help`.", file=sys.stderr)
        raise SystemExit(USAGE)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python bench.py",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"visionbench {_version()}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=_Parser, required=True)
    _tables(commands)
    _run(commands)
    _report(commands)
    _trace(commands)
    _list(commands)
    _doctor(commands)
    return parser


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("visionbench")
    except PackageNotFoundError:
        return "(not installed)"


def _tables(commands: argparse._SubParsersAction[_Parser]) -> None:
    text = (
        "The first journey, and what `python bench.py` without a command does: count every row of the tables exactly, "
        "measure what this machine can measure in about a minute (on a GPU: every row), and print the tables beside "
        "the paper's numbers."
    )
    parser = commands.add_parser(
        "tables", help="the default: count, measure a few rows, print the tables", description=text
    )
    parser.add_argument("tables", nargs="*", metavar="TABLE", help="convnext_table1, ... (default: all)")
    arguments.add_where(parser)
    arguments.add_measuring(parser)
    arguments.add_output(parser)
    parser.set_defaults(verb=verbs.tables)


def _run(commands: argparse._SubParsersAction[_Parser]) -> None:
    text = "Measure models, tables or suites on this machine. What is already recorded is not measured again."
    parser = commands.add_parser("run", help="measure models, tables or suites", description=text)
    parser.add_argument(
        "models",
        nargs="*",
        metavar="WHAT",
        help="convnext_tiny, 'timm:swin_*', paper:..., user:package.module:factory; or a table's or suite's name",
    )
    parser.add_argument(
        "--table", action="append", default=[], metavar="NAME", help="every row of a table (repeatable)"
    )
    parser.add_argument(
        "--suite", action="append", default=[], choices=sorted(SUITES), help="a named set of specs (repeatable)"
    )
    arguments.add_where(parser)
    arguments.add_measuring(parser)
    spec = arguments.add_spec(parser)
    spec.add_argument(
        "--batch-size",
        type=arguments.batch,
        metavar="N",
        help="images per step (default: 64 on a GPU, the paper's; 1 on a CPU); max: the largest that fits",
    )
    spec.add_argument(
        "--batch-sizes", type=arguments.batches, metavar="N,N,...", help="each of them, and where more stops paying"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be measured, and stop")
    parser.add_argument("--json", action="store_true", help="print the new records, one JSON line each")
    parser.set_defaults(verb=verbs.run)


def _report(commands: argparse._SubParsersAction[_Parser]) -> None:
    text = "Print tables from recorded numbers. Needs no torch and no GPU."
    parser = commands.add_parser("report", help="print tables from records", description=text)
    parser.add_argument("tables", nargs="*", metavar="TABLE", help="convnext_table1, ... (see `list tables`)")
    parser.add_argument("--all", action="store_true", help="every table")
    parser.add_argument(
        "--records",
        type=Path,
        action="append",
        metavar="FILE",
        help=f"records to read (repeatable; default: {RECORDS} and the committed ones)",
    )
    arguments.add_output(parser)
    parser.add_argument("--output", type=Path, metavar="FILE", help="write there instead of stdout")
    parser.set_defaults(verb=verbs.report)


def _trace(commands: argparse._SubParsersAction[_Parser]) -> None:
    text = "One model's card: exact counts by a trace on the meta device; no weights, no hardware."
    parser = commands.add_parser("trace", help="one model's exact counts", description=text)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="as for run")
    arguments.add_spec(parser).add_argument(
        "--batch-size", type=arguments.positive, metavar="N", help="images per step (default: 1)"
    )
    parser.add_argument(
        "--depth",
        type=arguments.positive,
        default=2,
        metavar="N",
        help="modules below the model to break down by (default: 2)",
    )
    parser.add_argument(
        "--second-opinion", action="store_true", help="count with fvcore too, on real tensors, and explain differences"
    )
    parser.add_argument("--json", action="store_true", help="print the record, one JSON line per model")
    parser.set_defaults(verb=verbs.trace)


def _list(commands: argparse._SubParsersAction[_Parser]) -> None:
    parser = commands.add_parser("list", help="what there is", description="What there is to choose from.")
    parser.add_argument("what", choices=listing.LISTS, help="which list")
    parser.add_argument("pattern", nargs="?", default="*", help="wildcards, for example 'convnext_*'")
    parser.add_argument("--json", action="store_true", help="one JSON array")
    parser.set_defaults(verb=listing.show)


def _doctor(commands: argparse._SubParsersAction[_Parser]) -> None:
    text = "Whether this machine is fit to measure, in plain words, and what to do where it is not."
    parser = commands.add_parser("doctor", help="is this machine fit to measure?", description=text)
    parser.add_argument("--device", metavar="DEVICE", help="cuda, cuda:1 or cpu (default: the GPU if there is one)")
    parser.set_defaults(verb=verbs.doctor)
