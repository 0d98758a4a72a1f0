"""Fitted multipliers with their provenance: one JSON file per device, precision, memory format, task and compiler.

A file is read strictly: what is unknown, missing, negative or broken would silently change a prediction.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from visionbench.record.errors import BenchError, choose
from visionbench.record.files import decode, decode_once, locked, reason, text_of, typed, write_whole
from visionbench.record.prediction import Figures
from visionbench.record.spec import MEMORY_FORMATS, PRECISIONS, TASKS, Spec

SCHEMA = 3
ORIGINS = ("timm", "published", "records")
FOLDER = Path(__file__).parent / "calibrations"


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Multipliers of the time model for one way of running on one device, and how wrong they were on held-out families.

    `low` and `high` are the 80 % interval of log(measured / predicted). `resolution` is the log ratio below which two
    predictions say nothing about an order. `held_out` has the errors of `model` and of the baselines `flops` and
    `activations`; `by_source` has the model's errors for each publication with enough rows. `traced_with` has the
    versions of torch and timm that traced the rows. `skipped` counts the rows left out, by reason. `batches` are the
    smallest and the largest batch.
    """

    id: str
    device: str
    precision: str
    memory_format: str
    task: str
    compiled: bool
    torch: str
    origin: str
    sources: tuple[str, ...]
    traced_with: dict[str, str]
    rows: int
    skipped: dict[str, int]
    families: tuple[str, ...]
    batches: tuple[int, int]
    multipliers: dict[str, float]
    low: float
    high: float
    resolution: float
    held_out: dict[str, Figures]
    by_source: dict[str, Figures]
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        choose("precision", self.precision, PRECISIONS)
        choose("memory format", self.memory_format, MEMORY_FORMATS)
        choose("task", self.task, TASKS)
        choose("origin of a calibration", self.origin, ORIGINS)
        if any(not math.isfinite(m) or m < 0 for m in self.multipliers.values()) or not self.multipliers:
            raise BenchError(f"calibration {self.id} has multipliers that are not finite numbers of at least 0.")
        if not self.low < self.high or self.rows < 1 or "model" not in self.held_out:
            raise BenchError(f"calibration {self.id} has no valid interval, no rows or no held-out figures.")

    @property
    def how(self) -> str:
        """The way of running, in words."""
        return ", ".join((self.precision, self.memory_format, self.task, *(("compiled",) if self.compiled else ())))

    def covers(self, spec: Spec) -> bool:
        """Whether it was fitted on that way of running (the attention kernel excepted: the trace knows it)."""
        asked = (spec.precision, spec.memory_format, spec.task, spec.compile_mode is not None)
        return asked == (self.precision, self.memory_format, self.task, self.compiled)


def write(calibration: Calibration, folder: Path = FOLDER) -> Path:
    """Write it as `<id>.json`, readable and in a stable order.

    Raises `BenchError` where that cannot be, and for the same calibration of a newer visionbench, which stays.
    """
    path = folder / f"{calibration.id}.json"
    text = json.dumps(_rounded(asdict(calibration)), indent=1, sort_keys=True, allow_nan=False)
    with locked(path, folders=True):
        with suppress(OSError, ValueError, TypeError, KeyError):
            data = decode(text_of(path))
            if isinstance(data, dict) and data["schema"] > SCHEMA:
                raise BenchError(f"{path} is of a newer visionbench and stays: upgrade, or name another folder.")
        write_whole(path, text + "\n", remedy="name another folder")
    return path


def _rounded(value: Any) -> Any:
    """Six significant digits: more would claim what no fit knows, and makes every difference unreadable."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(entry) for key, entry in value.items()}
    return [_rounded(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def read(path: Path) -> Calibration:
    """The calibration of a file. Raises `BenchError`, which names the file, if it holds no valid calibration."""
    try:
        return from_json(text_of(path))
    except OSError as error:
        raise BenchError(f"cannot read {path} ({reason(error)}): move it away, or name another folder.") from error
    except ValueError as error:
        raise BenchError(f"{path} is no calibration ({error}): write it anew with calibrate.") from error


def from_json(text: str) -> Calibration:
    """The calibration of a JSON text. Raises ValueError."""
    data = decode_once(text)
    schema = data.get("schema") if isinstance(data, dict) else None
    if schema != SCHEMA:
        raise ValueError(f"its schema is {schema}, and this visionbench reads {SCHEMA}")
    return typed(data, Calibration, "calibration")


def shipped(folder: Path = FOLDER) -> tuple[Calibration, ...]:
    """All calibrations of a folder, by name."""
    return tuple(read(path) for path in sorted(folder.glob("*.json")))


def known(own: Path | None, usual: Path) -> tuple[Calibration, ...]:
    """The shipped calibrations and those of a user's folder, which replace shipped ones of the same id.

    Without a folder, those of the `usual` one, if it exists. Raises `BenchError` for a folder without calibrations.
    """
    mine = shipped(own or usual)
    if own and not mine:
        if own.exists() and not own.is_dir():
            raise BenchError(f"{own} is a file: name the folder that holds calibrations.")
        raise BenchError(f"{own} is no folder with calibrations: `calibrate FILE... --output {own}` makes one.")
    return tuple({calibration.id: calibration for calibration in (*shipped(), *mine)}.values())


def best(calibrations: Iterable[Calibration], spec: Spec, device: str) -> Calibration | None:
    """The calibration for `spec` on exactly that device, else on one with its chip (`v100-pcie-16gb`); None without.

    The user's own measurements come before others', and more rows before fewer.
    """
    fitting = [c for c in calibrations if c.covers(spec) and chip(c.device) == chip(device)]
    ranked = sorted(fitting, key=lambda c: (c.device != device, c.origin != "records", -c.rows))
    return ranked[0] if ranked else None


def average(calibrations: Iterable[Calibration]) -> dict[str, float]:
    """The mean of each multiplier over the calibrations that have it."""
    by_name: dict[str, list[float]] = {}
    for calibration in calibrations:
        for name, value in calibration.multipliers.items():
            by_name.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in by_name.items()}


def chip(device: str) -> str:
    """What a device's variants have in common: `a100-sxm4-80gb` and `a100-pcie-40gb` are both `a100`."""
    first, _, rest = device.partition("-")
    return f"{first}-{rest}" if first == "rtx" else first
