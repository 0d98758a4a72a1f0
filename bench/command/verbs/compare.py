"""The verb `compare`: exact counts against a baseline in git, or two files of recorded numbers."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

from visionbench.command import ci, output, progress
from visionbench.command import options as arguments
from visionbench.command.options import Commands
from visionbench.comparison.structure import Structures
from visionbench.comparison.verdict import NOT_MEASURED, OK, Judgement, Rule
from visionbench.record.errors import BenchError
from visionbench.record.spec import SUITES
from visionbench.record.units import plural

BASELINE = Path("perf/structure.json")

DESCRIPTION = """\
--exact: count what the models are (params, MACs, operators, training memory, graph breaks) and compare it with a
baseline file in git; any difference, for better or worse, ends with exit code 1 until --update accepts it.
Without it: compare the numbers of two files, of records or of pytest-benchmark, where they were recorded alike.
"""


def add(commands: Commands) -> None:
    """What a user may ask."""
    parser = commands.add_parser(
        "compare", help="exact counts against a baseline in git; or two files of records", description=DESCRIPTION
    )
    parser.add_argument("what", nargs="*", metavar="WHAT", help="with --exact: models, suites (default: ci); else A B")
    exact = parser.add_argument_group("exact counts")
    exact.add_argument("--exact", action="store_true", help="compare counts with the baseline; no hardware, no clock")
    exact.add_argument("--baseline", type=Path, default=BASELINE, metavar="FILE", help=f"default: {BASELINE}")
    exact.add_argument("--update", action="store_true", help="write the baseline anew, to be read in the diff")
    exact.add_argument("--allow-new", action="append", default=[], metavar="ROW", help="a row or model that may be new")
    exact.add_argument("--allow-missing", action="append", default=[], metavar="ROW", help="one that may be missing")
    exact.add_argument("--image-size", type=arguments.positive, metavar="PIXELS", help="default: the models own")
    arguments.add_output(parser)
    ci.add_forms(parser)
    parser.set_defaults(verb=run)


def run(options: Namespace) -> int:
    """Compare, and show what was found."""
    return _exact(options) if options.exact or options.update else _stored(options)


def _exact(options: Namespace) -> int:
    from visionbench.command.selection import counted
    from visionbench.comparison import structure
    from visionbench.judging.structure import compare
    from visionbench.tracing.structure import structures

    began = time.monotonic()
    before = structure.read(options.baseline) if options.baseline.exists() or not options.update else None
    with redirect_stdout(sys.stderr):  # what a user's factory prints is no result of ours
        now = structures(structure.structure_specs(counted(options.what, options.image_size)), progress.say)
    if options.update:
        return _updated(options.baseline, before if options.what else None, now)
    assert before is not None
    # Who names models asks about these: the baseline's other rows are not missing.
    others = set(before.rows) - set(now.rows) - set(now.failures) if options.what else set()
    try:
        changes = compare(before, now, allow_new=options.allow_new, allow_missing=[*options.allow_missing, *others])
    except structure.OtherVersionsError as error:
        progress.say(f"bench.py: {error}")
        return NOT_MEASURED
    judgement = Judgement(
        title=f"structure against {options.baseline}",
        rule=Rule(),
        changes=changes,
        structures=len(before.rows.keys() & now.rows.keys()),
        command=ci.command(options),
        seconds=time.monotonic() - began,
    )
    return ci.show(judgement, options)


def _updated(path: Path, before: Structures | None, now: Structures) -> int:
    """Write the baseline, keeping the other rows of `before`, if there are any.

    Raises `BenchError` if something cannot be counted: a baseline with holes would hide what falls into them.
    """
    from visionbench.comparison import structure

    for row, reason in now.failures.items():
        progress.say(f"{row}: {reason}")
    if now.failures:
        raise BenchError(f"{plural(len(now.failures), 'row')} cannot be counted: {path} is left as it was.")
    kept = before.rows if before and (before.torch, before.timm) == (now.torch, now.timm) else {}
    structure.write(path, replace(now, rows=kept | now.rows))
    progress.say(f"{path}: {plural(len(now.rows), 'row')} counted; read the diff and commit it with its cause.")
    return OK


def _stored(options: Namespace) -> int:
    from visionbench.comparison.stored import exit_code
    from visionbench.judging import result_files, stored
    from visionbench.reports.results.stored import layouts

    if len(options.what) != 2 or any(word in SUITES for word in options.what):
        raise BenchError("compare takes two files, A.jsonl B.jsonl; exact counts of models are compared with --exact.")
    sides = [result_files.load(Path(word)) for word in options.what]
    for side in sides:
        output.tell(side.problems)
    found = stored.compare(sides[0].samples, sides[1].samples, labels=(options.what[0], options.what[1]))
    output.print_tables(layouts(found), options)
    return exit_code(found)
