"""The record: what was measured or computed, how, where, and what came out. It is the product.

A record explains itself to a program that has never seen the metric: each measurement carries its unit, which
direction is better, and what may be assumed of it. Raw values only, chronological, never sorted and never trimmed;
medians, intervals and rates are derived when read (`statistics.py`), so no two stored figures can disagree.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Literal, get_args, get_type_hints

from visionbench.record.errors import BenchError, choose
from visionbench.record.files import decode, flat_reader, typed
from visionbench.record.spec import Protocol, Spec, stored

SCHEMA = 2
"""Version of a line. 1 (2026-11): first. 2 (2026-11): an interval and a basis are fields; rectangular images, several
processes, a backend and a node have a place; a protocol has no clock."""

Source = Literal["measured", "computed", "predicted", "published"]
Better = Literal["lower", "higher", "none"]
Assume = Literal["exact", "nothing"]
FailureKind = Literal["out_of_memory", "unsupported", "timeout", "crashed", "error", "unfit"]

_BETTER, _ASSUME = get_args(Better), get_args(Assume)  # once, and not for each of a file's measurements

Tier = Literal["ratio", "calibrated", "anchored", "data sheet", "refused"]
"""What a prediction is founded on, from the best to none."""


class NewerSchemaError(BenchError):
    """A record written by a newer visionbench: skipping it would be losing it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What a GPU's driver counts of its health; None where it does not say.

    `ecc_uncorrected` are memory errors that could not be corrected since the driver was loaded, `rows_remapped` the
    faulty rows of memory that others stand for, `remap_pending` whether one more does so after a restart. The bus's
    generation and width are as they were and at most; a card at rest lowers its generation. Watts.
    """

    ecc_uncorrected: int | None = None
    rows_remapped: int | None = None
    remap_pending: bool | None = None
    pcie_generation: int | None = None
    pcie_generation_max: int | None = None
    pcie_width: int | None = None
    pcie_width_max: int | None = None
    power_limit_default: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Where a number was made. Unknown is None and prints as a dash.

    `device_type` is "cuda", "cpu" or "meta" (computed, no hardware). `device_key` is a key of `devices.DEVICES` or
    None; `device_name` is the driver's own name, or the CPU's; `device_index` says which of a host's equal GPUs it was.
    `node` names the host where several take part, or hides its name behind a salted hash; `gpu_uuid` is the card's own
    number. `job` is a batch system's, `restarts` how often it had begun before, and `exclusive_node` whether the whole
    host was its own. `malloc`, from which sizes on a CPU process gives memory back to the system
    (`machine.allocator`), is part of a record's key; None in records from before that was settled. `communication` is
    what processes that train together exchange gradients by, "gloo" or "nccl", and `nccl` its version. `variables` are
    the environment variables that change a device's numbers, with their values, and part of a record's key. Bytes,
    watts, UTC (ISO 8601).
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
    malloc: str | None = None
    communication: str | None = None
    nccl: str | None = None
    gpu_uuid: str | None = None
    job: str | None = None
    restarts: int | None = None
    exclusive_node: bool | None = None
    health: Health | None = None
    variables: str | None = None

    @property
    def device(self) -> str:
        """A stable short name of the device: `a100-sxm4-80gb`; `amd-epyc-7b13-2t` (CPU and threads used); `meta`."""
        return _short_name(self.device_type, self.device_key, self.device_name, self.threads)


LATER_FIELDS = (
    "malloc",
    "communication",
    "nccl",
    "gpu_uuid",
    "job",
    "restarts",
    "exclusive_node",
    "health",
    "variables",
)
"""An environment's fields that came after the first lines: not written where they are None, as older readers expect."""


