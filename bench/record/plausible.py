"""What a record cannot say, though each of its fields has the right type: a file was edited, or another program's."""

from __future__ import annotations

from functools import lru_cache
from operator import attrgetter

from visionbench.record.metrics import METRICS
from visionbench.record.record import Environment, Record
from visionbench.record.spec import Protocol

_BELOW_ZERO = frozenset({"temperature"})
"""Metrics that may be negative."""

_LEAST = {"cores": 1, "threads": 1, "device_memory": 0, "device_index": 0, "power_limit": 0, "restarts": 0}
"""The least that numbers of an environment can be."""

_limited = attrgetter(*_LEAST)

_LENGTHS = (
    *("warmup_iterations", "warmup_seconds", "steady_within", "blocks", "block_iterations", "block_seconds"),
    *("launches", "max_seconds", "target_rel_ci"),
)


def check(record: Record) -> None:
    """Raise ValueError, with the reason as a clause, for a record that nothing can have measured or computed."""
    check_environment(record.environment)
    if record.protocol:
        _check_protocol(record.protocol)
    measurements = record.measurements  # a file may hold a million
    for measurement in measurements:
        values = measurement.values
        if _check_kind(measurement.metric, measurement.unit, measurement.better) and values and min(values) < 0:
            raise ValueError(f"{measurement.metric} is negative")
    if len({measurement.metric for measurement in measurements}) < len(measurements):
        raise ValueError("a metric stands twice in a record")


@lru_cache(maxsize=1024)
def _check_kind(name: str, unit: str, better: str) -> bool:
    """Whether the metric is one of the registry's that cannot be negative; raises ValueError where its unit or its
    direction is another.
    """
    known = METRICS.get(name) or METRICS.get(name.partition(".")[0])
    if known is None:
        return False
    if unit != known.unit:
        raise ValueError(f"{name} is in {known.unit}, and not in '{unit[:20]}'")
    if better != known.better:
        raise ValueError(f"of {name} {known.better} is better, and not {better}")
    return name not in _BELOW_ZERO


def check_environment(environment: Environment) -> None:
    """As `check`, of the part that comparisons have, too."""
    _check_limits(*_limited(environment))


@lru_cache(maxsize=1024)
def _check_limits(*values: float | None) -> None:
    for (name, least), value in zip(_LEAST.items(), values, strict=True):
        if value is not None and value < least:
            raise ValueError(f"its environment has {name} = {value}")


@lru_cache(maxsize=64)
def _check_protocol(protocol: Protocol) -> None:
    for name in _LENGTHS:
        value = getattr(protocol, name)
        if value is not None and value < 0:
            raise ValueError(f"its protocol has {name} = {value}")
