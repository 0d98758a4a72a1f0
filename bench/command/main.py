"""The command line: what a user may ask, and how mistakes are reported.

This is the composition root, and it is thin: the first word names a verb of `visionbench.command.verbs`, only that file
is imported, and it turns the other words into a frozen request. `--help` and `report` never import torch.
"""

from __future__ import annotations

import argparse
import atexit
import codecs
import errno
import gc
import io
import os
import shlex
import signal
import sys
import threading
import traceback
import unicodedata
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from visionbench.command import given_files, progress
from visionbench.command.options import Parser
from visionbench.comparison.verdict import BUG, INTERRUPTED, NOT_MEASURED, OK, USAGE
from visionbench.record import files
from visionbench.record.clean import clean
from visionbench.record.errors import BenchError, DeviceLostError
from visionbench.record.program import program_name, release

VERBS = {
    "tables": "the default: count the models of the paper's tables, measure a few, print",
    "run": "measure models, tables or suites",
    "report": "print tables from records",
    "table": "write a template for your own table, or import a paper's table",
    "audit": "check papers' printed params and FLOPs against exact counts",
    "figures": "draw figures from records",
    "trace": "count params, MACs and memory exactly",
    "effects": "measure what each setting changes in speed and memory",
    "gate": "is your working tree slower than a revision? or: compare two settings",
    "compare": "compare counts with committed ones, or one file of records with another",
    "selftest": "how often is the gate right on this machine?",
    "predict": "estimate images/s and memory on a GPU you don't have",
    "calibrate": "fit predictions to your own records",
    "validate-predictions": "how wrong are predictions?",
    "export": "write records as a table (csv, json, parquet)",
    "list": "list models, tables, suites, protocols (ways of timing), devices",
    "doctor": "is this machine fit to measure?",
    "completion": "print completions for a shell",
}
"""Every verb with its line of help; the file is `verbs/NAME.py` (`list` is `listing`, hyphens are underscores)."""

ALONE = ("-h", "--help", "-V", "--version")
"""Options that need no verb."""

DESCRIPTION = """\
Trustworthy benchmarks for vision models.

  {program}                       start here: params and FLOPs of the ConvNeXt paper's models,
                                        and the speed of a few of them here (on a GPU: of all)
  {program} --gpu a100            the same; stops unless this machine's GPU is an A100
  {program} run convnext_tiny     measure models, tables or suites; resumes where it stopped
  {program} report --all          print all tables from the records, without torch or a GPU
  {program} figures --all         draw measured, published and exact numbers: SVG, PDF, PNG
  {program} trace convnext_tiny   exact params, MACs, bytes moved, training memory of one model
  {program} gate user:net:make    is the model of make() in net.py slower than at the last commit?
  {program} compare --exact       did params or MACs change since you committed their counts?
  {program} effects resnet50      what channels_last, TF32, autocast, bf16, torch.compile change
  {program} export --output x.csv records as one flat table, for pandas and spreadsheets
  {program} list models 'swin*'   list models, tables, suites, protocols (ways of timing), devices
  {program} doctor                is this machine fit to measure, and what to do if it is not
"""

EPILOG = """\
Each result is appended to ./visionbench.jsonl (--records FILE) as soon as it is there. Ctrl-C, a crash or a power cut
loses at most what one process is measuring: the same command goes on where it stopped. Results go to stdout, progress
to stderr.

exit codes:
  0    done; rows that failed are in the tables, with their cause
  1    a regression, or a change of exact counts
  2    a mistake in the command or in a file
  3    only with --strict: a row stayed undecided because of noise
  4    nothing was measured or compared, a GPU was lost, or gate failed to measure some row
  70   a fault of visionbench itself
  130  interrupted
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. A `BenchError` is one sentence on stderr and exit code 2, or 4 where a
    GPU was lost.
    """
    _hear_ctrl_c()
    _open_what_is_closed()
    atexit.register(gc.freeze)  # at the very end nobody needs torch's objects collected: that takes a second
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["help"]:
        words = [*words[1:2], "--help"]
    if not words or (words[0].startswith("-") and words[0] not in ALONE):
        words.insert(0, "tables")
    options, asked_for_silence, code = argparse.Namespace(resumes=False), progress.QUIET.set(False), OK
    try:
        command_line(words[0]).parse_args(words, options)
        progress.QUIET.set(options.quiet)
        options.command = f"{program_name()} {shlex.join(words)}"
        _check_folder()
        given_files.check(options)
        verb: Callable[[argparse.Namespace], int] = options.verb
        code = verb(options)
        sys.stdout.flush()
        return code
    except BenchError as error:
        progress.complain(clean(str(error)))
        return NOT_MEASURED if isinstance(error, DeviceLostError) else USAGE
    except KeyboardInterrupt:
        goes_on = ", and the same command goes on from there" if options.resumes else ""
        progress.say("")
        progress.complain(f"interrupted; what was measured is kept{goes_on}.")
        return INTERRUPTED
    except BrokenPipeError:  # `| head` has read enough, and a regression is one all the same
        _forget_output()
        return code
    except OSError as error:
        return _refused(error)
    except Exception as error:  # a traceback ends with 1, and 1 is the code of a regression
        from visionbench.models import ModelError  # a report has none

        if not isinstance(error, ModelError):
            return _bug()
        progress.complain(str(error))
        return USAGE
    finally:
        progress.QUIET.reset(asked_for_silence)


