"""The record: what was measured or computed, how, where, and what came out. It is the product.

A record explains itself to a program that has never seen the metric: each measurement carries its unit, which
direction is better, and what may be assumed of it. Raw values only, chronological, never sorted and never trimmed;
medians, intervals and rates are derived when read (`derived.py`), so no two stored figures can disagree.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from typing import Any, Literal, cast, get_args

from visionbench.record import files
from visionbench.record.errors import BenchError, choose
from visionbench.record.spec import Protocol, Spec

SCHEMA = 2
"""Version of a line. 1 (2026-11): first. 2 (2026-11): intervals and the basis of a prediction are fields; a spec has
`image_width`, `processes` and `backend`, an environment has `node`; a protocol has no `clock`.
"""

Source = Literal["measured", "computed", "predicted", "published"]
Better = Literal["lower", "higher", "none"]
Assume = Literal["exact", "nothing"]
Tier = Literal["ratio", "calibrated", "anchored", "data sheet", "refused"]
FailureKind = Literal["out_of_memory", "unsupported", "timeout", "crashed", "error"]


class NewerSchemaError(BenchError):
    """A record written by a newer visionbench: skipping it would be losing it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Where a number was made. Unknown is None and prints as a dash.

    `device_type` is "cuda", "cpu" or "meta" (computed, no hardware). `device_key` is a key of `devices.DEVICES` or
    None; `device_name` is the driver's own name, or the CPU's; `device_index` says which of a host's equal GPUs it was,
    `node` which machine of a cluster. Bytes, watts, UTC (ISO 8601).
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
    node: str | None = None

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
    agree. `low` and `high` bound the interval at `level` (0.8) around a single value that was not measured, in the
    metric's unit; None elsewhere, for an interval over launches is derived when read.
    """

    metric: str
    unit: str
    better: Better
    assume: Assume
    values: tuple[int | float, ...]
    iterations: int = 1
    warmups: int = 0
    flags: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    level: float | None = None

    def __post_init__(self) -> None:
        choose("direction", self.better, get_args(Better))
        choose("assumption", self.assume, get_args(Assume))
        if self.iterations < 1:
            raise ValueError(f"a value of {self.metric} spans at least 1 iteration, not {self.iterations}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """What a prediction rests on: its tier, the calibration's id, the reason in words, and its resolution.

    Two predictions of one card that differ by less than `resolution`, in the logarithm, are not told apart.
    """

    tier: Tier
    calibration: str
    reason: str
    resolution: float


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
    """One line of a records file: one launch of one spec, one exact count, one prediction, or one failure.

    `basis` is there for predictions.
    """

    spec: Spec
    protocol: Protocol | None
    environment: Environment
    measurements: tuple[Measurement, ...] = ()
    failure: Failure | None = None
    source: Source
    basis: Basis | None = None
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
        measurement = self.get(metric)
        return measurement.values[0] if measurement and measurement.values else None


def to_json(record: Record) -> str:
    """One line of JSON, without the newline. Only finite numbers; a NaN raises ValueError (a flag says it, not a
    value).
    """
    return json.dumps(asdict(record), allow_nan=False, separators=(",", ":"), ensure_ascii=False)


def from_json(line: bytes | str) -> Record:
    """The record of one line. Raises `NewerSchemaError` for what only a newer visionbench reads, ValueError for
    anything else that is no record, with the path to what is wrong.
    """
    lone = "\\ud" in line if isinstance(line, str) else b"\\ud" in line
    data = _with_surrogates(line) if lone else None
    version = _schema(line) if data is None else data.get("schema")
    if not isinstance(version, int) or (version < SCHEMA and version not in UPGRADES):
        raise ValueError(f"no visionbench record of a known schema: {version}")
    if version > SCHEMA:
        raise NewerSchemaError(
            f"a record has schema {version}, this visionbench reads up to {SCHEMA}: upgrade visionbench to read it."
        )
    try:
        if version == SCHEMA and data is None:
            return _checked(_of_parts(line))
        return _checked(files.typed(Record, _upgraded(files.plain(line) if data is None else data, version)))
    except ValueError as error:
        raise ValueError(f"a record is wrong: {error}") from error


def _with_surrogates(line: bytes | str) -> Any:
    """The data of a line with half a character, as Python shows bytes of a file's name that are no UTF-8.

    msgspec refuses such strings, the standard library takes them.
    """
    try:
        data = json.loads(line)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(data, dict):
        raise ValueError("no visionbench record: it is no object")
    return data


def _upgraded(data: Any, version: int) -> Any:
    for step in range(version, SCHEMA):
        data = UPGRADES[step](data)
    return data


def from_schema_1(data: dict[str, Any]) -> dict[str, Any]:
    """A line of schema 1 as one of schema 2.

    There a protocol had a `clock` ("wall", always), and a prediction was three measurements (`step_time`, `.low80`,
    `.high80`; memory alike) whose flags held its tier, calibration and resolution.
    """
    protocol, source = data.get("protocol"), data.get("source")
    if isinstance(protocol, dict):
        data = data | {"protocol": {name: value for name, value in protocol.items() if name != "clock"}}
    if source == "predicted":
        data = data | _prediction_1(data.get("measurements") or [])
    return data | {"schema": 2}


def _prediction_1(measurements: list[dict[str, Any]]) -> dict[str, Any]:
    """The measurements and the basis of a prediction of schema 1."""
    try:
        by_name = {measurement["metric"]: measurement for measurement in measurements}
        return _lifted(by_name)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(f"a prediction of schema 1 lacks a field or has a wrong one: {error!r}") from error


def _lifted(by_name: dict[str, dict[str, Any]]) -> dict[str, Any]:
    lifted: list[dict[str, Any]] = []
    basis: dict[str, Any] | None = None
    for name, measurement in by_name.items():
        if name.endswith((".low80", ".high80")):
            continue
        ends = [by_name[name + end]["values"][0] if name + end in by_name else None for end in (".low80", ".high80")]
        interval = {"low": ends[0], "high": ends[1], "level": 0.8 if None not in ends else None}
        lifted.append(measurement | {"flags": []} | interval)
        facts = dict(flag.split(":", 1) for flag in measurement.get("flags", ()) if ":" in flag)
        if "calibration" in facts:  # of the step's time; memory has none
            reason = (measurement.get("warnings") or [""])[0]
            basis = facts | {"reason": reason, "resolution": float(facts["resolution"])}
            lifted[-1]["warnings"] = []
    return {"measurements": lifted, "basis": basis}


UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: from_schema_1}
"""Schema version -> the function that lifts a line of that version by one."""


def _checked(record: Record) -> Record:
    for measurement in record.measurements:
        ends = [end for end in (measurement.low, measurement.high, measurement.level) if end is not None]
        if not all(map(files.finite, (*measurement.values, *ends))):
            raise ValueError(f"a measurement of {measurement.metric} holds no finite numbers")
    return record


@cache
def _readers() -> tuple[Any, Any]:
    """How a line's schema number is read, and its parts; made when the first line is read."""
    import msgspec

    version = msgspec.defstruct("record", [("schema", int)])
    # The parts that many lines share stay text, which is decoded once (`_shared`).
    parts = msgspec.defstruct(
        "record",
        [
            ("spec", msgspec.Raw),
            ("protocol", msgspec.Raw, msgspec.Raw(b"null")),
            ("environment", msgspec.Raw),
            ("measurements", msgspec.Raw, msgspec.Raw(b"[]")),
            ("failure", msgspec.Raw, msgspec.Raw(b"null")),
            ("source", Source),
            ("basis", msgspec.Raw, msgspec.Raw(b"null")),
            ("schema", int),
        ],
        kw_only=True,
        forbid_unknown_fields=True,
    )
    return msgspec.json.Decoder(version), msgspec.json.Decoder(parts)


