"""Switches: the settings whose effect is asked for one by one, each a single change of the same plain run.

The plain run is fp32, contiguous, eager: what a model does by default. An effect is a comparison of two specs that
differ in one thing, so a table of effects can be read off any file of comparisons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from visionbench.comparison.comparison import Comparison
from visionbench.record.spec import Spec

PLAIN: dict[str, Any] = {"precision": "fp32", "memory_format": "contiguous", "compile_mode": None}
"""The plain run: what is switched, as it is when nothing is."""

SWITCHES: dict[str, dict[str, Any]] = {
    "channels_last": {"memory_format": "channels_last"},
    "tf32": {"precision": "tf32"},
    "amp_fp16": {"precision": "amp_fp16"},
    "amp_bf16": {"precision": "amp_bf16"},
    "bf16": {"precision": "bf16"},
    "compile": {"compile_mode": "default"},
}
"""Switch -> the fields of a spec that it sets."""

ABOUT: dict[str, str] = {
    "channels_last": "memory format: channels innermost",
    "tf32": "fp32 on matrix units, 10 bits of mantissa",
    "amp_fp16": "autocast to fp16",
    "amp_bf16": "autocast to bf16",
    "bf16": "parameters and activations in bf16",
    "compile": "torch.compile, mode default",
}
"""Switch -> what it does, in a few words."""


def plain(spec: Spec) -> Spec:
    """The same with every switch off."""
    return replace(spec, **PLAIN)


def switched(spec: Spec, *names: str) -> Spec:
    """The plain spec with those switches on."""
    fields: dict[str, Any] = {}
    for name in names:
        fields |= SWITCHES[name]
    return replace(plain(spec), **fields)


def switch_of(comparison: Comparison) -> str | None:
    """The switch whose effect alone a comparison measured; None if it is about something else."""
    baseline, candidate = comparison.baseline, comparison.candidate
    if baseline.spec != plain(baseline.spec) or baseline.commit != candidate.commit:
        return None
    return next((name for name in SWITCHES if candidate.spec == switched(baseline.spec, name)), None)


def every_configuration(spec: Spec, names: Sequence[str] = tuple(SWITCHES)) -> tuple[Spec, ...]:
    """All that those switches can be combined to, the plain one first.

    With all of them {fp32, tf32, amp_fp16, amp_bf16, bf16} x {contiguous, channels_last} x {eager, compile}: 20.
    """
    values: dict[str, list[Any]] = {field: [value] for field, value in PLAIN.items()}
    for name in names:
        for field, value in SWITCHES[name].items():
            values[field].append(value)
    return tuple(replace(spec, **dict(zip(values, chosen, strict=True))) for chosen in product(*values.values()))


def configuration(spec: Spec) -> str:
    """How a spec is run, in words: `amp_bf16, channels_last, compile`; `fp32` for the plain run."""
    words: list[str] = [spec.precision]
    words += [spec.memory_format] if spec.memory_format != "contiguous" else []
    if spec.compile_mode:
        words.append("compile" if spec.compile_mode == "default" else f"compile ({spec.compile_mode})")
    return ", ".join(words)
