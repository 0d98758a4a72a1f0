"""Rows that a time model learns from: measured steps, traced, as columns of ideal seconds.

Calibrating reads a thousand rows at many batch sizes, and a model's operators do not depend on it but for the sizes of
tensors. So a model is traced once, at a batch that is a large prime: every dimension that this prime divides is the
batch, and is replaced by any other batch. (No network's own dimension is a multiple of 1009.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from visionbench.predicting.features import Peaks, distinct, total
from visionbench.predicting.fit import Array
from visionbench.record.errors import BenchError
from visionbench.record.spec import ImageSize, Spec
from visionbench.tracing import Trace, run
from visionbench.tracing.apart import guarded
from visionbench.tracing.call_cache import Operator

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
        for step in group:
            batch, autocast = step.spec.batch_size, step.spec.precision.startswith("amp_")
            sample = Sample(
                model=spec.model,
                family=family_of(trace.family),
                image_size=spec.image_size,
                batch_size=batch,
                seconds=step.seconds,
                columns=columns_at(trace.operators, batch, step.peaks, autocast=autocast),
                macs=trace.macs_per_image * batch,
                activations=trace.activations_per_image * batch,
                source=step.source,
            )
            samples.append(sample)
    return samples, skipped


def column_names(samples: Sequence[Sample]) -> tuple[str, ...]:
    """All columns that occur in the samples, sorted."""
    return tuple(sorted({name for sample in samples for name in sample.columns}))


def design_matrix(samples: Sequence[Sample], columns: Sequence[str]) -> Array:
    """The samples' ideal seconds, of shape (rows, columns)."""
    return np.array([[sample.columns.get(name, 0.0) for name in columns] for sample in samples])


def measured_seconds(samples: Sequence[Sample]) -> Array:
    """The samples' measured seconds per step, of shape (rows,)."""
    return np.array([sample.seconds for sample in samples])


# --- what is asked of the tracer: a step, and the same step at another batch size ---

MARK = 1009


def traced(spec: Spec) -> Trace:
    """One step of `spec`, as the tracer sees it. Raises as `visionbench.tracing.run`."""
    return guarded(spec.model, run, spec)


def marked(spec: Spec) -> Trace:
    """The step of `spec` at a batch of `MARK`, for `columns_at`. Raises `BenchError` if it cannot be built or traced.

    A table holds names that this timm does not know (`models.ModelError`, a ValueError), and old ones that it knows and
    cannot build (RuntimeError).
    """
    try:
        return run(replace(spec, batch_size=MARK))
    except (ValueError, RuntimeError) as error:
        raise BenchError(f"{spec.model} cannot be built: {str(error).splitlines()[0]}.") from error


def columns_at(operators: Iterable[Operator], batch_size: int, peaks: Peaks, *, autocast: bool) -> dict[str, float]:
    """The features of a step at `batch_size` from the operators of one at `MARK`."""
    scaled: Counter[Operator] = Counter()
    for op, times in distinct(operators).items():
        scaled[at_batch(op, batch_size)] += times
    return total(scaled, peaks, autocast=autocast)


def at_batch(op: Operator, batch_size: int) -> Operator:
    """An operator of a trace at `MARK` as it would be at `batch_size`."""
    operands = tuple(
        (tuple(n // MARK * batch_size if n % MARK == 0 else n for n in shape), strides, itemsize)
        for shape, strides, itemsize in op.operands
    )
    return replace(
        op,
        operands=operands,
        macs=op.macs * batch_size // MARK,
        activations=op.activations * batch_size // MARK,
        bytes=op.bytes * batch_size // MARK,
    )
