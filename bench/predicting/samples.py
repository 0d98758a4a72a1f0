"""Rows that a time model learns from: measured steps, traced, as columns of ideal seconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from visionbench.predicting.peaks import Peaks
from visionbench.predicting.priors import Array
from visionbench.predicting.tracing import columns_at, marked
from visionbench.record.errors import BenchError
from visionbench.record.spec import ImageSize, Spec
from visionbench.tracing import Trace

Progress = Callable[[int, int, str], None]
"""(rows done, rows in all, the row's name)."""


def silent(_done: int, _total: int, _name: str) -> None:
    """Report no progress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A measured step before it is traced: what ran, its seconds, the peaks of its card and who printed it."""

    spec: Spec
    seconds: float
    peaks: Peaks
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One measured step. `columns` are ideal seconds by kind of work; `macs` and `activations` are of the whole batch.

    `family` is the module that defines the network: networks of one family are held out together. `source` is the
    publication of a printed row.
    """

    model: str
    family: str
    image_size: ImageSize
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


# `visionbench.models.roadmap` builds the authors' ConvNeXts, too. It also builds ResNets, but nobody prints their
# throughput.
_CONVNEXT_MODULES = frozenset(("visionbench.models.roadmap", "visionbench.models.convnext_isotropic"))


def family_of(module: str) -> str:
    """The family of a network whose class is defined in `module`; all networks of ConvNeXt's block are one family."""
    return "timm.models.convnext" if module in _CONVNEXT_MODULES else module


def traced_samples(steps: Sequence[Step], progress: Progress = silent) -> tuple[list[Sample], list[Skipped]]:
    """The samples of measured steps, and the steps that could not be traced. Each model is traced once for all batches.

    Of a trace only the columns are kept, so memory stays bounded.
    """
    samples: list[Sample] = []
    skipped: list[Skipped] = []
    by_model: dict[Spec, list[Step]] = {}
    for step in steps:
        by_model.setdefault(replace(step.spec, batch_size=1, compile_mode=None), []).append(step)
    for done, (spec, group) in enumerate(by_model.items()):
        progress(done, len(by_model), spec.model)
        try:
            trace = marked(spec)
        except BenchError as error:
            skipped += [Skipped(row=str(step.spec), reason=str(error)) for step in group]
            continue
        samples += [_sample(step, trace) for step in group]
    return samples, skipped


def _sample(step: Step, trace: Trace) -> Sample:
    spec = step.spec
    return Sample(
        model=spec.model,
        family=family_of(trace.family),
        image_size=spec.image_size,
        batch_size=spec.batch_size,
        seconds=step.seconds,
        columns=columns_at(trace.operators, spec.batch_size, step.peaks, autocast=spec.precision.startswith("amp_")),
        macs=trace.macs_per_image * spec.batch_size,
        activations=trace.activations_per_image * spec.batch_size,
        source=step.source,
    )


def column_names(samples: Sequence[Sample]) -> tuple[str, ...]:
    """All columns that occur in the samples, sorted."""
    return tuple(sorted({name for sample in samples for name in sample.columns}))


def design_matrix(samples: Sequence[Sample], columns: Sequence[str]) -> Array:
    """The samples' ideal seconds, of shape (rows, columns)."""
    return np.array([[sample.columns.get(name, 0.0) for name in columns] for sample in samples])


def measured_seconds(samples: Sequence[Sample]) -> Array:
    """The samples' measured seconds per step, of shape (rows,)."""
    return np.array([sample.seconds for sample in samples])
