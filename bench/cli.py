"""The command line: what a user may say, and how mistakes are told.

This is the composition root, and it is thin: it parses, and hands typed options to a verb of `bench.verbs`, which
imports what it needs when it needs it. `--help` and `report` never import torch.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import listing, verbs
from bench.record.errors import BenchError
from bench.record.spec import ATTENTIONS, COMPILE_MODES, MEMORY_FORMATS, PRECISIONS, PROTOCOLS, SUITES, TASKS
from bench.verbs import EFFORTS, LARGEST, RECORDS
from models import ModelError

OK, USAGE, INTERRUPTED = 0, 2, 130

DESCRIPTION = """\
Benchmarks of vision models that deserve trust.

  python bench.py                       the first journey: count every model of the ConvNeXt paper's Tables 1, 2 and 12
                                        exactly, measure a few of them here, print the tables beside the paper's numbers
  python bench.py --gpu a100            the same on an A100 (and only on an A100), every row measured: TF32,
  channels_last python bench.py run convnext_tiny     measure models, tables or suites; resumes where it stopped
  python bench.py report --all          print the tables from what has been recorded; no torch, no GPU python
  bench.py trace convnext_tiny   one model's exact counts: params, MACs, memory traffic, training memory python
  bench.py list models 'swin*'   what there is: models, tables, suites, protocols, devices
"""

EPILOG = r"""\ Everything measured is appended to ./visionbench.jsonl (--records FILE) as it comes: Ctrl-C, a crash
or a power cut loses nothing, and the same command goes on where it stopped. Results go to stdout, progress to
stderr. Exit codes: 0 done (rows that failed are in the tables, with their cause), 2 a mistake in what was asked, 4
nothing could be measured, 130 interrupted.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. A `BenchError` is one sentence on stderr and exit code 2."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help", "--version")):
        arguments.insert(0, "tables")
    options = _parser().parse_args(arguments)
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
        return INTERRUPTED
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK


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
    _where(parser)
    _measuring(parser)
    _output(parser)
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
    _where(parser)
    _measuring(parser)
    spec = _spec(parser)
    spec.add_argument(
        "--batch-size",
        type=_batch,
        metavar="N",
        help="images per step (default: 64 on a GPU, the paper's; 1 on a CPU); max: the largest that fits",
    )
    spec.add_argument(
        "--batch-sizes", type=_batches, metavar="N,N,...", help="each of them, and where more stops paying"
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
    _output(parser)
    parser.add_argument("--output", type=Path, metavar="FILE", help="write there instead of stdout")
    parser.set_defaults(verb=verbs.report)


def _trace(commands: argparse._SubParsersAction[_Parser]) -> None:
    text = "One model's card: exact counts by a trace on the meta device; no weights, no hardware."
    parser = commands.add_parser("trace", help="one model's exact counts", description=text)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="as for run")
    _spec(parser).add_argument("--batch-size", type=_positive, metavar="N", help="images per step (default: 1)")
    parser.add_argument(
        "--depth", type=_positive, default=2, metavar="N", help="modules below the model to break down by (default: 2)"
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


def _where(parser: argparse.ArgumentParser) -> None:
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
    where.add_argument("--threads", type=_positive, metavar="N", help="CPU threads (default: torch's choice)")
    where.add_argument(
        "--records", type=Path, default=RECORDS, metavar="FILE", help=f"append records there (default: {RECORDS})"
    )


def _measuring(parser: argparse.ArgumentParser) -> None:
    how = parser.add_argument_group("how to measure")
    how.add_argument(
        "--protocol",
        choices=sorted(PROTOCOLS),
        help="swin: the paper's (50 warm-up, 30 timed); steady: ours; smoke: a first look (default on a CPU)",
    )
    how.add_argument(
        "--effort", choices=EFFORTS, help="1, 3 or 10 launches per row, by protocol steady unless another is named"
    )
    how.add_argument("--launches", type=_positive, metavar="N", help="fresh processes per row (an interval needs 7)")
    how.add_argument(
        "--target-ci",
        type=_share,
        metavar="SHARE",
        help="add launches until the interval is within +-1%% (say) of the number",
    )
    how.add_argument(
        "--row-time", type=_seconds, metavar="TIME", help="stop adding launches to a row that has taken this long"
    )
    how.add_argument(
        "--lock-clocks",
        action="store_true",
        help="fix the GPU's clock while measuring (needs root; put back afterwards)",
    )
    how.add_argument(
        "--max-time", type=_seconds, metavar="TIME", help="stop starting launches after this long: 90, 90s, 10m, 2h"
    )
    how.add_argument("--retry-failures", action="store_true", help="measure rows again that failed before")


def _spec(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    spec = parser.add_argument_group("what is run")
    spec.add_argument(
        "--image-size",
        type=_positive,
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


def _output(parser: argparse.ArgumentParser) -> None:
    output = parser.add_argument_group("output")
    output.add_argument("--format", choices=verbs.FORMATS, default="terminal", help="default: terminal")
    output.add_argument("--json", action="store_const", const="json", dest="format", help="short for --format json")
    output.add_argument(
        "--width", type=_positive, metavar="COLUMNS", help="for the terminal (default: as wide as it is)"
    )


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"a whole number of at least 1 is needed, not '{text}'")
    return value


def _batch(text: str) -> int | str:
    return text if text == LARGEST else _positive(text)


def _batches(text: str) -> tuple[int, ...]:
    return tuple(dict.fromkeys(_positive(word) for word in text.split(",")))


def _share(text: str) -> float:
    number, scale = (text[:-1], 100.0) if text.endswith("%") else (text, 1.0)
    try:
        value = float(number) / scale
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"a share is needed, like 1% or 0.01, not '{text}'")
    return value


_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def _seconds(text: str) -> float:
    number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS else (text, "s")
    try:
        value = float(number) * _UNITS[unit]
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"a time is needed, like 90, 90s, 10m or 2h, not '{text}'")
    return value
