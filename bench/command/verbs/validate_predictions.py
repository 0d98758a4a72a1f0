"""The verb `validate-predictions`: how wrong predictions are on families of networks that they were not fitted on."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from visionbench.command import inputs, options, output
from visionbench.command.requests import Output
from visionbench.comparison.verdict import OK

DESCRIPTION = """\
Print how wrong predictions are. Each calibration, your own included, has its errors on families of networks that were
left out of the fit, and those of two baselines. The page docs/predictions.md also shows printed rows that nothing was
fitted to.
"""


def add(parser: ArgumentParser) -> None:
    """What a user may ask."""
    parser.description = DESCRIPTION
    options.add_calibrations(parser)
    options.add_output(parser)
    parser.set_defaults(verb=lambda words: run(words.calibrations, options.part(Output, words)))


def run(folder: Path | None, how: Output) -> int:
    """Print each calibration's held-out errors; `folder` holds calibrations of the user's own."""
    from visionbench.predicting.calibration import known
    from visionbench.reports.results import validations

    output.print_tables(validations.layouts(known(folder, inputs.CALIBRATIONS)), how)
    return OK
