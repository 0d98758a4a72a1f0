"""The verbs of the command line: tables, run, report, trace. Each imports what it needs, and nothing before."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from bench import cards, output, progress
from bench.record import store
from bench.record.errors import BenchError, choose
from bench.record.record import Environment, Failure, Record, to_json
from bench.record.spec import SMOKE_MODELS, Spec
from bench.record.units import plural
from models import ModelError

if TYPE_CHECKING:
    from bench.measure.sweep import Outcome
    from bench.selection import Place
    from reports import Report

LARGEST = "max"
NOT_MEASURED, INTERRUPTED = 4, 130


def tables(options: Namespace) -> int:
    """The default journey: count every row, measure what this machine can, print the tables."""
    from bench.selection import place

    reports = _reports(options.tables)
    here = place(options)
    log = store.read_if_there(options.records)
    store.check_writable(options.records)
    output.tell(log.problems)
    computed = _count_gaps(reports, log.records, options.records)
    outcome = _measure(_default_specs(reports, here), here, options)
    records = [*log.records, *computed, *outcome.records]
    output.print_tables([report.layout(records) for report in reports], options)
    _say_what_is_left(reports, here)
    return INTERRUPTED if outcome.interrupted else 0


def _default_specs(reports: Sequence[Report], here: Place) -> tuple[Spec, ...]:
    """On a GPU every row; on a CPU the smoke handful, as far as the chosen tables have it."""
    rows = dict.fromkeys(row for report in reports for row in report.measured_rows())
    if here.on_cpu:
        rows = dict.fromkeys((name, 224) for name in SMOKE_MODELS if (name, 224) in rows)
    specs = tuple(_spec_here(model, size, here) for model, size in rows)
    # Table 2's training memory is measured as the paper's was: its computed column is of the same spec.
    training = (spec for report in reports for spec in report.computed_specs() if spec.task == "train")
    return specs if here.on_cpu else (*specs, *training)


def _spec_here(model: str, image_size: int, here: Place) -> Spec:
    return Spec(
        model=model,
        image_size=image_size,
        batch_size=here.batch_size,
        precision=here.precision,
        memory_format=here.memory_format,
    )


def _count_gaps(reports: Sequence[Report], known: Iterable[Record], path: Path) -> list[Record]:
    """Trace what no computed record of this torch and timm holds yet, and record it."""
    from bench.measure.environment import describe

    environment = describe("meta")
    software = (environment.torch, environment.timm)
    counted = [r for r in known if r.source == "computed" and (r.environment.torch, r.environment.timm) == software]
    have = {record.spec for record in counted if record.failure is None}
    wanted = dict.fromkeys(spec for report in reports for spec in report.computed_specs())
    gaps = [spec for spec in wanted if spec not in have]
    if gaps:
        progress.say(f"Counting {plural(len(gaps), 'network')} exactly, on no hardware ...")
    records = []
    for spec in gaps:
        records.append(_counted(spec, environment))
        store.append(path, records[-1])
    return records


def _counted(spec: Spec, environment: Environment) -> Record:
    """One row's exact counts; a row that cannot be traced here (an old timm lacks the model) is a failure, not the
    end.
    """
    from bench.trace import trace as trace_spec

    try:
        return trace_spec(spec, environment)
    except (BenchError, ModelError) as error:
        progress.say(f"{spec}: {error}")
        failure = Failure(kind="unsupported", stage="trace", message=str(error))
        return Record(spec=spec, protocol=None, environment=environment, failure=failure, source="computed")


def _measure(specs: Sequence[Spec], here: Place, options: Namespace) -> Outcome:
    from bench.measure.agenda import Budget
    from bench.measure.sweep import sweep

    where = ", ".join(here.devices)
    progress.say(f"Measuring {plural(len(specs), 'row')} on {where}, protocol {here.protocol.name} ...")
    with _clocks(here, options), progress.shown() as shown:
        outcome = sweep(
            specs,
            here.protocol,
            options.records,
            here.devices,
            threads=options.threads,
            budget=Budget(total=options.max_time, row=options.row_time),
            retry_failures=options.retry_failures,
            progress=shown,
        )
    progress.say(_summary(outcome, options.records))
    return outcome


def _summary(outcome: Outcome, path: Path) -> str:
    parts = [f"{plural(outcome.measured, 'launch', 'launches')} measured"]
    parts += [f"{outcome.failed} failed (--retry-failures tries again)"] if outcome.failed else []
    parts += [f"{outcome.skipped} were recorded before"] if outcome.skipped else []
    if outcome.left:
        cut_off = outcome.interrupted or outcome.cut_off
        why = "the same command goes on from here" if cut_off else "of rows that failed or have had their time"
        parts.append(f"{outcome.left} are left: {why}")
    return f"{', '.join(parts)}. Records: {path}"


def _say_what_is_left(reports: Sequence[Report], here: Place) -> None:
    rows = dict.fromkeys(row for report in reports for row in report.measured_rows())
    if here.on_cpu and len(rows) > len(SMOKE_MODELS):
        tables = " ".join(f"--table {report.name}" for report in reports)
        progress.say(
            f"Measured here: {len(_default_specs(reports, here))} small rows of {len(rows)}. "
            f"The rest (hours on a CPU): python bench.py run {tables}"
        )


def run(options: Namespace) -> int:
    """Measure what was asked for, and print it as a table; or, with --json, the new records as lines."""
    from bench import batches
    from bench.selection import check, chosen, place

    here = place(options)
    specs = batches.each(chosen(options, here), options.batch_sizes)
    if options.dry_run:
        return _say_what_would_be_measured(specs, here, options)
    store.check_writable(options.records)
    check(specs, here, options)
    if options.batch_size == LARGEST:
        specs = batches.at_largest(specs, here, options)
    outcome = _measure(specs, here, options)
    if options.json:
        print("".join(to_json(record) + "\n" for record in outcome.records), end="")
    else:
        _print_runs(specs, here, options)
    if outcome.interrupted:
        return INTERRUPTED
    return NOT_MEASURED if outcome.failed and not outcome.measured and not outcome.skipped else 0


def _say_what_would_be_measured(specs: Sequence[Spec], here: Place, options: Namespace) -> int:
    from collections import Counter

    from bench.measure.environment import describe
    from bench.measure.sweep import plan

    environment = describe(here.devices[0], options.threads)
    records = store.read_if_there(options.records).records
    missing = plan(specs, here.protocol, records, environment, retry_failures=options.retry_failures)
    for spec, launches in Counter(missing).items():
        print(f"{spec} x{launches}")
    progress.say(f"{plural(len(missing), 'launch', 'launches')} to make, by protocol {here.protocol.name}.")
    return 0


def _print_runs(specs: Sequence[Spec], here: Place, options: Namespace) -> None:
    """The table of these specs' launches, those of earlier sweeps included."""
    from bench import batches
    from reports import render, runs

    wanted = set(specs)
    records = [r for r in output.recorded([options.records]) if r.spec in wanted or r.source == "computed"]
    measured = [r for r in records if r.source == "measured" and r.protocol and r.protocol.name == here.protocol.name]
    if measured:
        table = runs.layout([*(r for r in records if r.source == "computed"), *measured])
        print(render(table, "terminal", output.width(None), colour=output.colour()), end="")
    for sentence in batches.saturation(measured):
        print(sentence)


def doctor(options: Namespace) -> int:
    """Say whether this machine is fit to measure."""
    from bench.measure import doctor as examination
    from bench.measure.environment import find_device

    findings = examination.examine(options.device or find_device())
    print(examination.render(findings))
    return NOT_MEASURED if any(finding.level == "bad" for finding in findings) else 0


@contextmanager
def _clocks(here: Place, options: Namespace) -> Iterator[None]:
    """The GPUs' clocks fixed for the time of a sweep, if asked; nothing is changed otherwise."""
    with ExitStack() as stack:
        if options.lock_clocks:
            from bench.measure.telemetry import locked_clocks

            for device in here.devices:
                stack.enter_context(locked_clocks(device))
        yield


def report(options: Namespace) -> int:
    """Print tables from records: those named, else ./visionbench.jsonl, else what was measured for the README."""
    if not options.tables and not options.all:
        raise BenchError("which table? Name one (`list tables`) or say --all.")
    chosen = _reports([] if options.all else options.tables)
    records = output.recorded(options.records)
    output.print_tables([one.layout(records) for one in chosen], options)
    return 0


def trace(options: Namespace) -> int:
    """Print each model's card, or its computed record."""
    from bench.measure.environment import describe
    from bench.selection import traced
    from bench.trace.step import run as run_trace
    from bench.trace.step import to_record

    environment = describe("meta")
    for spec in traced(options):
        with redirect_stdout(sys.stderr):  # what a user's factory prints is no result of ours
            found = run_trace(spec)
        record = to_record(found, environment)
        print(to_json(record) if options.json else cards.card(found, record, options.depth))
        if options.second_opinion:
            print(cards.opinion(spec), file=sys.stderr if options.json else sys.stdout)
    return 0


def _reports(names: Sequence[str]) -> list[Report]:
    from reports import REPORTS

    return [REPORTS[choose("table", name, REPORTS)] for name in names] or list(REPORTS.values())
