"""Reads what pytest-benchmark writes (`--benchmark-json`, `.benchmarks/*/NNNN_*.json`) into plain data.

One file is one process, so its rounds, however many, are one launch: they show a spread and allow no interval.
`--benchmark-save` stores the rounds themselves only with `--benchmark-save-data`; without them the file's median and
quartiles are taken. Times are seconds of one iteration.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any, TypeVar

from visionbench.record.errors import BenchError
from visionbench.record.fingerprint import Fact, minor_version

T = TypeVar("T")

_SIGN = '"machine_info"'
_REMEDY = "name a file that `pytest --benchmark-json` wrote"

_PROCESSOR = {
    "cpu": "brand_raw",
    "cores": "count",
    "cpu_family": "family",  # a virtual machine's brand often names no model
    "cpu_model": "model",
    "cpu_stepping": "stepping",
}
_PLATFORM = {
    "machine": "machine",
    "system": "system",
    "kernel": "release",
    "interpreter": "python_implementation",
    "python": "python_version",
}
_PASSED_OVER = {"node", "processor", "python_compiler", "python_build", "python_implementation_version", "cpu"}
"""A host's name is new for every CI job, and no property of its speed; the build date of Python is neither."""

_UNVERSIONED = "unversioned"
"""What pytest-benchmark writes for the commit where there is no repository."""

_VECTORS = ("avx", "amx", "sse4", "sve", "asimd", "neon")
_HOW = ("timer", "disable_gc", "warmup")
"""The options that change what a round is; the others say how many of them there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """One benchmark of a file. `name` is its full name; `seconds` are its rounds in order, () where none were saved.

    `median` and the quartiles `low` and `high` are of those rounds; `how` holds the options that change a round.
    """

    name: str
    median: float
    low: float
    high: float
    rounds: int
    seconds: tuple[float, ...] = ()
    how: tuple[tuple[str, Fact], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """One file: the machine as far as times depend on it, the commit, when it was written, and its benchmarks."""

    machine: tuple[tuple[str, Fact], ...]
    benchmarks: tuple[Benchmark, ...]
    commit: str | None = None
    dirty: bool | None = None
    written: str | None = None


def read(path: Path | str) -> Saved | None:
    """What pytest-benchmark saved at `path`; None for anything that is none of its files.

    Only a regular file is looked into: a missing file, a device or a pipe is left to the reader of records. Raises
    `BenchError` for one of its files that is torn or lacks a number.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig", errors="replace") if Path(path).is_file() else ""
    except OSError:
        return None
    try:
        return parse(text)
    except ValueError as error:
        raise BenchError(f"{path} is a broken file of pytest-benchmark's ({error}): {_REMEDY}.") from error


def parse(text: str) -> Saved | None:
    """The content of a file; None for other content. Raises ValueError for a torn file or one without its numbers."""
    try:
        data = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        if text.lstrip()[:1] == "{" and _SIGN in text[:200]:
            raise ValueError(f"it is torn: {error}") from error
        return None
    if not isinstance(data, dict) or "benchmarks" not in data or "machine_info" not in data:
        return None
    if not isinstance(data["benchmarks"], list) or not all(isinstance(one, dict) for one in data["benchmarks"]):
        raise ValueError("its benchmarks are no list of objects")
    try:
        return _saved(data)
    except KeyError as error:
        raise ValueError(f"a benchmark has no {error}") from error
    except (TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"a field is missing or wrong: {error}") from error


def _saved(data: dict[str, Any]) -> Saved:
    commit = data.get("commit_info") or {}
    benchmarks = tuple(_benchmark(one) for one in data["benchmarks"])
    return Saved(
        machine=tuple(machine(data["machine_info"] or {}).items()),
        benchmarks=benchmarks,
        commit=_of_type(str, commit.get("id")) if commit.get("id") != _UNVERSIONED else None,
        dirty=_of_type(bool, commit.get("dirty")),
        written=_of_type(str, data.get("datetime")),
    )


def _of_type(kind: type[T], value: object) -> T | None:
    if value is not None and not isinstance(value, kind):
        raise TypeError(f"{value!r} is no {kind.__name__}"[:100])
    return value


def machine(info: dict[str, Any]) -> dict[str, Fact]:
    """What of a `machine_info` must agree for times to be comparable.

    The processor, its vector instructions (a hypervisor may hide some), the kernel, the interpreter; and every single
    value that the project's own hook added (a GPU's name, a driver's version), nested ones by a dotted name. Left out
    is what differs between two equal machines: the host's name, the clock at that moment, the build date of Python.
    """
    cpu = info.get("cpu") or {}
    found: dict[str, Fact] = {name: _fact(cpu.get(key)) for name, key in _PROCESSOR.items()}
    found |= {name: _fact(info.get(key)) for name, key in _PLATFORM.items()}
    if isinstance(found["python"], str):
        found["python"] = minor_version(found["python"])
    flags = sorted(str(flag) for flag in cpu.get("flags") or () if str(flag).startswith(_VECTORS))
    found["vector_instructions"] = " ".join(flags) or None
    taken = _PASSED_OVER | set(_PLATFORM.values())
    return found | _flat({key: value for key, value in info.items() if key not in taken})


def _flat(nested: dict[str, Any], above: str = "") -> dict[str, Fact]:
    flat: dict[str, Fact] = {}
    for key, value in nested.items():
        flat |= _flat(value, f"{above}{key}.") if isinstance(value, dict) else {f"{above}{key}": _fact(value)}
    return flat


def _fact(value: object) -> Fact:
    return value if value is None or isinstance(value, (str, int, float)) else json.dumps(value, sort_keys=True)


def _benchmark(data: dict[str, Any]) -> Benchmark:
    stats, options = data["stats"], data.get("options") or {}
    seconds = tuple(_seconds(value) for value in stats.get("data") or ())
    low, centre, high = _quartiles(seconds) if seconds else (_seconds(stats[key]) for key in ("q1", "median", "q3"))
    return Benchmark(
        name=str(data["fullname"]),
        median=centre,
        low=low,
        high=high,
        rounds=len(seconds) or int(stats["rounds"]),
        seconds=seconds,
        how=tuple((name, _fact(options.get(name))) for name in _HOW),
    )


def _quartiles(seconds: tuple[float, ...]) -> tuple[float, float, float]:
    if len(seconds) == 1:
        return seconds[0], seconds[0], seconds[0]
    low, _, high = quantiles(seconds, n=4, method="inclusive")
    return low, median(seconds), high


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{value!r} is no time")
    return float(value)
