"""Launches out of any file of results, in one shape: what a comparison of files reads.

A sample is one launch (one process) of one row: which machine, by which protocol, and one value per metric. Where our
own records and pytest-benchmark's files differ is settled here, so that nothing behind this module asks which it was.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from statistics import median

from visionbench.record import pytest_benchmark, store
from visionbench.record.fingerprint import Fact, digest, fingerprint
from visionbench.record.pytest_benchmark import Benchmark, Saved
from visionbench.record.record import Better, Environment, Measurement, Record
from visionbench.record.spec import Protocol
from visionbench.record.statistics import images_per_second, percentile

Facts = tuple[tuple[str, Fact], ...]

FOREIGN = "pytest-benchmark"

_STOPPING = {"launches", "max_seconds", "target_rel_ci"}
"""What of a protocol says how many launches there are, and nothing about any one of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """One launch's value of a metric, in the unit in which it is shown (images/s for throughput).

    `exact`: two different values are two different programs. `spread` are the quartiles of one process's rounds, where
    a file says no more about it.
    """

    metric: str
    unit: str
    better: Better
    value: float
    exact: bool = False
    spread: tuple[float, float] | None = None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One launch of one row. `where` and `how` must agree with another's for the two to be compared.

    `row` is the spec in words or a benchmark's full name; `failure` says why there are no numbers.
    """

    row: str
    subject: str
    source: str
    where: Facts
    how: Facts
    device: str
    numbers: tuple[Number, ...] = ()
    failure: str = ""
    started: str | None = None
    commit: str | None = None
    dirty: bool | None = None
    node: str | None = None

    @property
    def fingerprint(self) -> str:
        """The short hash of `where`."""
        return digest(dict(self.where))

    def get(self, metric: str) -> Number | None:
        """The number of that metric, or None."""
        return next((number for number in self.numbers if number.metric == metric), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What a file held, and one sentence for each line of it that could not be read."""

    samples: tuple[Sample, ...]
    problems: tuple[str, ...] = ()


def load(path: Path | str) -> Batch:
    """The launches of a file of records or of pytest-benchmark's, told apart by what is in it.

    Raises `BenchError` for a file that is neither, or cannot be read.
    """
    saved = pytest_benchmark.read(path)
    if saved is not None:
        return Batch(samples=from_pytest_benchmark(saved))
    log = store.read(path)
    return Batch(samples=from_records(log.records), problems=log.problems)


def from_records(records: Iterable[Record]) -> tuple[Sample, ...]:
    """One sample per record."""
    return tuple(_sample(record) for record in records)


def _sample(record: Record) -> Sample:
    environment, why = record.environment, record.failure
    numbers = (_number(record, measurement) for measurement in record.measurements)
    return Sample(
        row=str(record.spec),
        subject=record.spec.model,
        source=record.source,
        where=_where(environment),
        how=_how(record.protocol),
        device=environment.device,
        numbers=() if why else tuple(number for number in numbers if number),
        failure=f"{why.kind.replace('_', ' ')} in stage '{why.stage}': {why.message}" if why else "",
        started=environment.started,
        commit=environment.git_commit,
        dirty=environment.git_dirty,
        node=environment.node,
    )


@lru_cache(maxsize=1024)
def _where(environment: Environment) -> Facts:
    return tuple(fingerprint(environment).items())


@lru_cache(maxsize=1024)
def _how(protocol: Protocol | None) -> Facts:
    """The protocol, but for the rules by which launches are added: those make intervals narrow and no number other."""
    if protocol is None:
        return ()
    known = asdict(protocol) | {"metrics": ", ".join(protocol.metrics)}
    return tuple((f"protocol {name}", value) for name, value in known.items() if name not in _STOPPING)


def _number(record: Record, taken: Measurement) -> Number | None:
    """A launch's value; None for what only describes the weather (no direction is better), or too few iterations."""
    if taken.better == "none" or not taken.values:
        return None
    value, unit, better = _value(record, taken)
    if value is None:
        return None
    exact = taken.assume == "exact"
    return Number(metric=taken.metric, unit=unit, better=better, value=value, exact=exact, flags=taken.flags)


def _value(record: Record, taken: Measurement) -> tuple[float | None, str, Better]:
    """Value, unit and direction as they are shown: rates of costs, percentiles of iterations, else an iteration's."""
    if taken.metric == "throughput":
        return images_per_second(record), "1/s", "higher"
    if taken.metric == "latency":
        found = percentile(taken.values, 0.5)
        return found.value if found else None, taken.unit, taken.better
    images = record.spec.batch_size if taken.unit == "J" else 1
    return median(taken.values) / (taken.iterations * images), taken.unit, taken.better


def from_pytest_benchmark(saved: Saved) -> tuple[Sample, ...]:
    """One sample per benchmark: a file is one process, so all of its rounds are one launch."""
    machine = dict(saved.machine)
    device = str(machine.get("cpu") or machine.get("machine") or "unknown")
    return tuple(
        Sample(
            row=benchmark.name,
            subject=benchmark.name,
            source=FOREIGN,
            where=saved.machine,
            how=benchmark.how,
            device=device,
            numbers=(_round(benchmark),),
            started=saved.written,
            commit=saved.commit,
            dirty=saved.dirty,
        )
        for benchmark in saved.benchmarks
    )


def _round(benchmark: Benchmark) -> Number:
    quartiles = (benchmark.low, benchmark.high)
    return Number(metric="median", unit="s", better="lower", value=benchmark.median, spread=quartiles)
