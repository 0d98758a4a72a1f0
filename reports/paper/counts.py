"""Exact counts for the tables' rows: the computed records, found by model and image size."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from visionbench.record.record import Record
from visionbench.record.spec import ImageSize, Spec, sides

TRAIN_BATCH = 32
"""Table 2's training memory is at batch 32 per GPU (stated)."""


def count_spec(model: str, image_size: ImageSize) -> Spec:
    """Whose trace gives a row's params and MACs: one image, everything else at its default."""
    return Spec(model=model, image_size=image_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """The newest computed record of each spec, and the sizes at which each model has been counted."""

    by_spec: dict[Spec, Record]
    sizes: dict[str, tuple[ImageSize, ...]]

    def exact(self, model: str, image_size: ImageSize, metric: str) -> float | None:
        """A count of one image at that size, or None without a trace."""
        return self.of(count_spec(model, image_size), metric)

    def of(self, spec: Spec, metric: str) -> float | None:
        """The computed value of any spec, or None."""
        record = self.by_spec.get(spec)
        return record.value(metric) if record else None


def index(records: Iterable[Record]) -> Counts:
    """One pass over the records. A later record of the same spec wins."""
    by_spec = {record.spec: record for record in records if record.source == "computed" and record.failure is None}
    sizes: dict[str, tuple[ImageSize, ...]] = {}
    for spec in by_spec:
        if spec == count_spec(spec.model, spec.image_size):
            sizes[spec.model] = (*sizes.get(spec.model, ()), spec.image_size)
    return Counts(by_spec=by_spec, sizes={model: tuple(sorted(found, key=sides)) for model, found in sizes.items()})
