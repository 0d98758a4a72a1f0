"""A trace summed up: by kind of operator, by stage of the network, and what the MAC rule leaves out."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from visionbench.record.counters import Line
from visionbench.tracing.operators import Operator
from visionbench.tracing.step import Trace


def by_kind(traced: Trace) -> tuple[Line, ...]:
    """One line per kind, most bytes first: bytes, not MACs, are what an element-wise operator costs."""
    lines = _grouped(traced.operators, lambda op: op.kind)
    return tuple(sorted(lines, key=lambda line: -line.bytes))


def by_stage(traced: Trace, depth: int = 2) -> tuple[Line, ...]:
    """One line per module at `depth` steps below the model, in the order of execution.

    What the model calls itself is `(model)`; backward and optimizer, which no module calls, are separate lines.
    """
    return _grouped(traced.operators, lambda op: _stage(op, depth))


def _stage(op: Operator, depth: int) -> str:
    if op.phase != "forward":
        return f"({op.phase})"
    return ".".join(op.module.split(".")[:depth]) if op.module else "(model)"


def uncounted(traced: Trace) -> tuple[Line, ...]:
    """What the MAC rule has no formula for, by operator, most bytes first."""
    return tuple(sorted(_grouped(traced.uncounted(), lambda op: op.name), key=lambda line: -line.bytes))


def _grouped(operators: Iterable[Operator], name: Callable[[Operator], str]) -> tuple[Line, ...]:
    groups: dict[str, list[Operator]] = {}
    for op in operators:
        groups.setdefault(name(op), []).append(op)
    return tuple(
        Line(
            name=group,
            operators=len(members),
            macs=sum(op.macs for op in members),
            activations=sum(op.activations for op in members),
            bytes=sum(op.bytes for op in members),
        )
        for group, members in groups.items()
    )
