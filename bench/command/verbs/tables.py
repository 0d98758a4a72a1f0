"""The verb `tables`, and what no verb at all means: the first journey."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from visionbench.command import inputs, options, output, progress
from visionbench.command.processes import Place
from visionbench.command.requests import HowLong, Output, Queue, Where
from visionbench.command.selection import defaults_for
from visionbench.command.verbs.run import (
    announce,
    networks_now,
    place_to_measure,
    seconds_expected,
    start_early,
    sweep_rows,
)
from visionbench.command.verbs.trace import count_missing
from visionbench.comparison.verdict import INTERRUPTED, NOT_MEASURED
from visionbench.record import store
from visionbench.record.errors import BenchError
from visionbench.record.program import program_name
from visionbench.record.spec import MEMORY, QUICK, SMOKE_MODELS, Spec
from visionbench.record.units import duration

if TYPE_CHECKING:
    from visionbench.comparison.comparison import Comparison
    from visionbench.measuring.sweep import Networks, Outcome
    from visionbench.record.record import Record
    from visionbench.reports import Report

DESCRIPTION = """\
The first journey, and the default without a command. It counts every row of the tables exactly, measures a few rows in
about a minute (on a GPU: every row), and prints the tables beside the paper's numbers.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Which tables (none: the paper's), where and how long to measure, and how to print them."""

    tables: tuple[str, ...]
    where: Where
    how_long: HowLong
    records: Path
    output: Output
    queue: Queue | None = None
    dry_run: bool = False


def add(parser: ArgumentParser) -> None:
    """What a user may ask."""
    parser.description = DESCRIPTION
    parser.add_argument("tables", nargs="*", metavar="TABLE", help="convnext_table1, ... (default: the paper's)")
    options.add_where(parser)
    options.add_queue(parser)
    parser.add_argument("--dry-run", action="store_true", help="with --cluster: say what would be queued, and stop")
    options.add_measuring(parser)
    options.add_output(parser)
    parser.set_defaults(verb=lambda words: run(_request(words)), resumes=True)


def _request(words: Namespace) -> Request:
    words.queue = options.queue(words)
    return options.part(Request, words)


def run(request: Request) -> int:
    """Count every row, measure what this machine can, print the tables."""
    reports = inputs.reports_named(request.tables)
    if request.queue is not None:
        return _run_queued(reports, request, request.queue)
    if request.dry_run:
        raise BenchError("--dry-run is for --cluster here; `run --table NAME --dry-run` says what would be measured.")
    start_early()
    place, asked = place_to_measure(request.where, request.how_long), request.how_long
    said = asked.protocol or asked.effort or asked.launches or asked.target_ci
    if place.on_cpu and not request.tables and not said:  # a first look, of which nothing is said, is a quick one
        place = replace(place, protocol=QUICK)
    log = store.read_if_there(request.records)
    store.check_writable(request.records)
    output.check(request.output)
    inputs.report_problems(log.problems)
    specs = [spec for report in reports for spec in report.computed_specs()]
    computed = count_missing(specs, log.records, request.records)
    outcomes = _measure(reports, place, request)
    # Of machines that are not here, what is predicted for them stands beside the paper's numbers.
    elsewhere = inputs.committed_predictions() if place.on_cpu else []
    measured = [record for outcome in outcomes for record in outcome.records]
    records = [*elsewhere, *log.records, *computed, *measured]
    comparisons = inputs.read_comparisons()
    if not request.tables and request.output.format == "terminal":  # a table in short is enough for a screen or two
        _print_first_look(reports, records, request.output)
    else:
        _print(reports, records, comparisons, request.output)
    _say_what_is_left(reports, place)
    if any(outcome.interrupted for outcome in outcomes):
        return INTERRUPTED
    return NOT_MEASURED if any(outcome.lost for outcome in outcomes) else 0


def _run_queued(reports: Sequence[Report], request: Request, queue: Queue) -> int:
    """The same on a cluster's nodes: every row and its training memory, a column per card."""
    from visionbench.command import queued

    def rows(word: str) -> queued.Rows:
        place = queued.place_of_card(word, request.where, request.how_long)
        timed = _default_specs(reports, place)
        counted = dict.fromkeys(spec for report in reports for spec in report.computed_specs())
        trained = [spec for spec in counted if spec.task == "train" and not place.on_cpu]
        return ((place.protocol, timed), (MEMORY, trained))

    folder = queued.folder_of(request.records)
    outcome = queued.run(queue, request.where, folder, rows, dry_run=request.dry_run)
    if request.dry_run:
        return 0
    if outcome.interrupted:
        return INTERRUPTED
    specs = [spec for report in reports for spec in report.computed_specs()]
    file = folder / "records" / "computed.jsonl"
    known = store.read_if_there(file).records
    records = [*outcome.records, *known, *queued.apart(partial(count_missing, specs, known, file))]
    _print(reports, records, inputs.read_comparisons(), request.output)
    if request.output.format == "terminal":
        queued.print_nodes(records)
    return 0