def _check_folder() -> None:
    """Raise `BenchError` without a working folder: files are named from it, and a library of torch's aborts."""
    try:
        Path.cwd()
    except OSError as error:
        raise BenchError("the folder that you are in is gone: change to one that exists.") from error


def _refused(error: OSError) -> int:
    """The system refuses a path before it is opened, or room for the results; all else is our fault."""
    if error.errno in _UNUSABLE and isinstance(error.filename, str):
        progress.complain(f"cannot use {error.filename} ({files.reason(error)}): name another file.")
        return USAGE
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG):
        return _bug()
    _forget_output()
    progress.complain(f"cannot write the results ({files.reason(error)}): free some space.")
    return USAGE


_UNUSABLE = (errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENOTDIR, errno.EROFS, errno.EISDIR)
"""What may be wrong with a path that is looked at before it is opened."""


def _bug() -> int:
    progress.put(traceback.format_exc())
    progress.complain("this is a fault of visionbench and no result: please report the lines above.")
    return BUG


def _hear_ctrl_c() -> None:
    """Let a Ctrl-C be an exception again: `__main__` let it end the program while this was imported."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


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
            stream.reconfigure(errors=_PLAIN_HANDLER)  # an ASCII terminal gets plain signs, not a traceback


_PLAIN_HANDLER = "visionbench-plain"

_PLAIN = {
    "━": "=", "─": "-", "–": "-", "—": "-", "−": "-", "×": "x", "±": "+-", "→": "->", "≤": "<=", "≥": ">=", "·": ".",
    "✓": "+", "✗": "x", "●": "*", "○": "o", "•": "*", "’": "'", "‘": "'", "“": '"', "”": '"', "█": "#", "▏": "|",
    "░": ".", "µ": "u", "√": "sqrt",
}  # fmt: skip
"""Characters that have no plain letter in them, with what is written for them in plain text."""


def _plain(error: UnicodeError) -> tuple[str, int]:
    """What ASCII shows instead: signs as in `_PLAIN`, letters without accents, so that a footnote keeps its letter."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = ""
    for character in error.object[error.start : error.end]:
        letters = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
        text += _PLAIN.get(character) or letters or "?"
    return text, error.end


codecs.register_error(_PLAIN_HANDLER, _plain)


def _forget_output() -> None:
    """Nothing more can be written to stdout: what is still in its buffer is dropped."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Version(argparse.Action):
    """As argparse's own, but looked up only where it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print the version and end the program."""
        print(f"visionbench {release() or '(not installed)'}")
        parser.exit()


def command_line(*chosen: str, program: str = "") -> Parser:
    """The parser of every verb's name, and of the options of those that were chosen."""
    program = program or program_name()
    parser = Parser(prog=program, description=DESCRIPTION.format(program=program), epilog=EPILOG)
    parser.set_defaults(resumes=False)
    parser.add_argument("-V", "--version", action=_Version, nargs=0, help="show program's version number and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser, required=True)
    for name, text in VERBS.items():
        verb: Parser = commands.add_parser(name, help=text)
        if name in chosen:
            parser.verb = verb
            file = "listing" if name == "list" else name.replace("-", "_")
            import_module(f"visionbench.command.verbs.{file}").add(verb)
            verb.add_argument("-q", "--quiet", action="store_true", help="print no progress, only results and errors")
    return parser
