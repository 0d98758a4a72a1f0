"""The time model: seconds = sum over columns of multiplier x ideal seconds, every multiplier at least 0.

Errors of interest are relative, and a few kernels (a library's worst choice, a mistraced model) are off by factors,
so the multipliers minimise a robust loss of the *logarithmic* residuals: soft-L1, which is quadratic for errors up to
`SOFT` and linear beyond (Huber 1964; the form of scipy.optimize.least_squares). It is minimised by reweighted
non-negative least squares, each on the logarithm linearised at the last solution. Columns are collinear, so a ridge
pulls each multiplier to its prior, in units of the prior: a column that hardly occurs keeps its prior, and
with few rows all columns do. Multipliers are therefore not measured efficiencies of kernels.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

from visionbench.predicting.priors import Array

SOFT = 0.1
RIDGE = 0.15
"""Standard deviation of a row's logarithmic error over that of a multiplier relative to its prior."""

ANCHOR_RIDGE = 0.3
"""The same where the prior is what was fitted on another card: a dozen rows should mend it, not replace it."""

_ROUNDS = 12
_SMALLEST = 0.2
"""A smaller prior is held only as firmly as this one."""


def fit(columns: Array, seconds: Array, prior: Array, ridge: float = RIDGE) -> Array:
    """The multipliers (columns,) for `columns` (rows, columns) in ideal seconds and measured `seconds` (rows,).

    Raises ValueError if a row has no work or no time.
    """
    if np.any(seconds <= 0) or np.any(columns.sum(axis=1) <= 0) or np.any(columns < 0):
        raise ValueError("a row without work or without time cannot be fitted")
    firm = np.diag(ridge / np.maximum(prior, _SMALLEST))
    multipliers = _solve(columns / seconds[:, None], np.ones(len(seconds)), firm, prior)
    for round_ in range(_ROUNDS):
        predicted = np.maximum(columns @ multipliers, 1e-12)
        residual = np.log(seconds / predicted)
        weight = (1 + (residual / SOFT) ** 2) ** -0.25
        better = _solve(columns / predicted[:, None] * weight[:, None], weight * (residual + 1), firm, prior)
        step = better - multipliers
        multipliers = multipliers + (1.0 if round_ < 2 else 0.7) * step
        if np.abs(step).max() < 1e-3 * np.abs(multipliers).max():
            break
    return np.maximum(multipliers, 0.0)


def fit_anchors(columns: Array, seconds: Array, prior: Array) -> Array:
    """As `fit`, for few rows of a card and another card's multipliers: the common factor first, then each, held firmly.

    Cards differ most by a factor common to all models (how far power lets them go towards their data sheet).
    """
    return fit(columns, seconds, prior * common_factor(columns, seconds, prior), ANCHOR_RIDGE)


def common_factor(columns: Array, seconds: Array, prior: Array) -> float:
    """The median of measured / predicted seconds, where `prior` (columns,) predicts."""
    return float(np.exp(np.median(np.log(seconds / (columns @ prior)))))


def _solve(design: Array, target: Array, firm: Array, prior: Array) -> Array:
    solution, _ = nnls(np.vstack([design, firm]), np.concatenate([target, firm @ prior]), maxiter=20_000)
    return np.asarray(solution)
