"""The verb `compare`: exact counts against a baseline in git, or two files of recorded numbers."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser, Namespace
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from visionbench.command import ci, inputs, options, output, progress, values
from visionbench.command.requests import ONLY_HERE, TERMINAL, ForCI, Output, Selection
from visionbench.command.selection import specs_to_count
from visionbench.comparison.structure import BASELINE, Structures, baseline_in
from visionbench.comparison.verdict import NOT_MEASURED, OK, Judgement, Rule
from visionbench.record.errors import BenchError
from visionbench.record.files import check_room, locked
from visionbench.record.spec import SUITES
from visionbench.record.units import plural

DESCRIPTION = """\
With --exact: count the models (params, MACs, operators, training memory, graph breaks) and compare the counts with a
baseline file in git. Any difference, for better or worse, ends with exit code 1 until --update accepts it.
Without --exact: compare two files of records, or of pytest-benchmark. Rows whose settings or machine differ are
refused, and the answer says what differs.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Models and suites whose counts are compared with a baseline (`exact`), or two files in `selection.words`.

    `baseline` None is the repository's. `update` writes it anew; rows in `allow_new` and `allow_missing` may appear and
    vanish.
    """

    selection: Selection
    exact: bool
    baseline: Path | None = None
    update: bool = False
    allow_new: tuple[str, ...] = ()
    allow_missing: tuple[str, ...] = ()
    output: Output = TERMINAL
    ci: ForCI = ONLY_HERE


def add(parser: ArgumentParser) -> None:
    """What a user may ask."""
    parser.description = DESCRIPTION
    parser.add_argument(
        "words",
        nargs="*",
        metavar="WHAT",
        help="with --exact: models or suites (default: suite ci); without it two files, OLD NEW",
    )
    exact = parser.add_argument_group("exact counts")
    exact.add_argument("--exact", action="store_true", help="compare counts with the baseline; no hardware, no clock")
    exact.add_argument("--baseline", type=values.path, metavar="FILE", help=f"default: {BASELINE}")
    exact.add_argument("--update", action="store_true", help="rewrite the baseline; review it in git's diff")
    exact.add_argument(
        "--allow-new",
        action="append",
        default=[],
        metavar="ROW",
        help="accept that this row is not in the baseline (repeatable)",
    )
    exact.add_argument(
        "--allow-missing",
        action="append",
        default=[],
        metavar="ROW",
        help="accept that this row is only in the baseline (repeatable)",
    )
    options.add_image_size(exact)
    options.add_inputs(exact)
    options.add_output(parser)
    ci.add_forms(parser)
    parser.set_defaults(verb=lambda words: run(_request(parser, words)))


_FOR_COUNTS = ("baseline", "allow_new", "allow_missing", "image_size", "inputs", "loss")
"""Options that mean nothing for two files."""


def _request(parser: ArgumentParser, words: Namespace) -> Request:
    words.exact = words.exact or words.update
    if not words.exact and (given := options.first_given(parser, words, _FOR_COUNTS)):
        raise BenchError(f"{given} is for exact counts: add --exact, or leave it out.")
    return options.part(Request, words)


def run(request: Request) -> int:
    """Compare, and show the differences."""
    return _exact(request) if request.exact else _stored(request)


def _exact(request: Request) -> int:
    from visionbench.comparison import structure
    from visionbench.judging.structure import compare
    from visionbench.tracing.structure import structures

    began, named = time.monotonic(), bool(request.selection.words)
    # Also where it is written anew: a file that is torn, or of a newer visionbench, is never overwritten.
    path, also = request.baseline or baseline_in(Path()), request.ci
    output.check(request.output, also.summary, also.junit, also.gab, also.bmf)
    if request.update and path.parent.is_dir():
        check_room(path, "name another file with --baseline")
    before = structure.read(path) if path.exists() or not request.update else None
    with redirect_stdout(sys.stderr):  # what a user's factory prints is no result of ours
        now = structures(structure.structure_specs(specs_to_count(request.selection)), progress.say)
    for row, reason in now.untrained.items():
        progress.say(f"{row}: {reason}")
    if before and named and not request.update:
        _refuse_other_settings(before, now, request, path)
    if request.update:
        return _updated(path, now, keep=named)
    assert before is not None
    # With models named the question is about these: the baseline's other rows are not missing.
    others = set(before.rows) - set(now.rows) - set(now.failures) - set(now.untrained) if named else set()
    try:
        changes = compare(before, now, allow_new=request.allow_new, allow_missing=[*request.allow_missing, *others])
    except structure.OtherVersionsError as error:
        progress.complain(str(error))
        return NOT_MEASURED
    judgement = Judgement(
        title=f"structure against {path}",
        rule=Rule(),
        changes=changes,
        structures=len(before.rows.keys() & now.rows.keys()),
        command=request.ci.command,
        seconds=time.monotonic() - began,
    )
    return ci.show(judgement, request.output, request.ci)


def _refuse_other_settings(before: Structures, now: Structures, request: Request, path: Path) -> None:
    """Raise `BenchError` where a named model is in the baseline, but in no row that was asked for."""
    compared = {structure.model for row, structure in now.rows.items() if row in before.rows}
    for row, structure in now.rows.items():
        its = [other for other, one in before.rows.items() if one.model == structure.model]
        allowed = {row, structure.model} & set(request.allow_new)
        if its and not allowed and structure.model not in compared:
            raise BenchError(
                f"{path} has no row '{row}', but {', '.join(map(repr, its))}: ask for that size, "
                "or add this row with --update."
            )


def _updated(path: Path, now: Structures, *, keep: bool) -> int:
    """Write the baseline; with `keep` its other rows stay, also those written while these were counted.

    Raises `BenchError` if something cannot be counted: a baseline with holes would hide what falls into them.
    """
    from visionbench.comparison import structure

    for row, reason in now.failures.items():
        progress.say(f"{row}: {reason}")
    if now.failures:
        raise BenchError(f"{plural(len(now.failures), 'row')} cannot be counted: {path} is left as it was.")
    with locked(path, folders=True):
        structure.write(path, structure.merged(path, now) if keep else now)
    progress.say(f"{path}: {plural(len(now.rows), 'row')} counted; read the diff and commit it with its cause.")
    return OK


def _stored(request: Request) -> int:
    from visionbench.comparison.stored import exit_code
    from visionbench.judging import result_files, stored
    from visionbench.reports.results.stored import layouts

    words = request.selection.words
    if len(words) != 2 or any(word in SUITES for word in words):
        raise BenchError("compare takes two files, A.jsonl B.jsonl; exact counts of models are compared with --exact.")
    sides = [result_files.load(Path(word)) for word in words]
    for side in sides:
        inputs.report_problems(side.problems)
    comparison = stored.compare(sides[0].samples, sides[1].samples, labels=(words[0], words[1]))
    output.print_tables(layouts(comparison), request.output)
    return exit_code(comparison)
