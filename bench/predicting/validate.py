"""How wrong the predictions are: the figures that every calibration carries, and rows that none was fitted on.

Without timm's tables the held-out figures stored with each calibration are shown (they were computed when it was
fitted); given the tables they are computed anew, which takes some minutes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from visionbench.predicting.basis import basis
from visionbench.predicting.calibrate import Progress, from_timm, silent
from visionbench.predicting.calibration import Calibration, shipped
from visionbench.predicting.heldout import Figures
from visionbench.predicting.published import published
from visionbench.predicting.step_time import of_trace
from visionbench.predicting.tracing import traced
from visionbench.record.devices import find
from visionbench.record.errors import BenchError
from visionbench.record.prediction import Tier, prediction
from visionbench.record.spec import Spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """The held-out figures of one calibration beside two baselines; `recomputed` from the tables, or as stored."""

    device: str
    precision: str
    memory_format: str
    task: str
    compiled: bool
    torch: str
    calibration: str
    model: Figures
    flops: Figures
    activations: Figures
    by_source: dict[str, Figures]
    resolution: float
    recomputed: bool

    @property
    def how(self) -> str:
        """The way of running, in words."""
        words = (self.precision, self.memory_format, self.task, *(("compiled",) if self.compiled else ()))
        return ", ".join(words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A printed row that no calibration was fitted on: images per second, printed and predicted with its interval.

    `predicted` is None where the prediction was refused; `reason` then says why.
    """

    device: str
    spec: Spec
    printed: float
    predicted: float | None
    low: float | None
    high: float | None
    tier: Tier
    reason: str
    source: str


def validate(
    paths: Sequence[Path] = (), calibrations: Sequence[Calibration] | None = None, progress: Progress = silent
) -> tuple[Validation, ...]:
    """One line per calibration: of the tables in `paths`, computed anew, or of those given, by default the shipped."""
    if paths:
        return tuple(_validation(found, recomputed=True) for found, _ in from_timm(paths, progress))
    known = shipped() if calibrations is None else calibrations
    return tuple(_validation(found, recomputed=False) for found in known)


def _validation(found: Calibration, *, recomputed: bool) -> Validation:
    return Validation(
        device=found.device,
        precision=found.precision,
        memory_format=found.memory_format,
        task=found.task,
        compiled=found.compiled,
        torch=found.torch,
        calibration=found.id,
        model=found.held_out["model"],
        flops=found.held_out["flops"],
        activations=found.held_out["activations"],
        by_source=found.by_source,
        resolution=found.resolution,
        recomputed=recomputed,
    )


def check_published(
    calibrations: Sequence[Calibration] | None = None, progress: Progress = silent
) -> tuple[Check, ...]:
    """Every printed row that is not fitted, predicted. Traces each: about a second per row."""
    known = shipped() if calibrations is None else calibrations
    rows = [row for row in published() if not row.fit]
    checks = []
    for done, row in enumerate(rows):
        progress(done, len(rows), row.spec.model)
        sheet = find(row.device)
        if sheet is None:
            raise BenchError(f"published_rows.csv names a device without a data sheet: {row.device}.")
        record = of_trace(traced(row.spec), row.spec, sheet, basis(row.spec, sheet, known))
        found = prediction(record)
        checks.append(
            Check(
                device=row.device,
                spec=row.spec,
                printed=row.images_per_second,
                predicted=found.centre if found else None,
                low=found.low if found else None,
                high=found.high if found else None,
                tier=found.tier if found else "refused",
                reason=found.reason if found else (record.failure.message if record.failure else ""),
                source=row.source,
            )
        )
    return tuple(checks)
