"""The verb `validate-predictions`: how wrong predictions are, on what they were not fitted on."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionbench.command import options as arguments
from visionbench.command import output
from visionbench.command.options import Commands
from visionbench.command.verbs.predicting import add_calibrations, quietly, told
from visionbench.comparison.verdict import NOT_MEASURED, OK

if TYPE_CHECKING:
    from visionbench.predicting.heldout import Figures
    from visionbench.predicting.validate import Validation
    from visionbench.reports.table import Table

DESCRIPTION = """\
How wrong predictions are: on families of networks left out of a fit, beside two baselines (stored with each
calibration, your own included, or computed anew from files of timm's results); with --published on printed rows that
nothing was fitted on; with --memory on printed peaks of training memory.
"""


def add(commands: Commands) -> None:
    """What a user may ask."""
    parser = commands.add_parser("validate-predictions", help="how wrong are predictions?", description=DESCRIPTION)
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="timm's results, to compute it anew")
    parser.add_argument("--published", action="store_true", help="printed throughput that nothing was fitted on")
    parser.add_argument("--memory", action="store_true", help="printed training memory")
    add_calibrations(parser)
    arguments.add_output(parser)
    parser.set_defaults(verb=run)


def run(options: Namespace) -> int:
    """Print what was asked for; by default each calibration's held-out errors."""
    others = options.published or options.memory
    with quietly():
        tables = [
            *(_held_out(options) if options.files or not others else ()),
            *([_published(options)] if options.published else ()),
            *([_memory()] if options.memory else ()),
        ]
    output.print_tables(tables, options)
    return OK if all(table.rows for table in tables) else NOT_MEASURED


def _held_out(options: Namespace) -> list[Table]:
    from visionbench.predicting.calibration import known
    from visionbench.predicting.validate import validate
    from visionbench.reports.results import validations

    found = validate(options.files, known(options.calibrations, output.CALIBRATIONS), told)
    lines = [
        validations.Line(
            **_errors(one, one.model),
            coverage=one.model.coverage,
            flops=one.flops.mean,
            activations=one.activations.mean,
        )
        for one in found
    ]
    publications = [
        validations.Publication(**_errors(one, figures), source=source)
        for one in found
        for source, figures in one.by_source.items()
    ]
    return [validations.held_out(lines), *([validations.by_publication(publications)] if publications else ())]


def _errors(one: Validation, figures: Figures) -> dict[str, Any]:
    """What every row of held-out errors says."""
    names = ("rows", "families", "mean", "median", "p90", "rank")
    return {"device": one.device, "how": one.how} | {name: getattr(figures, name) for name in names}


def _published(options: Namespace) -> Table:
    from visionbench.predicting.calibration import known
    from visionbench.predicting.validate import check_published
    from visionbench.reports.results import validations

    rows = [
        validations.Printed(
            device=one.device,
            how=f"{one.spec.precision}, {one.spec.memory_format}",
            task=one.spec.task,
            tier=one.tier,
            source=one.source,
            printed=one.printed,
            predicted=one.predicted,
            low=one.low,
            high=one.high,
        )
        for one in check_published(known(options.calibrations, output.CALIBRATIONS), told)
    ]
    return validations.printed(rows)


def _memory() -> Table:
    from visionbench.predicting.memory_check import check_memory
    from visionbench.reports.results import validations

    rows = [
        validations.PrintedMemory(
            model=one.model,
            batch_size=one.batch_size,
            how=one.counter,
            printed=one.printed,
            predicted=one.predicted,
            low=one.low,
            high=one.high,
            known=one.fit,
            source=one.source,
        )
        for one in check_memory(told)
    ]
    return validations.memory(rows)
