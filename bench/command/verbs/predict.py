"""The verb `predict`: speed and memory on a GPU that is not here."""

from __future__ import annotations

import warnings
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from visionbench.command import inputs, options, output, progress, values
from visionbench.command.requests import LARGEST, TERMINAL, HowToRun, Output, Selection
from visionbench.command.selection import specs_to_predict
from visionbench.comparison.verdict import NOT_MEASURED, OK
from visionbench.models import ModelError
from visionbench.record.errors import BenchError
from visionbench.record.record import Record
from visionbench.record.spec import Spec

if TYPE_CHECKING:
    from visionbench.predicting.calibration import Calibration
    from visionbench.record.devices import DeviceSpec

DESCRIPTION = """\
Estimate images per second on a GPU you don't have; with --task train the memory, too. The model's operators are counted
here and their times come from calibrations or from records of other cards; without either no estimate is given. Each
estimate has an 80 % interval and says what it is based on. Predictions are never used as measurements.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Which rows to predict on which cards; `gpu` is a card's name or a TOML file.

    `records` are files of rows measured on other cards, `calibrations` is a folder of the user's own.
    """

    gpu: str
    selection: Selection
    how: HowToRun
    records: tuple[Path, ...] = ()
    calibrations: Path | None = None
    json: bool = False
    output: Output = TERMINAL


def add(parser: ArgumentParser) -> None:
    """What a user may ask."""
    parser.description = DESCRIPTION
    parser.add_argument("words", nargs="*", metavar="MODEL", help="as for run (default: convnext_table1)")
    options.add_tables(parser)
    parser.add_argument(
        "--gpu",
        required=True,
        metavar="NAME",
        help="v100, a100, h100-sxm5-80gb, ..., or a TOML file of another card",
    )
    spec = options.add_spec(parser)
    spec.add_argument(
        "--batch-size",
        type=values.batch,
        metavar="N or max",
        help="images per step (default: 64); max is the largest batch of a training step that fits the card's memory",
    )
    parser.add_argument(
        "--records",
        type=values.path,
        action="append",
        default=[],
        metavar="FILE",
        help="records of other cards, to be scaled to the card of --gpu (repeatable)",
    )
    options.add_calibrations(parser)
    options.add_output(parser, records=True)
    parser.set_defaults(verb=lambda words: run(options.part(Request, words)))


def run(request: Request) -> int:
    """Predict every row on every card that the name means, and print the table, or with --json the records."""
    from visionbench.reports.results import predictions

    devices, records = predict_rows(request)
    if request.json:
        output.print_records(records)
    else:
        title = f"Predicted: {', '.join(device.key for device in devices)}"
        output.print_tables([predictions.layout(records, title)], request.output)
    return OK if any(record.failure is None for record in records) else NOT_MEASURED


def predict_rows(request: Request) -> tuple[Sequence[DeviceSpec], list[Record]]:
    """The cards that the name means, and a predicted record per row and card; a refusal is a record with a failure."""
    from visionbench.predicting import targets
    from visionbench.predicting.calibration import known
    from visionbench.record import store

    devices = targets.target(request.gpu)
    measured = [record for path in request.records for record in store.read(path).records]
    calibrations = known(request.calibrations, inputs.CALIBRATIONS)
    with warnings.catch_warnings(action="ignore"):  # timm's deprecation warnings
        rows = [(spec, device) for device in devices for spec in _specs(request, device)]
        records = [_predicted(*row, calibrations, measured, alone=len(rows) == len(devices)) for row in rows]
    return devices, records


def _predicted(
    spec: Spec, device: DeviceSpec, calibrations: Sequence[Calibration], measured: Sequence[Record], *, alone: bool
) -> Record:
    """One row on one card. A model that cannot be built is a mistake if it is `alone`, else a row with its reason."""
    from visionbench.predicting.step_time import predict_step, refused

    try:
        return predict_step(spec, device, calibrations=calibrations, measured=measured)
    except (BenchError, ModelError) as error:
        if alone:
            raise
        return refused(spec, device, "unsupported", str(error))


def _specs(request: Request, device: DeviceSpec) -> Sequence[Spec]:
    """The rows as asked; at the largest batch where that is asked: where not even one image fits, one, then refused."""
    specs = specs_to_predict(request.selection, request.how, device)
    if request.how.batch_size != LARGEST:
        return specs
    from visionbench.predicting.memory import largest_batch

    def fitting(spec: Spec) -> int:
        try:
            return max(1, largest_batch(spec, device))
        except (BenchError, ModelError):
            if spec.task != "train" or len(specs) == 1:
                raise
            return 1  # predicting it says why

    return [replace(spec, batch_size=fitting(spec)) for spec in specs]


def announce_progress(done: int, total: int, name: str) -> None:
    """Report progress every 50 models, on stderr."""
    if done % 50 == 0:
        progress.say(f"traced {done}/{total}: {name}")
