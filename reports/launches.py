"""Records, sorted once for all the tables that are made of them, and the launches of one row of a table.

A page shows the same launches in many tables. What is said of them takes a walk over all of them, so it is kept beside
them: a hundred thousand records are walked over once, and not once a table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from operator import attrgetter
from typing import TypeVar

from visionbench.record.record import Environment, Measurement, Record, is_unfit
from visionbench.record.spec import Spec, Task
from visionbench.record.statistics import Estimate, scatter_factor, throughput
from visionbench.reports.printed import Network

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


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
    variables: str | None = None

    @property
    def slug(self) -> str:
        """The setting as part of a column's key: unique, and stable from run to run."""
        parts = [self.device, self.protocol, self.precision, f"b{self.batch_size}"]
        parts += [self.memory_format] if self.memory_format != "contiguous" else []
        parts += [f"compile-{self.compile_mode}"] if self.compile_mode else []
        parts += ["math-attention"] if self.attention == "math" else []
        parts += [f"torch-{self.torch}"] if self.torch else []
        parts += ["malloc-settled"] if self.malloc else []
        parts += [re.sub(r"[^A-Za-z0-9.]+", "-", self.variables).lower()] if self.variables else []
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
            "variables": self.variables or "",
        }


class Launches(tuple[Record, ...]):
    """The launches of one row, in the order of the file, and what several tables say of them."""

    @classmethod
    def of(cls, records: Iterable[Record]) -> Launches:
        """The launches; themselves if they are some already."""
        return records if isinstance(records, cls) else cls(records)

    @cached_property
    def throughput(self) -> Estimate | None:
        """Images per second; None if no launch has a number."""
        return throughput(self)

    @cached_property
    def scatter_factor(self) -> float | None:
        """By what factor blocks or launches differ; None where they do not."""
        return scatter_factor(self)

    @cached_property
    def environments(self) -> tuple[Environment, ...]:
        """The environments that differ in more than the launch and the commit, in the order of their first launch."""
        different = {id(record.environment): record.environment for record in self}.values()
        first: dict[object, Environment] = {}
        for environment in different:
            first.setdefault(_PLACE(environment), environment)
        return tuple(first.values())

    @cached_property
    def successes(self) -> int:
        """How many launches have numbers."""
        return sum(record.failure is None for record in self)

    @cached_property
    def nodes(self) -> int:
        """How many nodes they name."""
        return len({record.environment.node for record in self} - {None})

    @cached_property
    def days(self) -> tuple[str, ...]:
        """The days on which they began, as far as it is known, ascending."""
        return tuple(sorted({(record.environment.started or "")[:10] for record in self} - {""}))

    @cached_property
    def metrics(self) -> frozenset[str]:
        """The metrics that any launch has."""
        return frozenset(measurement.metric for record in self for measurement in record.measurements)

    @cached_property
    def _measurements(self) -> dict[str, tuple[Measurement, ...]]:
        return {}

    def measurements(self, metric: str) -> tuple[Measurement, ...]:
        """What the launches say of a metric, in their order; launches without it are left out."""
        if metric not in self._measurements:
            found = (record.get(metric) for record in self)
            self._measurements[metric] = tuple(measurement for measurement in found if measurement)
        return self._measurements[metric]

    def flags(self, metric: str) -> tuple[str, ...]:
        """The names of all flags of a metric, in the order of their first appearance."""
        different = {id(m.flags): m.flags for m in self.measurements(metric) if m.flags}
        return tuple(dict.fromkeys(flag for flags in different.values() for flag in flags))


_PLACE = attrgetter(
    *(f.name for f in fields(Environment) if f.name not in ("started", "git_commit", "git_dirty", "device_index"))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The launches of one setting and network; `newest` says when the last began, and where in the file it stands."""

    launches: Launches
    newest: tuple[str, int]


def _together(placed: Sequence[tuple[int, Record]]) -> Measured:
    newest = max((record.environment.started or "", place) for place, record in placed)
    return Measured(launches=Launches(record for _, record in placed), newest=newest)


class Records(tuple[Record, ...]):
    """Records in the order of their files."""

    @classmethod
    def of(cls, records: Iterable[Record]) -> Records:
        """The records; themselves if they are sorted already."""
        return records if isinstance(records, cls) else cls(records)

    @cached_property
    def computed(self) -> tuple[Record, ...]:
        """The traces."""
        return tuple(record for record in self if record.source == "computed")

    @cached_property
    def predicted(self) -> tuple[Record, ...]:
        """The predictions."""
        return tuple(record for record in self if record.source == "predicted")

    @cached_property
    def unfit(self) -> tuple[str, ...]:
        """A sentence for each node that a cluster's jobs found unfit: which, and why."""
        return unfit_nodes(self)

    @cached_property
    def measured(self) -> dict[Setting, dict[Network, Measured]]:
        """The launches of images, by setting and network (model and image size), in the order of the file."""
        rows: dict[Setting, dict[Network, list[tuple[int, Record]]]] = {}
        places: dict[tuple[object, ...], list[tuple[int, Record]]] = {}
        for place, record in enumerate(self):
            spec = record.spec
            # A paper's table is of images and of one GPU.
            if record.source != "measured" or is_unfit(record) or spec.inputs or spec.processes is not None:
                continue
            if (key := quick_key(record)) not in places:
                networks = rows.setdefault(_setting(spec, record), {})
                places[key] = networks.setdefault((spec.model, spec.image_size), [])
            places[key].append((place, record))
        return {
            setting: {network: _together(launches) for network, launches in networks.items()}
            for setting, networks in rows.items()
        }


def unfit_nodes(records: Iterable[Record]) -> tuple[str, ...]:
    """A sentence for each node on which a cluster's jobs measured nothing: which, and why."""
    said = (
        f"Node {record.environment.node or 'without a name'} is left out: {record.failure.message}."
        for record in records
        if record.failure is not None and is_unfit(record)
    )
    return tuple(dict.fromkeys(said))


def quick_key(record: Record) -> tuple[object, ...]:
    """The record's key with its spec's identity for its spec: equal specs of a file are mostly one object.

    Two keys may stand for equal ones, but never one for two.
    """
    return (id(record.spec), *record.key[1:])


def grouped(things: Iterable[T], of: Callable[[T], K]) -> dict[K, list[T]]:
    """The things that are alike in what `of` says of each, in the order of their first."""
    groups: dict[K, list[T]] = {}
    for thing in things:
        groups.setdefault(of(thing), []).append(thing)
    return groups


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
        variables=record.environment.variables,
    )