@lru_cache(maxsize=256)
def _short_name(device_type: str, key: str | None, name: str | None, threads: int | None) -> str:
    if key:
        return key
    if name is None:
        return device_type
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return f"{slug}-{threads}t" if device_type == "cpu" and threads else slug


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One metric's raw values in base units (`s`, `B`, `count`, `J`), in the order in which they were taken.

    `iterations` is how many steps one value spans (a block's length); 1 for counts. `assume="exact"` means that one
    value is the truth and two different ones are a defect; "nothing" means that it is noise until enough launches
    agree. `low` and `high` are an interval that was stored with the value, in its unit, and `level` says how often it
    holds the truth (0.8 for a prediction); measured values have none, because it is derived from the launches.

    Raises `BenchError` for a word that is not on its list, or an impossible interval.
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
        if self.better not in _BETTER or self.assume not in _ASSUME:  # a file may hold a million
            choose("direction", self.better, _BETTER)
            choose("assumption", self.assume, _ASSUME)
        if self.low is None and self.high is None and self.level is None:
            return
        if self.low is None or self.high is None or self.level is None or not self.low <= self.high:
            raise BenchError(f"the interval of {self.metric} must have a low end, a high end above it, and a level.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why there is no number. A failure is a result: it has a row, a stage (`build`, `warm-up`, ...) and a cause.

    One that is "unfit" is a node's: a job of a cluster found its card so, and measured nothing there.
    """

    kind: FailureKind
    stage: str
    message: str

    def __post_init__(self) -> None:
        choose("kind of failure", self.kind, get_args(FailureKind))


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """What a prediction rests on: its tier, the name of its calibration, and the reason in words.

    Two predictions of one card that differ by less than `resolution`, in the logarithm, cannot be told apart.
    """

    tier: Tier
    calibration: str
    reason: str
    resolution: float

    def __post_init__(self) -> None:
        choose("tier", self.tier, get_args(Tier))


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One line of a records file: one launch of one spec, or one exact count, or one failure.

    `basis` is there for a prediction that was not refused. `network` is a hash of what a user's factory made and of its
    sources (`models.identity`), None for other networks: such a name stands for whatever its file holds today.
    """

    spec: Spec
    protocol: Protocol | None
    environment: Environment
    measurements: tuple[Measurement, ...] = ()
    failure: Failure | None = None
    basis: Basis | None = None
    network: str | None = None
    source: Source
    schema: int = SCHEMA

    @property
    def key(self) -> tuple[Spec, str | None, str, str | None, str | None, str | None, str | None, Source]:
        """Records with one key are repetitions; records with different keys are never averaged.

        Equal cards of several nodes are repetitions, too: the estimate is then over nodes (`statistics.over_launches`).
        torch's version is part of it: from one release to a later one, models on one card have moved by tens of percent
        (timm's result tables for PyTorch 2.4 and 2.9).
        """
        protocol = self.protocol.name if self.protocol else None
        return (
            self.spec,
            protocol,
            self.environment.device,
            self.environment.torch,
            self.environment.malloc,
            self.environment.variables,
            self.network,
            self.source,
        )

    def get(self, metric: str) -> Measurement | None:
        """The measurement of that name, or None."""
        for measurement in self.measurements:  # asked for every launch of a file: a generator takes twice as long
            if measurement.metric == metric:
                return measurement
        return None

    def value(self, metric: str) -> float | None:
        """The single value of an exact metric (a count), or None where it was not taken."""
        measurement = self.get(metric)
        return measurement.values[0] if measurement and measurement.values else None


def is_unfit(record: Record) -> bool:
    """Whether it is no launch, but says why a cluster's job measured nothing on a node."""
    return record.failure is not None and record.failure.kind == "unfit"


def to_json(record: Record) -> str:
    """One line of JSON, without the newline. Only finite numbers; a NaN raises ValueError (a flag says it, not a
    value).
    """
    data = asdict(record)
    data["spec"] = stored(data["spec"])
    data["environment"] = stored_environment(data["environment"])
    return json.dumps(data, allow_nan=False, separators=(",", ":"), ensure_ascii=False)


def stored_environment(environment: dict[str, Any]) -> dict[str, Any]:
    """An environment's fields (`asdict`) as a line holds them: `LATER_FIELDS` where they are known."""
    return {name: value for name, value in environment.items() if name not in LATER_FIELDS or value is not None}


def from_json(line: str | bytes) -> Record:
    """The record of one line, of this schema or an older one; bytes that are no UTF-8 are replaced.

    Raises `NewerSchemaError` for what only a newer visionbench reads, ValueError for no record.
    """
    record = _from_parts(line) or _from_whole(line if isinstance(line, str) else line.decode(errors="replace"))
    for measurement in record.measurements:
        if measurement.iterations < 1:
            raise ValueError("a record's measurement spans no iterations")
    return record


def _from_whole(line: str) -> Record:
    data = decode(line)
    if not isinstance(data, dict) or type(data.get("schema")) is not int:
        raise ValueError("no visionbench record: it has no schema number")
    return typed(_upgraded(data), Record, "record")


def _from_parts(line: str | bytes) -> Record | None:
    """The record as `_from_whole` reads it, or None: then reading the line as a whole says what is wrong with it.

    The lines of a file repeat their specs, protocols and environments. Each is read once; equal ones are one object.
    """
    try:
        raw = _line_decoder().decode(line)
        source, schema = _repeated("source", bytes(raw.source)), bytes(raw.schema)
        if schema != _SCHEMA_TEXT and not (schema == b"1" and source != "predicted"):
            return None  # of schema 1, only the protocol and predictions have changed since
        return Record(
            spec=_repeated("spec", bytes(raw.spec)),
            protocol=_repeated("protocol", bytes(raw.protocol), schema),
            environment=_repeated("environment", bytes(raw.environment)),
            measurements=flat_reader(Measurement)(bytes(raw.measurements)),  # each is another
            failure=_repeated("failure", bytes(raw.failure)),
            basis=_repeated("basis", bytes(raw.basis)),
            network=_repeated("network", bytes(raw.network)),
            source=source,
        )
    except (ValueError, TypeError, RecursionError, BenchError):  # msgspec's errors are ValueErrors
        return None


@lru_cache(maxsize=1)
def _line_decoder() -> Any:
    """What takes a line apart into the texts of its fields."""
    import msgspec  # not needed for `--help`

    required = ("spec", "protocol", "environment", "source", "schema")
    optional = {"measurements": b"[]", "failure": b"null", "basis": b"null", "network": b"null"}
    fields: list[Any] = [(name, msgspec.Raw) for name in required]
    fields += [(name, msgspec.Raw, msgspec.Raw(text)) for name, text in optional.items()]
    return msgspec.json.Decoder(msgspec.defstruct("Line", fields, forbid_unknown_fields=True))


_SCHEMA_TEXT = str(SCHEMA).encode()


def _part(name: str, text: bytes, schema: bytes = _SCHEMA_TEXT) -> Any:
    if name == "environment" and b'"health"' not in text:  # mostly another for each launch: it says when that began
        return flat_reader(Environment)(b"[%b]" % text)[0]
    data = decode(text)
    if name == "protocol" and schema == b"1":
        data = _protocol_of_schema_1(data)
    return typed(data, _PART_TYPES[name], name)


_PART_TYPES = get_type_hints(Record)
_repeated = lru_cache(maxsize=1024)(_part)


def _upgraded(data: dict[str, Any]) -> dict[str, Any]:
    if data["schema"] > SCHEMA:
        raise NewerSchemaError(
            f"a record has schema {data['schema']}, this visionbench reads up to {SCHEMA}: "
            "upgrade visionbench to read it."
        )
    while data["schema"] < SCHEMA:
        if data["schema"] not in UPGRADES:
            raise ValueError(f"no record of a known schema: {data['schema']}")
        try:
            data = UPGRADES[data["schema"]](data)
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise ValueError(f"a record of schema {data['schema']} is wrong: {error!r}") from error
    return data


def from_schema_1(data: dict[str, Any]) -> dict[str, Any]:
    """Lift a line of schema 1.

    There a prediction's interval was two measurements beside it (`.low80`, `.high80`) and its basis three flags and a
    warning of `step_time`; and a protocol had a clock, which was always the wall's.
    """
    data = {**data, "schema": 2}
    if "protocol" in data:
        data["protocol"] = _protocol_of_schema_1(data["protocol"])
    if data.get("source") == "predicted" and data.get("measurements"):
        step_time = next((m for m in data["measurements"] if m["metric"] == "step_time"), None)
        data["basis"] = _basis_1(step_time) if step_time else None
        data["measurements"] = list(_with_intervals(data["measurements"]))
    return data


def _protocol_of_schema_1(protocol: Any) -> Any:
    if isinstance(protocol, dict) and protocol.get("clock", "wall") == "wall":
        return {name: value for name, value in protocol.items() if name != "clock"}
    return protocol


def _basis_1(step_time: dict[str, Any]) -> dict[str, Any]:
    facts = dict(flag.split(":", 1) for flag in step_time["flags"] if ":" in flag)
    return {
        "tier": facts["tier"],
        "calibration": facts["calibration"],
        "reason": step_time["warnings"][0] if step_time.get("warnings") else "",
        "resolution": float(facts["resolution"]),
    }


def _with_intervals(measurements: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The measurements without those that are ends of an interval, which become fields of the others."""
    of_the_basis = ("tier", "calibration", "resolution")
    values = {m["metric"]: m["values"] for m in measurements}
    for measurement in measurements:
        name = measurement["metric"]
        if name.endswith((".low80", ".high80")):
            continue
        flags = [flag for flag in measurement.get("flags", ()) if flag.split(":")[0] not in of_the_basis]
        lifted = {**measurement, "flags": flags}
        if name == "step_time":
            lifted["warnings"] = []  # it is the reason of the basis
        if f"{name}.low80" in values and f"{name}.high80" in values:
            lifted |= {"low": values[f"{name}.low80"][0], "high": values[f"{name}.high80"][0], "level": 0.8}
        yield lifted


UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: from_schema_1}
"""Schema version -> a named function that lifts a line of that version by one."""
