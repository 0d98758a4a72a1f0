"""How wrong a model is about what it has not seen: every family is predicted by a fit without it.

Rows of one family share code and kernels, so a random split lets a model look its answer up (by 3 to 6 points of
error on the public tables). A family is the module that defines the network. The interval is split-conformal (Vovk et
al. 2005; Lei et al. 2018): the quantiles of the held-out residuals of the *other* families, so that coverage is held
out too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from visionbench.predicting.fit import fit
from visionbench.predicting.priors import Array
from visionbench.predicting.samples import Sample, matrix, seconds

Mask = NDArray[np.bool_]
Fitting = Callable[[Array, Array, Array], Array]

INTERVAL = 0.80


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Errors |predicted / measured - 1| of a step's time over `rows`; rank correlation is of the time per image.

    `coverage` is the share of rows inside the 80 % interval made of the other families; None where there are too few.
    """

    rows: int
    families: int
    mean: float
    median: float
    p90: float
    rank: float
    coverage: float | None = None


def held_out(samples: Sequence[Sample], columns: Sequence[str], prior: Array, fitting: Fitting = fit) -> Array:
    """Predicted seconds of every sample, by multipliers fitted without its family."""
    design, measured = matrix(samples, columns), seconds(samples)
    return _by_family(samples, lambda rest: design @ fitting(design[rest], measured[rest], prior))


def proportional(samples: Sequence[Sample], work: Callable[[Sample], float]) -> Array:
    """A baseline: seconds proportional to one count, its factor the median of the other families."""
    counts, measured = np.array([work(sample) for sample in samples], dtype=float), seconds(samples)
    return _by_family(samples, lambda rest: counts * float(np.median(measured[rest] / counts[rest])))


def _by_family(samples: Sequence[Sample], predict: Callable[[Mask], Array]) -> Array:
    family = np.array([sample.family for sample in samples])
    predicted = np.zeros(len(samples))
    for held in sorted(set(family)):
        out = family == held
        if out.all():
            raise ValueError("one family alone cannot be held out")
        predicted[out] = predict(~out)[out]
    return predicted


def residuals(samples: Sequence[Sample], predicted: Array) -> Array:
    """log(measured / predicted): what a prediction must be multiplied by, on the logarithmic scale."""
    return np.asarray(np.log(seconds(samples) / predicted))


def interval(samples: Sequence[Sample], predicted: Array) -> tuple[float, float]:
    """The 80 % interval of log(measured / predicted) for a family that is not among the samples."""
    residual = residuals(samples, predicted)
    return _quantiles(residual, _level(samples, predicted))


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
    family = np.array([sample.family for sample in samples])
    inside = np.zeros(len(samples), dtype=bool)
    for held in sorted(set(family)):
        out = family == held
        low, high = _quantiles(residual[~out], level)
        inside[out] = (residual[out] >= low) & (residual[out] <= high)
    return float(inside.mean())


def resolution(samples: Sequence[Sample], predicted: Array, pairs: int = 20_000) -> float:
    """How far apart (log) two predictions must be: 80 % of pairs of different families err less against each other."""
    residual = residuals(samples, predicted)
    family = np.array([sample.family for sample in samples])
    draw = np.random.default_rng(0).integers(len(samples), size=(2, pairs))
    apart = family[draw[0]] != family[draw[1]]
    return float(np.quantile(np.abs(residual[draw[0]] - residual[draw[1]])[apart], INTERVAL))


def figures(samples: Sequence[Sample], predicted: Array, *, covered: bool) -> Figures:
    """The errors of `predicted`; with `covered` also how often the interval holds the truth."""
    measured = seconds(samples)
    error = np.abs(predicted / measured - 1)
    images = np.array([sample.batch_size for sample in samples])
    return Figures(
        rows=len(samples),
        families=len({sample.family for sample in samples}),
        mean=float(error.mean()),
        median=float(np.median(error)),
        p90=float(np.quantile(error, 0.9)),
        rank=float(spearmanr(predicted / images, measured / images).statistic),
        coverage=coverage(samples, predicted, _level(samples, predicted)) if covered else None,
    )
