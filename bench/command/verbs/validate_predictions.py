"""The verb `validate-predictions`: how wrong predictions are on families of networks that they were not fitted on."""

from __future__ import annotations

from argparse import Namespace

from visionbench.command import options as arguments
from visionbench.command import output
from visionbench.command.calibrations import add_calibrations
from visionbench.command.options import Commands
from visionbench.comparison.verdict import OK

DESCRIPTION = """\
How wrong predictions are: each calibration, your own included, carries its errors on families of networks that were
left out of the fit, beside two baselines. docs/predictions.md shows more: printed rows that nothing was fitted on.
"""


def add(commands: Commands) -> None:
    """What a user may ask."""
    parser = commands.add_parser("validate-predictions", help="how wrong are predictions?", description=DESCRIPTION)
    add_calibrations(parser)
    arguments.add_output(parser)
    parser.set_defaults(verb=run)


def run(options: Namespace) -> int:
    """Print each calibration's held-out errors."""
    from visionbench.predicting.calibration import known
    from visionbench.reports.results import validations

    calibrations = known(options.calibrations, output.CALIBRATIONS)
    output.print_tables(validations.layouts(calibrations), options)
    return OK
