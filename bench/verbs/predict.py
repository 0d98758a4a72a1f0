"""The verbs `predict`, `calibrate` and `validate-predictions`: a GPU that is not here."""

from __future__ import annotations

import warnings
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench import arguments, output, progress
from bench.arguments import LARGEST, Commands
from bench.record.errors import BenchError
from bench.record.record import Record, to_json
from bench.record.spec import MemoryFormat, Precision, Spec
from bench.record.units import plural
from bench.record.verdict import NOT_MEASURED, OK

if TYPE_CHECKING:
    from bench.record.devices import DeviceSpec

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
    arguments.add_output(parser)
    parser.set_defaults(verb=run)
    _add_calibrate(commands)
    _add_validate(commands)


def _add_calibrate(commands: Commands) -> None:
    text = "Fit the time model to measured rows: our records (10 to 15 networks do) or timm's published result files."
    parser = commands.add_parser("calibrate", help="fit predictions to measured rows", description=text)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="records (.jsonl) or timm's results (.csv)")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="for the calibrations (default: the shipped)")
    parser.set_defaults(verb=calibrate)


def _add_validate(commands: Commands) -> None:
    text = "How wrong predictions are on families of networks that they were not fitted on, beside two baselines."
    parser = commands.add_parser("validate-predictions", help="how wrong are predictions?", description=text)
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="timm's results, to compute it anew")
    arguments.add_output(parser)
    parser.set_defaults(verb=validate)


def run(options: Namespace) -> int:
    """Predict every row on every card that the name means, and print the table."""
    from bench.predict import targets
    from bench.predict.predict import predict
    from bench.record import store
    from reports import predictions

    devices = targets.target(options.gpu)
    measured = [record for path in options.records or () for record in store.read(path).records]
    with _quietly():
        found = [predict(spec, device, measured=measured) for device in devices for spec in _specs(options, device)]
    if options.lines:
        print("".join(to_json(record) + "\n" for record in found), end="")
    else:
        output.print_tables([predictions.layout(found, _title(devices))], options)
    return OK if any(record.failure is None for record in found) else NOT_MEASURED


def _title(devices: tuple[DeviceSpec, ...]) -> str:
    return f"Predicted: {', '.join(device.key for device in devices)}"


def _specs(options: Namespace, device: DeviceSpec) -> list[Spec]:
    """The rows as asked; by default as the paper measured on such a card: TF32, channels_last where there is TF32."""
    from bench.selection import predicted

    modern = device.tf32 is not None
    precision: Precision = options.precision or ("tf32" if modern else "fp32")
    usual: MemoryFormat = "channels_last" if modern and not options.precision else "contiguous"
    memory_format: MemoryFormat = options.memory_format or usual
    asked = options.batch_size if isinstance(options.batch_size, int) else PAPER_BATCH
    specs = [replace(spec, precision=precision, memory_format=memory_format) for spec in predicted(options, asked)]
    return [_at_largest(spec, device) for spec in specs] if options.batch_size == LARGEST else specs


def _at_largest(spec: Spec, device: DeviceSpec) -> Spec:
    """The spec at the largest batch that fits; where not even one image does, at one, which is then refused."""
    from bench.predict.memory import largest_batch

    return replace(spec, batch_size=max(1, largest_batch(spec, device)))


def calibrate(options: Namespace) -> int:
    """Write one calibration per card and way of running found in the files."""
    from bench.predict import calibration
    from bench.predict.calibrate import from_records, from_timm
    from bench.record import store

    tables = [path for path in options.files if path.suffix == ".csv"]
    records = [record for path in options.files if path.suffix != ".csv" for record in store.read(path).records]
    with _quietly():
        made = [
            *(from_timm(tables, _told) if tables else ()),
            *(from_records(_timed(records), progress=_told) if records else ()),
        ]
    if not made:
        raise BenchError("nothing to calibrate on: the files hold no measured throughput of a known GPU.")
    for one, skipped in made:
        path = calibration.write(one, options.output) if options.output else calibration.write(one)
        print(f"{path}: {plural(one.held_out['model'].rows, 'row')}, {plural(len(skipped), 'row')} left out")
    return OK


def _timed(records: list[Record]) -> list[Record]:
    return [record for record in records if record.source == "measured" and record.failure is None]


def _told(done: int, total: int, name: str) -> None:
    if done % 50 == 0:
        progress.say(f"traced {done}/{total}: {name}")


def validate(options: Namespace) -> int:
    """Print each calibration's held-out errors."""
    from bench.predict.validate import validate as validated
    from reports import predictions

    with _quietly():
        found = validated(options.files, _told)
    lines = [
        predictions.Line(
            device=one.device,
            how=f"{one.precision}, {one.memory_format}, {one.task}{', compiled' if one.compiled else ''}",
            rows=one.model.rows,
            families=one.model.families,
            mean=one.model.mean,
            median=one.model.median,
            p90=one.model.p90,
            rank=one.model.rank,
            coverage=one.model.coverage,
            flops=one.flops.mean,
            activations=one.activations.mean,
        )
        for one in found
    ]
    output.print_tables([predictions.validation(lines)], options)
    return OK if lines else NOT_MEASURED


@contextmanager
def _quietly() -> Iterator[None]:
    """Timm warns of every old name in an old table."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