def _print(
    reports: Sequence[Report], records: Sequence[Record], comparisons: Sequence[Comparison], how: Output
) -> None:
    tables = [report.layout(records, comparisons) for report in reports]
    output.print_tables(tables, how, lambda: output.document(tables, records, comparisons))


def _measure(reports: Sequence[Report], place: Place, request: Request) -> list[Outcome]:
    """Sweep after sweep, the telling ones first, until all are made, the budget ends, or the user interrupts."""
    specs = _default_specs(reports, place)
    networks = networks_now(specs, place)
    sweeps = [(place, specs)] if place.on_cpu else _on_a_gpu(reports, place, request, networks)
    began, budget = time.monotonic(), request.how_long.budget
    outcomes: list[Outcome] = []
    for where, specs in sweeps:
        left = None if budget is None else max(0.0, budget - (time.monotonic() - began))
        how_long = replace(request.how_long, budget=left)
        outcomes.append(sweep_rows(specs, where, request.records, how_long, networks, say=False))
        if outcomes[-1].interrupted or outcomes[-1].lost:
            break
    return outcomes


TELLING = ("convnext_table12", "convnext_table2")
"""Measured first on a GPU: few rows, the paper's own card, training memory beside speed."""


def _on_a_gpu(
    reports: Sequence[Report], place: Place, request: Request, networks: Networks
) -> list[tuple[Place, tuple[Spec, ...]]]:
    """What is measured, and how: first the telling tables' rows, then the others'; in each, speed, then memory, and
    the cheap rows first. Says how long all of it will take.
    """
    named = {report.name: report for report in reports}
    first = [named[name] for name in TELLING if name in named]
    rest = [report for report in reports if report.name not in TELLING]
    for_memory = replace(place, protocol=MEMORY)
    sweeps, sweep_seconds, made = [], [], set[Spec]()
    for group in (first, rest):
        timed = [spec for spec in _default_specs(group, place) if spec not in made]
        # Training memory is measured as the paper's was: its computed column is of the same spec.
        trained = [spec for report in group for spec in report.computed_specs() if spec.task == "train"]
        trained = [spec for spec in dict.fromkeys(trained) if spec not in made]
        made |= {*timed, *trained}
        for where, specs in ((place, timed), (for_memory, trained)):
            expected = seconds_expected(specs, where, request.records, request.how_long, networks)
            sweep_seconds.append(expected)
            takes = expected or {}
            sweeps.append((where, tuple(sorted(specs, key=lambda spec: takes.get(spec, 0.0)))))
    announce(sweep_seconds, place, request.how_long)
    soon = sum(sum(seconds.values()) for seconds in sweep_seconds[:2] if seconds)
    if soon and rest:
        progress.say(f"First {' and '.join(report.name for report in first)}, about {duration(soon)}.")
    return [(where, specs) for where, specs in sweeps if specs]


def _print_first_look(reports: Sequence[Report], records: Sequence[Record], how: Output) -> None:
    """The first table without its small print, then what was learned from all of them."""
    from visionbench.reports.paper.lessons import brief, learned

    first, *others = reports
    output.print_tables([brief(first.layout(records))], how)
    print()
    for sentence in learned([row for report in reports for row in report.rows], records):
        print(sentence)
    names = ", ".join(report.name for report in others)
    print(f"Notes, footnotes and the other tables ({names}): {program_name()} report {first.name}")


def _default_specs(reports: Sequence[Report], place: Place) -> tuple[Spec, ...]:
    """On a GPU every row; on a CPU the smoke handful, as far as the chosen tables have it."""
    rows = dict.fromkeys(row for report in reports for row in report.measured_rows())
    if place.on_cpu:
        rows = dict.fromkeys((name, 224) for name in SMOKE_MODELS if (name, 224) in rows)
    return tuple(
        Spec(
            model=model,
            image_size=size,
            batch_size=usual.batch_size,
            precision=usual.precision,
            memory_format=usual.memory_format,
        )
        for model, size in rows
        for usual in (defaults_for(model, place.defaults),)
    )


def _say_what_is_left(reports: Sequence[Report], place: Place) -> None:
    rows = dict.fromkeys(row for report in reports for row in report.measured_rows())
    if place.on_cpu and len(rows) > len(SMOKE_MODELS):
        tables = " ".join(f"--table {report.name}" for report in reports)
        progress.say(
            f"Measured here: {len(_default_specs(reports, place))} small rows of {len(rows)}. "
            f"The rest (hours on a CPU): {program_name()} run {tables}"
        )
