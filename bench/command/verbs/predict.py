"""The verb `predict`: a GPU that is not here."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from visionbench.command import options as arguments
from visionbench.command import output
from visionbench.command.calibrations import add_calibrations, without_warnings
from visionbench.command.options import LARGEST, Commands
from visionbench.comparison.verdict import NOT_MEASURED, OK
from visionbench.record.record import to_json
from visionbench.record.spec import MemoryFormat, Precision, Spec

if TYPE_CHECKING:
    from visionbench.record.devices import DeviceSpec

DESCRIPTION = """\
Images per second and training memory on a GPU that is not here, from a trace: each with an 80 % interval and a tier
that says what it rests on. Refuses rather than guesses. Nothing predicted ever stands for something measured.
"""

PAPER_BATCH = 64


def add(commands: Commands) -> None:
    """What a user may ask."""
    parser = commands.add_parser("predict", help="img/s and memory of a GPU that is not here", description=DESCRIPTION)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="as for run (default: convnext_table1)")
    parser.add_argument("--table", action="append", default=[], metavar="NAME", help="all rows of a table (repeatable)")
    parser.add_argument(
        "--gpu", required=True, metavar="NAME", help="v100, a100, h100-sxm5-80gb, ..., or a TOML file of your own card"
    )
    spec = arguments.add_spec(parser)
    spec.add_argument(
        "--batch-size",
        type=arguments.batch,
        metavar="N",
        help="images per step (default: 64); max: the largest training step that fits the card's memory",
    )
    parser.add_argument("--records", type=Path, action="append", metavar="FILE", help="measured on other cards: ratios")
    parser.add_argument("--lines", action="store_true", help="print the predicted records, one JSON line each")
    add_calibrations(parser)
    arguments.add_output(parser)
    parser.set_defaults(verb=run)


def run(options: Namespace) -> int:
    """Predict every row on every card that the name means, and print the table."""
    from visionbench.predicting import targets
    from visionbench.predicting.calibration import known
    from visionbench.predicting.step_time import predict_step
    from visionbench.record import store
    from visionbench.reports.results import predictions

    devices = targets.target(options.gpu)
    measured = [record for path in options.records or () for record in store.read(path).records]
    calibrations = known(options.calibrations, output.CALIBRATIONS)
    with without_warnings():
        found = [
            predict_step(spec, device, calibrations=calibrations, measured=measured)
            for device in devices
            for spec in _specs(options, device)
        ]
    if options.lines:
        print("".join(to_json(record) + "\n" for record in found), end="")
    else:
        output.print_tables([predictions.layout(found, _title(devices))], options)
    return OK if any(record.failure is None for record in found) else NOT_MEASURED


def _title(devices: tuple[DeviceSpec, ...]) -> str:
    return f"Predicted: {', '.join(device.key for device in devices)}"


def _specs(options: Namespace, device: DeviceSpec) -> list[Spec]:
    """The rows as asked; by default as the paper measured on such a card: TF32, channels_last where there is TF32."""
    from visionbench.command.selection import predicted

    modern = device.tf32 is not None
    precision: Precision = options.precision or ("tf32" if modern else "fp32")
    usual: MemoryFormat = "channels_last" if modern and not options.precision else "contiguous"
    memory_format: MemoryFormat = options.memory_format or usual
    asked = options.batch_size if isinstance(options.batch_size, int) else PAPER_BATCH
    specs = [replace(spec, precision=precision, memory_format=memory_format) for spec in predicted(options, asked)]
    return [_at_largest(spec, device) for spec in specs] if options.batch_size == LARGEST else specs


def _at_largest(spec: Spec, device: DeviceSpec) -> Spec:
    """The spec at the largest batch that fits; where not even one image does, at one, which is then refused."""
    from visionbench.predicting.memory import largest_batch

    return replace(spec, batch_size=max(1, largest_batch(spec, device)))
