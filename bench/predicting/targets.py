"""The card to predict: a data sheet that visionbench knows, by name, or the user's own in a small TOML file.

```toml
key = "my-card"                     # units are those of devices.csv: FLOP/s, bytes, bytes/s, hertz, watts
names = ["NVIDIA My Card"]
architecture = "Ada"
capability = "8.9"
multiprocessors = 60
clock = 2.4e9
fp32 = 3.7e13
fp16 = 1.5e14                       # dense, with fp32 accumulation; tf32, bf16 and fp8 are optional
memory = 1.6e10
memory_type = "GDDR6X"
bandwidth = 7.0e11
l2 = 4.8e7
power = 285
source = "the maker's data sheet"
```
"""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

from visionbench.record import files
from visionbench.record.devices import DeviceSpec, find, identify, select
from visionbench.record.errors import BenchError

_OPTIONAL: dict[str, Any] = {
    "tf32": None,
    "bf16": None,
    "fp8": None,
    "achieved_bf16": None,
    "note": "",
    "names": [],
    "confidence": "the user's own",
}

PLAUSIBLE = {
    "clock": (1e8, 1e10, "Hz"),
    **dict.fromkeys(("fp32", "tf32", "fp16", "bf16", "fp8", "achieved_bf16"), (1e11, 1e17, "FLOP/s")),
    "memory": (1e9, 1e13, "bytes"),
    "bandwidth": (1e10, 1e15, "bytes/s"),
    "l2": (1e5, 1e11, "bytes"),
    "power": (1.0, 1e5, "W"),
}
"""The plausible range of each figure of a data sheet. A figure outside it has the wrong unit."""


def target(word: str) -> tuple[DeviceSpec, ...]:
    """The devices that `--gpu WORD` means: a TOML file, the driver's exact name, or a key (`a100` is all of them)."""
    if word.endswith(".toml"):
        return (from_toml(Path(word)),)
    if named := identify(word):
        return (named,)
    try:
        return select(word)
    except BenchError as error:
        said = str(error)
        own = "a file that describes your card (my_card.toml)"
        raise BenchError(f"{said[:-1]}, or {'' if said[-1] == '?' else 'name '}{own}{said[-1]}") from error


def from_toml(path: Path) -> DeviceSpec:
    """The data sheet in a file. Raises `BenchError` for a field that is missing, unknown or implausible."""
    try:
        data = _OPTIONAL | files.toml_of(files.text_of(path))
    except OSError as error:
        raise BenchError(f"cannot read {path} ({files.reason(error)}): name a device or a file.") from error
    except ValueError as error:
        raise BenchError(
            f"{path} is no TOML file of a device ({error}): write it as in bench/predicting/targets.py."
        ) from error
    wanted = {field.name for field in fields(DeviceSpec)}
    if set(data) != wanted:
        odd = ", ".join(sorted(set(data) ^ wanted))
        raise BenchError(f"{path} has missing or unknown fields ({odd}): write them as in bench/predicting/targets.py.")
    for name, value in data.items():
        wrong = _wrong(name, value)
        if wrong:
            raise BenchError(f"{path}: {name} = {value!r} {wrong}.")
    major, _, minor = data["capability"].partition(".")
    return DeviceSpec(**data | {"names": tuple(data["names"]), "capability": (int(major), int(minor))})


def _wrong(name: str, value: Any) -> str:
    """What is wrong with a field; "" if it is plausible."""
    if name in PLAUSIBLE:
        low, high, unit = PLAUSIBLE[name]
        if value is None:
            return ""
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return "" if number and low <= value <= high else f"is no number of {low:g} to {high:g} {unit}"
    if name == "multiprocessors":
        return "" if isinstance(value, int) and 1 <= value <= 10_000 else "is no whole number of multiprocessors"
    if name == "names":
        listed = isinstance(value, list) and all(isinstance(entry, str) and entry for entry in value)
        return "" if listed else "is no list of names"
    if not isinstance(value, str) or not (value or name == "note"):
        return "is no text"
    if name == "capability":
        return "" if re.fullmatch(r"\d{1,2}\.\d", value) else "is not like '8.9'"
    if name == "key" and find(value):
        return "is the key of a device that visionbench knows: choose another"
    return ""
