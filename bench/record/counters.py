"""Rules by which a network's operations are counted, ours and those of papers' programs; and the lines of a breakdown.

A rule is a sum of terms that a trace has counted: `macs`, or members of the family `hooks`
(`visionbench.tracing.hooks`).
"""

from __future__ import annotations

from dataclasses import dataclass

from visionbench.record.record import Record

EXACT, HOOKS, HOOKS_ATTENTION = "exact", "hooks", "hooks + attention"

_HOOKS = ("products", "bias", "relu", "batch_norm", "layer_norm", "pooling")

RULES: dict[str, tuple[str, ...]] = {
    EXACT: ("macs",),
    HOOKS: tuple(f"hooks.{term}" for term in _HOOKS),
    HOOKS_ATTENTION: tuple(f"hooks.{term}" for term in (*_HOOKS, "attention")),
    "hooks + heads' norms": tuple(f"hooks.{term}" for term in (*_HOOKS, "synced_norm")),
    "hooks + attention + heads' norms + GELU": tuple(
        f"hooks.{term}" for term in (*_HOOKS, "attention", "synced_norm", "gelu")
    ),
}
"""The terms of each rule, the simplest rules first. The last two each fit one printed row that the others miss."""


def count(record: Record, rule: str) -> float | None:
    """What that rule counts of one image, from a computed record; None where the record lacks the terms.

    A network without a kind of module has nothing of its term. Raises KeyError for an unknown rule.
    """
    values = {name: record.value(name) for name in RULES[rule]}
    known = values["macs"] if rule == EXACT else values["hooks.products"]
    return None if known is None else sum(value for value in values.values() if value is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a breakdown, whole batch: how many operators, MACs, activations and bytes they have in all."""

    name: str
    operators: int
    macs: int
    activations: int
    bytes: int
