"""What was measured, in groups that may share a column: one device, one protocol, one way of running.

Numbers of different settings are never averaged and never share a column. A failure is a cell of its group:
it says its cause instead of a number. Launches of one key are repetitions, and the interval is over them
(`visionbench.record.statistics`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from visionbench.record.clean import clean
from visionbench.record.flags import meaning
from visionbench.record.record import Environment, Record
from visionbench.record.spec import Spec, Task
from visionbench.record.units import plural
from visionbench.reports.printed import Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """All that a column of measured numbers has in common."""

    device: str
    protocol: str
    task: Task
    batch_size: int
    precision: str
    memory_format: str
    compile_mode: str | None
    attention: str
    torch: str | None
    malloc: str | None = None

    @property
    def slug(self) -> str:
        """The setting as part of a column's key: unique, and stable from run to run."""
        parts = [self.device, self.protocol, self.precision, f"b{self.batch_size}"]
        parts += [self.memory_format] if self.memory_format != "contiguous" else []
        parts += [f"compile-{self.compile_mode}"] if self.compile_mode else []
        parts += ["math-attention"] if self.attention == "math" else []
        parts += [f"torch-{self.torch}"] if self.torch else []
        parts += ["malloc-settled"] if self.malloc else []
        return "_".join(parts)

    def words(self) -> dict[str, str]:
        """The setting in words, by field, the most telling first."""
        return {
            "precision": self.precision,
            "batch_size": f"batch {self.batch_size}",
            "memory_format": self.memory_format,
            "compile_mode": f"compiled ({self.compile_mode})" if self.compile_mode else "eager",
            "attention": f"{self.attention} attention",
            "protocol": f"protocol {self.protocol}",
            "torch": f"torch {self.torch}" if self.torch else "torch unknown",
            "malloc": f"malloc settled ({self.malloc})" if self.malloc else "",
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """All records of one setting, by network (model and image size), in the order of the file."""

    setting: Setting
    launches: dict[Network, list[Record]]
    newest: tuple[str, int]

    @property
    def environments(self) -> tuple[Environment, ...]:
        """The different environments of its records; one, unless software or machine changed in between."""
        return tuple(dict.fromkeys(r.environment for records in self.launches.values() for r in records))


def groups(records: Sequence[Record], networks: Iterable[Network], task: Task) -> tuple[Group, ...]:
    """The groups that have something to say about these networks, the newest first. One pass over the records."""
    wanted = frozenset(networks)
    found: dict[Setting, dict[Network, list[Record]]] = {}
    newest: dict[Setting, tuple[str, int]] = {}
    # Specs, protocols and environments of a file are few, and equal ones are mostly one object, so that what is said of
    # them is looked up by their identities.
    asked = {id(record.spec): record.spec for record in records}
    asked = {key: spec for key, spec in asked.items() if _network(spec) in wanted and spec.task == task}
    asked = {key: spec for key, spec in asked.items() if spec.processes is None}  # a paper's table is of one GPU
    places: dict[tuple[int, int, int], tuple[Setting, list[Record]]] = {}
    for place, record in enumerate(records):
        if record.source != "measured" or (spec := asked.get(id(record.spec))) is None:
            continue
        key = (id(spec), id(record.protocol), id(record.environment))
        if key not in places:
            setting = _setting(spec, record)
            places[key] = setting, found.setdefault(setting, {}).setdefault((spec.model, spec.image_size), [])
        setting, launches = places[key]
        launches.append(record)
        newest[setting] = max(newest.get(setting, ("", 0)), (record.environment.started or "", place))
    made = (Group(setting=key, launches=launches, newest=newest[key]) for key, launches in found.items())
    return tuple(sorted(made, key=lambda group: group.newest, reverse=True))


def _network(spec: Spec) -> Network | None:
    """The network that a spec runs; None where its inputs are not those of a paper."""
    return None if spec.inputs else (spec.model, spec.image_size)


def _setting(spec: Spec, record: Record) -> Setting:
    return Setting(
        device=record.environment.device,
        protocol=record.protocol.name if record.protocol else "none",
        task=spec.task,
        batch_size=spec.batch_size,
        precision=spec.precision,
        memory_format=spec.memory_format,
        compile_mode=spec.compile_mode,
        attention=spec.attention,
        torch=record.environment.torch,
        malloc=record.environment.malloc,
    )


def device_name(environment: Environment) -> str:
    """Short enough to stand over a column: `A100-SXM4-80GB`, `CPU, 2 threads`; the column's note has the full name."""
    if environment.device_type == "cpu":
        return f"CPU, {plural(environment.threads, 'thread')}" if environment.threads else "CPU"
    if environment.device_key:
        return environment.device_key.upper()
    return clean(environment.device_name or environment.device_type).removeprefix("NVIDIA ")


def heads(shown: Sequence[Group]) -> list[tuple[str, ...]]:
    """The headers of groups that stand beside each other: what two of them do not share is always in the header."""
    short = [_head(group) for group in shown]
    lines = []
    for group, head in zip(shown, short, strict=True):
        twins = [other.setting.words() for other, its in zip(shown, short, strict=True) if its == head]
        mine = group.setting.words()
        telling = [mine[field] for field in mine if mine[field] and len({twin[field] for twin in twins}) > 1]
        lines.append((*head, *telling))
    return lines


IN_HEAD = ("precision", "batch_size")
"""What every measured column says of its setting in its header."""


def _head(group: Group) -> tuple[str, ...]:
    words = group.setting.words()
    return (device_name(group.environments[-1]), ", ".join(words[field] for field in IN_HEAD))


def describe(group: Group) -> str:
    """What a column's header does not say of its measurements: machine, settings, software, launches, day."""
    seen = group.environments
    numbers = {sum(record.failure is None for record in records) for records in group.launches.values()} - {0}
    words = [word for field, word in group.setting.words().items() if word and field not in IN_HEAD]
    parts = [
        _all(clean(environment.device_name or environment.cpu or "") for environment in seen),
        ", ".join(words),
        _all(f"CUDA {environment.cuda}" for environment in seen if environment.cuda),
        f"{_range(numbers)} launch{'' if numbers == {1} else 'es'} a row" if numbers else "",
        f"newest of {day}" if (day := group.newest[0][:10]) else "",
    ]
    return "; ".join(part for part in parts if part)


def _range(numbers: set[int]) -> str:
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low} to {high}"


def _all(words: Iterable[str | None]) -> str:
    """Two versions in one column are said, not hidden."""
    return " and ".join(dict.fromkeys(word for word in words if word))


def failure(launches: Sequence[Record]) -> Record | None:
    """The newest failure among launches of which none has a number; None if one has."""
    if any(record.failure is None for record in launches):
        return None
    return launches[-1] if launches else None


def flags(launches: Sequence[Record], metric: str) -> tuple[str, ...]:
    """Every flag of a cell's launches, in words."""
    found = [record.get(metric) for record in launches]
    names = dict.fromkeys(flag for measurement in found if measurement for flag in measurement.flags)
    return tuple(meaning(name) for name in names)
