"""From measured steps to a calibration: traced once per model, fitted, and held out family by family."""

from __future__ import annotations

import importlib.metadata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from visionbench.predicting.calibration import Calibration
from visionbench.predicting.fit import fit, fit_anchors
from visionbench.predicting.heldout import Figures, Fitting, figures, held_out, interval, proportional, resolution
from visionbench.predicting.priors import Array, priors
from visionbench.predicting.samples import Sample, Skipped, Step, matrix, names, relatives, seconds
from visionbench.predicting.tracing import columns_at, marked
from visionbench.record.errors import BenchError
from visionbench.record.spec import Spec
from visionbench.tracing import Trace

Progress = Callable[[int, int, str], None]
"""(rows done, rows in all, the row's name)."""

MIN_ROWS = 8
MIN_FAMILIES = 2


def silent(_done: int, _total: int, _name: str) -> None:
    """No progress."""


def fitted(
    samples: Sequence[Sample],
    *,
    precision: str,
    compiled: bool,
    facts: dict[str, Any],
    skipped: Sequence[Skipped] = (),
    believed: dict[str, float] | None = None,
    fitting: Fitting | None = None,
) -> Calibration:
    """Fit, hold every family out in turn, and keep what came of it. `believed` are multipliers of another card.

    `fitting` is by default `fit_anchors` where something is believed and `fit` where not. Raises `BenchError` for
    fewer than `MIN_ROWS` rows or `MIN_FAMILIES` families.
    """
    families = tuple(sorted({sample.family for sample in samples}))
    if len(samples) < MIN_ROWS or len(families) < MIN_FAMILIES:
        reasons = ", ".join(sorted({skip.reason for skip in skipped}))
        left_out = f" ({len(skipped)} more were left out: {reasons})" if skipped else ""
        raise BenchError(
            f"{len(samples)} rows of {len(families)} families{left_out} are too few to calibrate: give at least "
            f"{MIN_ROWS} of {MIN_FAMILIES}."
        )
    columns = names(samples)
    prior = with_beliefs(priors(columns, precision=precision, compiled=compiled), columns, believed or {})
    solve = fitting or (fit_anchors if believed else fit)
    predicted = held_out(samples, columns, prior, solve)
    multipliers = dict(zip(columns, map(float, solve(matrix(samples, columns), seconds(samples), prior)), strict=True))
    low, high = interval(samples, predicted)
    batches = [sample.batch_size for sample in samples]
    return Calibration(
        **facts,
        precision=precision,
        compiled=compiled,
        made={"torch": importlib.metadata.version("torch"), "timm": importlib.metadata.version("timm")},
        rows=len(samples),
        skipped=dict(sorted(Counter(skip.reason for skip in skipped).items())),
        families=families,
        batches=(min(batches), max(batches)),
        multipliers=multipliers,
        low=low,
        high=high,
        resolution=resolution(samples, predicted),
        by_source=_by_source(samples, predicted),
        held_out={
            "model": figures(samples, predicted, covered=True),
            "flops": figures(samples, proportional(samples, lambda s: s.macs), covered=False),
            "activations": figures(samples, proportional(samples, lambda s: s.activations), covered=False),
        },
    )


def _by_source(samples: Sequence[Sample], predicted: Array) -> dict[str, Figures]:
    """The held-out errors of each publication with `MIN_ROWS` rows or more."""
    rows: dict[str, list[int]] = {}
    for index, sample in enumerate(samples):
        rows.setdefault(sample.source, []).append(index)
    return {
        source: figures([samples[index] for index in members], predicted[members], covered=False)
        for source, members in sorted(rows.items())
        if source and len(members) >= MIN_ROWS
    }


def with_beliefs(prior: Array, columns: Sequence[str], believed: dict[str, float]) -> Array:
    """`prior` of the columns, but for those of which `believed` knows more."""
    out = prior.copy()
    for index, name in enumerate(columns):
        out[index] = believed.get(name, out[index])
    return out


def measured_samples(steps: Sequence[Step], progress: Progress = silent) -> tuple[list[Sample], list[Skipped]]:
    """Measured steps, traced: once per model, whatever its batches."""
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
        family=relatives(trace.family),
        image_size=spec.image_size,
        batch_size=spec.batch_size,
        seconds=step.seconds,
        columns=columns_at(trace.operators, spec.batch_size, step.peaks, autocast=spec.precision.startswith("amp_")),
        macs=trace.macs_per_image * spec.batch_size,
        activations=trace.activations_per_image * spec.batch_size,
        source=step.source,
    )
