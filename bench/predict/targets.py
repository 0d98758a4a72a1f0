"""The card that is predicted: one of the data sheets, by name, or one's own in a small TOML file.

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

import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

from bench.record.devices import DeviceSpec, identify, select
from bench.record.errors import BenchError

_OPTIONAL: dict[str, Any] = {
    "tf32": None,
    "bf16": None,
    "fp8": None,
    "achieved_bf16": None,
    "note": "",
    "names": [],
    "confidence": "the user's own",
}


def target(word: str) -> tuple[DeviceSpec, ...]:
    """The devices that `--gpu WORD` means: a TOML file, the driver's exact name, or a key (`a100` is all of them)."""
    if word.endswith(".toml"):
        return (from_toml(Path(word)),)
    named = identify(word)
    return (named,) if named else select(word)


def from_toml(path: Path) -> DeviceSpec:
    """The data sheet in a file. Raises `BenchError` for a field that is missing, unknown or no positive number."""
    try:
        data = _OPTIONAL | tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BenchError(f"{path} is no TOML file of a device ({error}).") from error
    wanted = {field.name for field in fields(DeviceSpec)}
    if set(data) != wanted:
        odd = ", ".join(sorted(set(data) ^ wanted))
        raise BenchError(f"{path} has missing or unknown fields ({odd}): write them as in bench.predict.targets.")
    return _device(path, data)


def _device(path: Path, data: dict[str, Any]) -> DeviceSpec:
    numbers = [field.name for field in fields(DeviceSpec) if "float" in str(field.type) or field.type == "int"]
    for name in numbers:
        value = data[name]
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0):
            raise BenchError(f"{path}: {name} must be a positive number, not {value!r}.")
    major, dot, minor = str(data["capability"]).partition(".")
    if not (dot and major.isdigit() and minor.isdigit()):
        raise BenchError(f"{path}: capability must be like '8.9', not {data['capability']!r}.")
    return DeviceSpec(**data | {"names": tuple(data["names"]), "capability": (int(major), int(minor))})
