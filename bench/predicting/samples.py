"""Rows that a time model learns from: a measured step beside its columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from visionbench.predicting.peaks import Peaks
from visionbench.predicting.priors import Array
from visionbench.record.spec import Spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A measured step, not traced yet: what ran, its seconds, the peaks that it met and who printed it."""

    spec: Spec
    seconds: float
    peaks: Peaks
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One measured step. `columns` are ideal seconds by kind of work; `macs` and `activations` are of the whole batch.

    `family` is the module that defines the network: near-relatives are held out together. `source` is the publication
    of a printed row.
    """

    model: str
    family: str
    image_size: int
    batch_size: int
    seconds: float
    columns: dict[str, float]
    macs: int
    activations: int
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A row that was left out, and why."""

    row: str
    reason: str


# `visionbench.models.roadmap` builds the authors' ConvNeXts, too; of the ResNets that it also builds nobody prints
# throughput.
_OF_CONVNEXT = frozenset(("visionbench.models.roadmap", "visionbench.models.convnext_isotropic"))


def relatives(module: str) -> str:
    """The family of a network whose class is in `module`: networks built of one block are held out together."""
    return "timm.models.convnext" if module in _OF_CONVNEXT else module


def names(samples: Sequence[Sample]) -> tuple[str, ...]:
    """All columns that occur, in a stable order."""
    return tuple(sorted({name for sample in samples for name in sample.columns}))


def matrix(samples: Sequence[Sample], columns: Sequence[str]) -> Array:
    """The samples' ideal seconds (rows, columns)."""
    return np.array([[sample.columns.get(name, 0.0) for name in columns] for sample in samples])


def seconds(samples: Sequence[Sample]) -> Array:
    """The samples' measured seconds per step."""
    return np.array([sample.seconds for sample in samples])
