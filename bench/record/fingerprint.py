"""Whether two machines may be compared: what must agree before one time says anything about another.

A time is of a program on a machine. The fingerprint is the machine: its hardware, its kernel and drivers, the libraries
that do the arithmetic, how many threads they were given, how much power the board may draw. What is *under* test is no
part of it (the commit), nor is when it was, nor which of a host's equal GPUs it ran on. A count is taken on no
hardware: it depends on which operators torch breaks a model into, so on torch's minor version and nothing else.

An unknown value agrees with another unknown one and with nothing that is known: if one side's driver is unknown, it
cannot be called the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from visionbench.record.record import Environment

Fact = str | int | float | None
"""One value of a fingerprint. None is unknown."""

_TIMED = (
    "device_type",
    "device_name",
    "device_memory",  # two cards of one name exist with different memories
    "power_limit",
    "driver",
    "cuda",
    "cudnn",
    "cpu",
    "cores",
    "threads",
    "torch",
    "timm",
    "python",
    "platform",  # the kernel and the C library
    "variables",
)
"""What a time depends on. Not here: `device_key` (it follows from the name), `device_index`, `node`, git, `started`;
`malloc`, which is part of a record's key; and what carries gradients, which follows from the device, and its version
from torch's."""

_COUNTED = ("device_type", "torch")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing in which two sides differ: its name and both values (None is unknown)."""

    field: str
    baseline: Fact
    candidate: Fact

    def __str__(self) -> str:
        """`threads: 2 against 4`."""
        lacking = "none" if self.field == "variables" else "unknown"
        baseline, candidate = (lacking if value is None else value for value in (self.baseline, self.candidate))
        return f"{self.field}: {baseline} against {candidate}"


def fingerprint(environment: Environment) -> dict[str, Fact]:
    """What must agree for two numbers to be comparable, by field, as it is compared (Python by its minor version)."""
    names, minor = (_COUNTED, "torch") if environment.device_type == "meta" else (_TIMED, "python")
    facts: dict[str, Fact] = {name: getattr(environment, name) for name in names}
    version = facts[minor]
    return facts | {minor: minor_version(version) if isinstance(version, str) else version}


def minor_version(version: str) -> str:
    """`3.11.7` -> `3.11`: a patch release mends and does not move."""
    return ".".join(version.split(".")[:2])


def differences(a: Environment, b: Environment) -> tuple[Difference, ...]:
    """What keeps the numbers of `b` (the candidate) from being compared with those of `a`; () where nothing does."""
    return differing(fingerprint(a), fingerprint(b))


def differing(a: Mapping[str, Fact], b: Mapping[str, Fact]) -> tuple[Difference, ...]:
    """The fields in which two mappings differ, in their order. A field that one of them lacks is unknown there."""
    return tuple(
        Difference(field=name, baseline=a.get(name), candidate=b.get(name))
        for name in dict.fromkeys((*a, *b))
        if a.get(name) != b.get(name)
    )


def fingerprint_id(environment: Environment) -> str:
    """Twelve hexadecimal digits that are equal where nothing `differences` reports: a name for files and tables."""
    return digest(fingerprint(environment))


def digest(facts: Mapping[str, Fact]) -> str:
    """A short hash of a fingerprint: of its known fields and their values, in no order."""
    known = {name: value for name, value in facts.items() if value is not None}
    text = json.dumps(known, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
