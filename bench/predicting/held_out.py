"""How wrong a model is about families that it has not seen: each family is predicted by a fit without it.

Rows of one family share code and kernels, so with a random split the model could look its answer up. The interval is
split-conformal (Vovk et al. 2005; Lei et al. 2018): the quantiles of the held-out residuals of the *other* families, so
that coverage is held out too.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from visionbench.predicting.fit import Array, fit
from visionbench.predicting.samples import Sample, design_matrix, measured_seconds
from visionbench.record.prediction import Figures

Mask = NDArray[np.bool_]
Fitting = Callable[[Array, Array, Array], Array]
"""(columns, seconds, prior) to multipliers, as `fit`."""

INTERVAL = 0.80


def held_out_predictions(
    samples: Sequence[Sample], columns: Sequence[str], prior: Array, fitting: Fitting = fit
) -> Array:
    """Predicted seconds (rows,) of every sample, by multipliers fitted without its family."""
    design, measured = design_matrix(samples, columns), measured_seconds(samples)
    return _by_family(samples, lambda rest: design @ fitting(design[rest], measured[rest], prior))


def baseline_predictions(samples: Sequence[Sample], work: Callable[[Sample], float]) -> Array:
    """Predicted seconds (rows,) in proportion to one count; the factor is the median of the other families."""
    counts, measured = np.array([work(sample) for sample in samples], dtype=float), measured_seconds(samples)
    return _by_family(samples, lambda rest: counts * float(np.median(measured[rest] / counts[rest])))


def _by_family(samples: Sequence[Sample], predict: Callable[[Mask], Array]) -> Array:
    family = np.array([sample.family for sample in samples])
    values = np.zeros(len(samples))
    for name in sorted(set(family)):
        members = family == name
        if members.all():
            raise ValueError("one family alone cannot be held out")
        values[members] = predict(~members)[members]
    return values


def residuals(samples: Sequence[Sample], predicted: Array) -> Array:
    """log(measured / predicted) of each row."""
    return np.asarray(np.log(measured_seconds(samples) / predicted))


def interval(samples: Sequence[Sample], predicted: Array) -> tuple[float, float]:
    """The 80 % interval of log(measured / predicted) for a family that is not among the samples."""
    return _quantiles(residuals(samples, predicted), _level(samples, predicted))


def _level(samples: Sequence[Sample], predicted: Array) -> float:
    """The least nominal level whose intervals hold 80 % of held-out families: few or unlike families need more."""
    levels = (0.80, 0.82, 0.84, 0.86, 0.88, 0.90, 0.92, 0.94, 0.96, 0.98)
    return next((level for level in levels if coverage(samples, predicted, level) >= INTERVAL - 0.005), levels[-1])


def _quantiles(values: Array, level: float) -> tuple[float, float]:
    """The middle `level` of the values, with the conformal correction for few of them."""
    n, tail = len(values), (1 - level) / 2
    low, high = max(0.0, tail - (1 - tail) / n), min(1.0, (1 - tail) * (n + 1) / n)
    return float(np.quantile(values, low)), float(np.quantile(values, high))


def coverage(samples: Sequence[Sample], predicted: Array, level: float) -> float:
    """The share of rows inside the interval of that nominal level made of the other families' residuals."""
    residual = residuals(samples, predicted)

    def is_inside(rest: Mask) -> Array:
        low, high = _quantiles(residual[rest], level)
        return ((residual >= low) & (residual <= high)).astype(float)

    return float(_by_family(samples, is_inside).mean())


def resolution(samples: Sequence[Sample], predicted: Array, pairs: int = 20_000) -> float:
    """How far apart (log) two predictions must be: the errors of 80 % of pairs of different families differ by less."""
    residual = residuals(samples, predicted)
    family = np.array([sample.family for sample in samples])
    draw = np.random.default_rng(0).integers(len(samples), size=(2, pairs))
    apart = family[draw[0]] != family[draw[1]]
    return float(np.quantile(np.abs(residual[draw[0]] - residual[draw[1]])[apart], INTERVAL))


def error_figures(samples: Sequence[Sample], predicted: Array, *, covered: bool) -> Figures:
    """The errors of `predicted` seconds (rows,); with `covered` also how often the interval holds the truth."""
    measured = measured_seconds(samples)
    error = np.abs(predicted / measured - 1)
    images = np.array([sample.batch_size for sample in samples])
    return Figures(
        rows=len(samples),
        families=len({sample.family for sample in samples}),
        mean=float(error.mean()),
        median=float(np.median(error)),
        p90=float(np.quantile(error, 0.9)),
        rank=_rank_correlation(predicted / images, measured / images),
        coverage=coverage(samples, predicted, _level(samples, predicted)) if covered else None,
    )


def _rank_correlation(predicted: Array, measured: Array) -> float | None:
    """Spearman's correlation; None where all values of one side are equal, for which it is not defined."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rank = float(spearmanr(predicted, measured).statistic)
    return rank if math.isfinite(rank) else None
