"""The record: what was measured or computed, how, where, and what came out. It is the product.

A record explains itself to a program that has never seen the metric: each measurement carries its unit, which
direction is better, and what may be assumed of it. Raw values only, chronological, never sorted and never trimmed;
medians, intervals and rates are derived when read (`derived.py`), so no two stored figures can disagree.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Hashable
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import Any, Literal, TypeVar, cast, get_args

from visionbench.record.errors import BenchError, choose
from visionbench.record.spec import Protocol, Spec

SCHEMA = 1
"""Version of a line. 1 (2026-11): first."""

Source = Literal["measured", "computed", "predicted", "published"]
Better = Literal["lower", "higher", "none"]
Assume = Literal["exact", "nothing"]
FailureKind = Literal["out_of_memory", "unsupported", "timeout", "crashed", "error"]

UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""Schema version -> a named function that lifts a line of that version by one. Empty while there is one version."""

_T = TypeVar("_T")


class NewerSchemaError(BenchError):
    """A record written by a newer visionbench: skipping it would be losing it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Where a number was made. Unknown is None and prints as a dash.

    `device_type` is "cuda", "cpu" or "meta" (computed, no hardware). `device_key` is a key of `devices.DEVICES` or
    None; `device_name` is the driver's own name, or the CPU's; `device_index` says which of a host's equal GPUs it was.
    Bytes, watts, UTC (ISO 8601).
    """

    device_type: str
    device_key: str | None = None
    device_name: str | None = None
    device_memory: int | None = None
    device_index: int | None = None
    driver: str | None = None
    cuda: str | None = None
    cudnn: str | None = None
    torch: str | None = None
    timm: str | None = None
    python: str | None = None
    platform: str | None = None
    cpu: str | None = None
    cores: int | None = None
    threads: int | None = None
    power_limit: float | None = None
    git_commit: str | None = None
    git_dirty: bool | None = None
    started: str | None = None

    @property
    def device(self) -> str:
        """A stable short name of the device: `a100-sxm4-80gb`; `amd-epyc-7b13-2t` (CPU and threads used); `meta`."""
        if self.device_key:
            return self.device_key
        if self.device_name is None:
            return self.device_type
        slug = re.sub(r"[^a-z0-9]+", "-", self.device_name.lower()).strip("-")
        return f"{slug}-{self.threads}t" if self.device_type == "cpu" and self.threads else slug


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One metric's raw values in base units (`s`, `B`, `count`, `J`), in the order in which they were taken.

    `iterations` is how many steps one value spans (a block's length); 1 for counts. `assume="exact"` means that one
    value is the truth and two different ones are a defect; "nothing" means that it is noise until enough launches
    agree.
    """

    metric: str
    unit: str
    better: Better
    assume: Assume
    values: tuple[float, ...]
    iterations: int = 1
    warmups: int = 0
    flags: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        choose("direction", self.better, get_args(Better))
        choose("assumption", self.assume, get_args(Assume))


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why there is no number. A failure is a result: it has a row, a stage (`build`, `warm-up`, ...) and a cause."""

    kind: FailureKind
    stage: str
    message: str

    def __post_init__(self) -> None:
        choose("kind of failure", self.kind, get_args(FailureKind))


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One line of a records file: one launch of one spec, or one exact count, or one failure."""

    spec: Spec
    protocol: Protocol | None
    environment: Environment
    measurements: tuple[Measurement, ...] = ()
    failure: Failure | None = None
    source: Source
    schema: int = SCHEMA

    @property
    def key(self) -> tuple[Spec, str | None, str, str | None, Source]:
        """Records with one key are repetitions; records with different keys are never averaged.

        torch's version is part of it: from one release to a later one, models on one card have moved by tens of percent
        (timm's result tables for PyTorch 2.4 and 2.9).
        """
        protocol = self.protocol.name if self.protocol else None
        return (self.spec, protocol, self.environment.device, self.environment.torch, self.source)

    def get(self, metric: str) -> Measurement | None:
        """The measurement of that name, or None."""
        return next((m for m in self.measurements if m.metric == metric), None)

    def value(self, metric: str) -> float | None:
        """The single value of an exact metric (a count), or None where it was not taken."""
        found = self.get(metric)
        return found.values[0] if found and found.values else None


def to_json(record: Record) -> str:
    """One line of JSON, without the newline. Only finite numbers; a NaN raises ValueError (a flag says it, not a
    value).
    """
    return json.dumps(asdict(record), allow_nan=False, separators=(",", ":"), ensure_ascii=False)


def from_json(line: str) -> Record:
    """The record of one line. Raises `NewerSchemaError` for what only a newer visionbench reads, ValueError for no
    record.
    """
    data = json.loads(line)
    if not isinstance(data, dict) or not isinstance(data.get("schema"), int):
        raise ValueError("no visionbench record: it has no schema number")
    data = _upgraded(data)
    if data.get("source") not in get_args(Source):
        raise ValueError(f"unknown source of a record: {data.get('source')!r}")
    return Record(
        spec=make(Spec, data.pop("spec", None)),
        protocol=None if data.get("protocol") is None else _protocol(json.dumps(data["protocol"])),
        environment=_environment(json.dumps(data.pop("environment", None))),
        measurements=tuple(_measurement(m) for m in data.pop("measurements", ())),
        failure=None if data.get("failure") is None else make(Failure, data["failure"]),
        source=data.pop("source", None),
        schema=data.pop("schema"),
        **_nothing_else(data, {"protocol", "failure"}),
    )


def _upgraded(data: dict[str, Any]) -> dict[str, Any]:
    if data["schema"] > SCHEMA:
        raise NewerSchemaError(
            f"a record has schema {data['schema']}, this visionbench reads up to {SCHEMA}: "
            "upgrade visionbench to read it."
        )
    while data["schema"] < SCHEMA:
        if data["schema"] not in UPGRADES:
            raise ValueError(f"no record of a known schema: {data['schema']}")
        data = UPGRADES[data["schema"]](data)
    return data


def _nothing_else(data: dict[str, Any], taken: set[str]) -> dict[str, Any]:
    """An unknown field is an error, not a shrug: it may change what the number means."""
    unknown = sorted(set(data) - taken)
    if unknown:
        raise ValueError(f"unknown field in a record: {', '.join(unknown)}")
    return {}


@lru_cache(maxsize=32)
def _names(kind: Hashable) -> frozenset[str]:
    return frozenset(field.name for field in fields(cast(type[Any], kind)))


def make(kind: type[_T], data: object) -> _T:
    """The dataclass `kind` from an object of JSON. Raises ValueError for an unknown field or a wrong value."""
    if not isinstance(data, dict):
        raise ValueError(f"a record's {kind.__name__.lower()} is no object")
    _nothing_else(data, set(_names(cast(Hashable, kind))))
    try:
        return kind(**data)
    except (TypeError, BenchError) as error:
        raise ValueError(f"a record's {kind.__name__.lower()} is wrong: {error}") from error


def _measurement(data: object) -> Measurement:
    if not isinstance(data, dict):
        raise ValueError("a record's measurement is no object")
    lists = {name: tuple(data[name]) for name in ("values", "flags", "warnings") if name in data}
    made = make(Measurement, {**data, **lists})
    numbers = all(isinstance(value, (int, float)) and math.isfinite(value) for value in made.values)
    if not numbers or not isinstance(made.iterations, int) or made.iterations < 1:
        raise ValueError(f"a measurement of {made.metric} holds no finite numbers, or no iterations")
    return made


# A file of ten thousand records holds a handful of protocols and environments: build each of them once.
@lru_cache(maxsize=256)
def _protocol(text: str) -> Protocol:
    data = json.loads(text)
    if isinstance(data, dict) and "metrics" in data:
        data["metrics"] = tuple(data["metrics"])
    return make(Protocol, data)


@lru_cache(maxsize=4096)
def _environment(text: str) -> Environment:
    return make(Environment, json.loads(text))