def _schema(line: bytes | str) -> int:
    try:
        version: int = files.sound(lambda: _readers()[0].decode(line)).schema
    except ValueError as error:
        raise ValueError(f"no visionbench record: it has no schema number ({error})") from error
    return version


def _of_parts(line: bytes | str) -> Record:
    parts = files.sound(lambda: _readers()[1].decode(line))
    return Record(
        spec=_part(Spec, "spec", parts.spec),
        protocol=_part(Protocol | None, "protocol", parts.protocol),
        environment=_part(Environment, "environment", parts.environment),
        measurements=_part(tuple[Measurement, ...], "measurements", parts.measurements),
        failure=_part(Failure | None, "failure", parts.failure),
        source=parts.source,
        basis=_part(Basis | None, "basis", parts.basis),
        schema=parts.schema,
    )


def _part(kind: Any, name: str, raw: Any) -> Any:
    """A part of a line; what is wrong is said with its path from the line's beginning."""
    try:
        return _decoder(kind)(bytes(raw)) if name == "measurements" else _shared(kind, bytes(raw))
    except ValueError as error:
        where = str(error) if "`$" in str(error) else f"{error} - at `$`"
        raise ValueError(where.replace("`$", f"`$.{name}")) from error


@lru_cache(maxsize=8192)
def _shared(kind: Hashable, text: bytes) -> Any:
    """A file of ten thousand records holds a handful of specs, protocols and environments: each is built once."""
    return _decoder(kind)(text)


@cache
def _decoder(kind: Hashable) -> Callable[[bytes], Any]:
    return files.decoder(cast(Any, kind))
