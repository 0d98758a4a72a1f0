"""The GPUs' data sheets (`devices.csv`), each row with its source. Unknown is None, and None prints as a dash.

Peaks are *dense* (no sparsity), in FLOP/s; tensor-core peaks are with fp32 accumulation. A device is recognised by the
driver's exact name and never by a part of it ("L4" is in "L40S"), and an unknown device is no device: falling back to a
known one would turn every utilisation into fiction.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from visionbench.record.errors import BenchError, hint


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSpec:
    """One row of a data sheet: FLOP/s (dense), bytes, bytes/s, hertz, watts.

    `names` are the strings by which NVIDIA's driver calls the device. `achieved_bf16` is the best bf16 matrix rate that
    others have measured (stas00/ml-engineering, "MAMF"). `confidence` is how well the row could be checked.
    """

    key: str
    names: tuple[str, ...]
    architecture: str
    capability: tuple[int, int]
    multiprocessors: int
    clock: float
    fp32: float
    tf32: float | None
    fp16: float
    bf16: float | None
    fp8: float | None
    memory: float
    memory_type: str
    bandwidth: float
    l2: float
    power: float
    achieved_bf16: float | None
    source: str
    confidence: str
    note: str = ""

    def peak(self, precision: str) -> float | None:
        """Dense peak in FLOP/s of a spec's precision (`amp_fp16` counts as fp16); None if the device has none."""
        peaks = {"fp32": self.fp32, "tf32": self.tf32, "fp16": self.fp16, "bf16": self.bf16}
        return peaks[precision.removeprefix("amp_")]


def _device(row: dict[str, str]) -> DeviceSpec:
    """One line of `devices.csv`: names are separated by `;`, an empty cell is unknown."""
    known: dict[str, Any] = {name: text or None for name, text in row.items()}
    numbers = {field.name: known[field.name] for field in fields(DeviceSpec) if "float" in str(field.type)}
    known |= {name: None if text is None else float(text) for name, text in numbers.items()}
    known |= {"names": tuple(row["names"].split(";")), "multiprocessors": int(row["multiprocessors"])}
    major, minor = row["capability"].split(".")
    return DeviceSpec(**known | {"capability": (int(major), int(minor)), "note": row["note"]})


_LINES = (Path(__file__).parent / "devices.csv").read_text(encoding="utf-8").splitlines()
DEVICES: tuple[DeviceSpec, ...] = tuple(map(_device, csv.DictReader(_LINES)))
_BY_NAME: dict[str, DeviceSpec] = {name: device for device in DEVICES for name in device.names}


def identify(driver_name: str) -> DeviceSpec | None:
    """The device that the driver calls exactly so, or None: no guess, no fallback."""
    return _BY_NAME.get(driver_name)


def find(key: str) -> DeviceSpec | None:
    """The device of that key, or None."""
    return next((device for device in DEVICES if device.key == key), None)


MAKES = ("nvidia", "geforce", "tesla", "quadro", "rtx", "gtx")
"""What people write before a card's name or leave out."""


def select(word: str) -> tuple[DeviceSpec, ...]:
    """All devices that `--gpu WORD` may mean: `a100` every A100, `a100-sxm4-40gb` one, and `rtx3090`, `RTX 3090` or
    `3090` the one that is meant. Raises `BenchError` for none.
    """
    wanted = word.lower()
    found = tuple(d for d in DEVICES if d.key == wanted or d.key.startswith(f"{wanted}-"))
    if not found and wanted == wanted.strip("- "):
        found = tuple(device for device in DEVICES if _bare(wanted) in _bare_names(device.key))
    if not found:
        first = {d.key.split("-")[0] for d in DEVICES} - set(MAKES)
        raise BenchError(f"there is no GPU '{word}': {hint(wanted, sorted({*first, *(d.key for d in DEVICES)}))}")
    return found


def _bare(word: str) -> str:
    """`NVIDIA GeForce RTX 2080 Ti` -> `2080ti`."""
    bare = re.sub("[^a-z0-9]", "", word.lower())
    while make := next((make for make in MAKES if bare.startswith(make)), ""):
        bare = bare.removeprefix(make)
    return bare


def _bare_names(key: str) -> set[str]:
    """The bare key, and what is left of it without its last parts; a maker's word alone is no name."""
    parts = key.split("-")
    return {_bare("-".join(parts[: count + 1])) for count in range(len(parts))} - {""}
