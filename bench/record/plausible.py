"""What a record cannot say, though each of its fields has the right type: a file was edited, or another program's.

A time that is negative, or that the file gives in milliseconds where every reader takes seconds, would be shown as a
rate that was never measured.
"""

from __future__ import annotations

from functools import lru_cache

from visionbench.record.metrics import METRICS
from visionbench.record.record import Environment, Measurement, Record
from visionbench.record.spec import Protocol

_BELOW_ZERO = frozenset({"temperature"})
"""Metrics that may be negative."""

_AT_LEAST_ONE = ("cores", "threads")
_NOT_NEGATIVE = ("device_memory", "device_index", "power_limit", "restarts")
_LENGTHS = (
    *("warmup_iterations", "warmup_seconds", "steady_within", "blocks", "block_iterations", "block_seconds"),
    *("launches", "max_seconds", "target_rel_ci"),
)


def check(record: Record) -> None:
    """Raise ValueError, with the reason as a clause, for a record that nothing can have measured or computed."""
    check_environment(record.environment)
    if record.protocol:
        _check_protocol(record.protocol)
    names = set()
    for measurement in record.measurements:
        _check_measurement(measurement)
        names.add(measurement.metric)
    if len(names) < len(record.measurements):
        raise ValueError("a metric stands twice in a record")


def _check_measurement(measurement: Measurement) -> None:
    name = measurement.metric
    known = METRICS.get(name) or METRICS.get(name.partition(".")[0])
    if known is None:
        return
    if measurement.unit != known.unit:
        raise ValueError(f"{name} is in {known.unit}, and not in '{measurement.unit[:20]}'")
    if measurement.better != known.better:
        raise ValueError(f"of {name} {known.better} is better, and not {measurement.better}")
    if measurement.values and min(measurement.values) < 0 and name not in _BELOW_ZERO:
        raise ValueError(f"{name} is negative")


def check_environment(environment: Environment) -> None:
    """As `check`, of the part that comparisons have, too."""
    for least, names in ((1, _AT_LEAST_ONE), (0, _NOT_NEGATIVE)):
        for name in names:
            value = getattr(environment, name)
            if value is not None and value < least:
                raise ValueError(f"its environment has {name} = {value}")


@lru_cache(maxsize=64)
def _check_protocol(protocol: Protocol) -> None:
    for name in _LENGTHS:
        value = getattr(protocol, name)
        if value is not None and value < 0:
            raise ValueError(f"its protocol has {name} = {value}")
