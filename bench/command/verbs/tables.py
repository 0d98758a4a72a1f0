"""The verb `tables`, and what no verb at all means: the first journey."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from visionbench.command import options as arguments
from visionbench.command import output, progress
from visionbench.command.options import Commands
from visionbench.command.verbs.measuring import measure
from visionbench.comparison.verdict import INTERRUPTED
from visionbench.models import ModelError
from visionbench.record import store
from visionbench.record.errors import BenchError
from visionbench.record.record import Environment, Failure, Record
from visionbench.record.spec import SMOKE_MODELS, Spec
from visionbench.record.units import plural

if TYPE_CHECKING:
    from visionbench.command.selection import Place
    from visionbench.reports import Report


def add(commands: Commands) -> None:
    """What a user may ask."""
    text = (
        "The first journey, and what `python bench.py` without a command does: count every row of the tables exactly, "
        "measure what this machine can measure in about a minute (on a GPU: every row), and print the tables beside "
        "the paper's numbers."
    )
    parser = commands.add_parser(
        "tables", help="the default: count, measure a few rows, print the tables", description=text
    )
    parser.add_argument("tables", nargs="*", metavar="TABLE", help="convnext_table1, ... (default: the paper's)")
    arguments.add_where(parser)
    arguments.add_measuring(parser)
    arguments.add_output(parser)
    parser.set_defaults(verb=run, resumes=True)


def run(options: Namespace) -> int:
    """The default journey: count every row, measure what this machine can, print the tables."""
    from visionbench.command.selection import place

    reports = output.chosen(options.tables)
    here = place(options)
    log = store.read_if_there(options.records)
    store.check_writable(options.records)
    output.tell(log.problems)
    computed = _count_gaps(reports, log.records, options.records)
    outcome = measure(_default_specs(reports, here), here, options)
    # Of machines that are not here, what is predicted for them stands beside the paper's numbers.
    elsewhere = output.predicted() if here.on_cpu else []
    records = [*elsewhere, *log.records, *computed, *outcome.records]
    comparisons = output.compared()
    laid_out = [report.layout(records, comparisons) for report in reports]
    output.print_tables(laid_out, options, lambda: output.document(laid_out, records, comparisons))
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
    from visionbench.machine.environment import describe

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
    from visionbench.tracing import trace as trace_spec

    try:
        return trace_spec(spec, environment)
    except (BenchError, ModelError) as error:
        progress.say(f"{spec}: {error}")
        failure = Failure(kind="unsupported", stage="trace", message=str(error))
        return Record(spec=spec, protocol=None, environment=environment, failure=failure, source="computed")


def _say_what_is_left(reports: Sequence[Report], here: Place) -> None:
    rows = dict.fromkeys(row for report in reports for row in report.measured_rows())
    if here.on_cpu and len(rows) > len(SMOKE_MODELS):
        tables = " ".join(f"--table {report.name}" for report in reports)
        progress.say(
            f"Measured here: {len(_default_specs(reports, here))} small rows of {len(rows)}. "
            f"The rest (hours on a CPU): python bench.py run {tables}"
        )
