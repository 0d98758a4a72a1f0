"""The verbs of the command line: tables, run, report, trace. Each imports what it needs, and nothing before."""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench import progress
from bench.record import store
from bench.record.errors import BenchError, choose
from bench.record.record import Environment, Failure, Record, to_json
from bench.record.spec import SMOKE_MODELS, Spec
from models import ModelError
from reports import records as committed

if TYPE_CHECKING:
    from bench.measure.sweep import Outcome
    from bench.selection import Place
    from bench.trace import Trace
    from reports import Report
    from reports.table import Table

RECORDS = Path("visionbench.jsonl")
EFFORTS = ("quick", "standard", "rigorous")
LARGEST = "max"
FORMATS = ("terminal", "markdown", "latex", "csv", "json")
NOT_MEASURED, INTERRUPTED = 4, 130


def tables(options: Namespace) -> int:
    """The default journey: count every row, measure what this machine can, print the tables."""
    from bench.selection import place

    reports = _reports(options.tables)
    log = store.read_if_there(options.records)
    store.check_writable(options.records)
    _tell(log.problems)
    here = place(options)
    computed = _count_gaps(reports, log.records, options.records)
    outcome = _measure(_default_specs(reports, here), here, options)
    records = [*log.records, *computed, *outcome.records]
    _print([report.layout(records) for report in reports], options)
    _say_what_is_left(reports, here)
    return INTERRUPTED if outcome.interrupted and options.max_time is None else 0


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
        progress.say(f"Counting {len(gaps)} networks exactly, on no hardware ...")
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
    progress.say(f"Measuring {len(specs)} specs on {where}, protocol {here.protocol.name} ...")
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
    parts = [f"{outcome.measured} launches measured"]
    parts += [f"{outcome.failed} failed (the tables say why; --retry-failures tries again)"] if outcome.failed else []
    parts += [f"{outcome.skipped} were recorded before"] if outcome.skipped else []
    if outcome.left:
        cut_off = "the same command goes on from here"
        parts.append(f"{outcome.left} are left: {cut_off if outcome.interrupted else 'of rows that failed'}")
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
    from bench.selection import chosen, place

    here = place(options)
    specs = batches.each(chosen(options, here), options.batch_sizes)
    if options.dry_run:
        print("\n".join(f"{spec} x{here.protocol.launches}" for spec in specs))
        return 0
    store.check_writable(options.records)
    if options.batch_size == LARGEST:
        specs = batches.at_largest(specs, here, options)
    outcome = _measure(specs, here, options)
    if options.json:
        print("".join(to_json(record) + "\n" for record in outcome.records), end="")
    else:
        _print_runs(specs, here, options)
    if outcome.interrupted and not (options.max_time or options.row_time):
        return INTERRUPTED
    return NOT_MEASURED if outcome.failed and not outcome.measured and not outcome.skipped else 0


def _print_runs(specs: Sequence[Spec], here: Place, options: Namespace) -> None:
    """The table of these specs' launches, those of earlier sweeps included."""
    from bench import batches
    from reports import render, runs

    wanted = set(specs)
    records = [r for r in _recorded([options.records]) if r.spec in wanted or r.source == "computed"]
    measured = [r for r in records if r.source == "measured" and r.protocol and r.protocol.name == here.protocol.name]
    if measured:
        table = runs.layout([*(r for r in records if r.source == "computed"), *measured])
        print(render(table, "terminal", _width(None), colour=_colour()), end="")
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
    records = _recorded(options.records)
    _print([one.layout(records) for one in chosen], options)
    return 0


def trace(options: Namespace) -> int:
    """Print each model's card, or its computed record."""
    from bench.measure.environment import describe
    from bench.selection import traced
    from bench.trace.step import run as run_trace
    from bench.trace.step import to_record

    environment = describe("meta")
    for spec in traced(options):
        found = run_trace(spec)
        record = to_record(found, environment)
        print(to_json(record) if options.json else _card(found, record, options.depth))
        if options.second_opinion:
            print(_opinion(spec), file=sys.stderr if options.json else sys.stdout)
    return 0


def _card(found: Trace, record: Record, depth: int) -> str:
    """The card of one model as text."""
    from bench.trace.summary import by_kind, by_stage, uncounted
    from models import resolve
    from reports import model_card, render

    environment = record.environment
    origin = f"{resolve(found.spec.model).origin}; counted by torch {environment.torch} on its meta device"
    parts = [
        model_card.facts(record, str(found.spec), origin),
        model_card.breakdown("By kind of operator", by_kind(found)),
        model_card.breakdown("By stage", by_stage(found, depth)),
    ]
    if found.curve:
        parts.insert(1, model_card.memory(record, found.curve.peak_phase, found.curve.totals))
    tables = [render(part, "terminal", _width(None), colour=_colour()) for part in parts]
    return "\n".join([*tables, model_card.not_counted(uncounted(found), record)])


def _opinion(spec: Spec) -> str:
    """The count of fvcore beside ours, and what explains the difference."""
    from bench.trace.second_opinion import second_opinion

    opinion = second_opinion(spec)
    verdict = "agree" if opinion.agrees else "DISAGREE"
    lines = [f"\nSecond opinion (fvcore, real tensors, one image): the counts {verdict}."]
    lines += [f"  ours {opinion.ours:,}; fvcore {opinion.theirs:,}"]
    lines += [f"  {d.operator}: ours {d.ours:,}, fvcore {d.theirs:,} ({d.reason})" for d in opinion.differences]
    return "\n".join(lines)


def _reports(names: Sequence[str]) -> list[Report]:
    from reports import REPORTS

    return [REPORTS[choose("table", name, REPORTS)] for name in names] or list(REPORTS.values())


def _recorded(paths: Sequence[Path] | None) -> list[Record]:
    """The user's records (the files named, or the default one) and, below them, the committed counts.

    Where the user has measured nothing yet, the committed measurements too: a report always has something to show,
    and every measured column names the machine it was measured on.
    """
    logs = [store.read(path) for path in paths] if paths else [store.read_if_there(RECORDS)]
    for log in logs:
        _tell(log.problems)
    own = [record for log in logs for record in log.records]
    folder = Path(committed.__file__).parent
    ours = [record for path in sorted(folder.glob("*.jsonl")) for record in store.read(path).records]
    if any(record.source == "measured" for record in own):
        ours = [record for record in ours if record.source == "computed"]
    return [*ours, *own]


def _tell(problems: Iterable[str]) -> None:
    for problem in problems:
        progress.say(f"bench.py: {problem}")


def _print(laid_out: Sequence[Table], options: Namespace) -> None:
    """All tables in one format, to stdout or to a file."""
    from reports import render

    to_file = getattr(options, "output", None)
    colour = _colour() and to_file is None
    texts = [render(table, options.format, _width(options.width), colour=colour) for table in laid_out]
    if options.format == "json" and len(texts) > 1:
        texts = [json.dumps([json.loads(text) for text in texts], indent=2, ensure_ascii=False) + "\n"]
    text = "\n".join(texts)
    if to_file is None:
        sys.stdout.write(text)
        return
    try:
        to_file.write_text(text, encoding="utf-8")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise BenchError(f"cannot write {to_file} ({reason}): name another file with --output.") from error


def _width(asked: int | None) -> int | None:
    """Columns to fill: as asked, else the terminal's; a file or a pipe has no width and gets everything."""
    if asked or not sys.stdout.isatty():
        return asked
    return os.get_terminal_size(sys.stdout.fileno()).columns


def _colour() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ
