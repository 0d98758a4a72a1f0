"""The time model: seconds = sum over columns of multiplier x ideal seconds, every multiplier at least 0.

Errors of interest are relative, and a few kernels (a library's worst choice, a mistraced model) are off by factors,
so the multipliers minimise a robust loss of the *logarithmic* residuals: soft-L1, which is quadratic for errors up to
`SOFT` and linear beyond (Huber 1964; the form of scipy.optimize.least_squares). It is minimised by reweighted
non-negative least squares, each on the logarithm linearised at the last solution. Columns are collinear, so a ridge
pulls each multiplier to its prior, in units of the prior: a column that hardly occurs keeps its prior, and
with few rows all columns do. Multipliers are therefore not measured efficiencies of kernels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

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
    from scipy.optimize import nnls  # half of this module's users fit nothing

    solution, _ = nnls(np.vstack([design, firm]), np.concatenate([target, firm @ prior]), maxiter=20_000)
    return np.asarray(solution)


# --- the multipliers before any row is seen ---
#
# Kernels that stream memory reach 70 to 90 % of the sheet's bandwidth, matrix kernels 60 to 80 % of its FLOP/s:
# multipliers of 1.2 to 1.4. Columns that correct others (tiles, short products) start small. The larger ones are
# for kernels known to be slow: plain depthwise convolutions, exponentials, torch's bilinear resizing.
#
# Three regimes. On *tensor cores* (2-byte operands, TF32) nothing more is known. On *ordinary cores* (fp32) kernels
# have been measured one by one and published: NeuSight's V100 data (arXiv 2407.13853; median share of the sheet: linear
# .79, batched product .59, 3x3 convolution .78 and over 1 with Winograd, addition .88, layer norm .55, softmax .61),
# and no kernel takes fewer than its FLOPs, so every tap of a depthwise convolution counts. *Compiled*, element-wise
# chains fuse into one pass, which leaves little of their bytes.

_WORK = 1.2
_CORRECTION = 0.3
_CORRECTIONS = (".tile", ".short", ".roof", ".odd", ".unaligned", ".taps.cudnn", ".taps.last", ".bias", ".scalar")
_TENSOR: dict[str, float] = {
    "launches": 0.5,
    "cast": 0.8,
    "layer_norm.rows": 0.6,
    "softmax.rows": 1.0,
    "depthwise.bytes.strided": 1.5,
    "depthwise.taps.strided": 20.0,
    "depthwise.bytes.plain": 1.5,
    "depthwise.taps.plain": 5.0,
    "attention.scores": 5.0,
    "attention.scores.masked": 5.0,
    "resize.serial": 3.0,
    "stem.flops": 0.3,
    "grouped.tile": 1.2,
    "grouped.flops": 0.3,
    "spatial.backward.flops": 0.3,
    # The kernel that gives the weights' gradient is a slow one. Chosen with 3090's training tables in sight, which fit
    # 3 to 23 for bytes, 22 for plain taps and 33 to 65 for strided ones.
    "depthwise.backward.bytes.last": 8.0,
    "depthwise.backward.bytes.cudnn": 5.0,
    "depthwise.backward.bytes.plain": 8.0,
    "depthwise.backward.bytes.strided": 5.0,
    "depthwise.backward.taps.last": 0.3,
    "depthwise.backward.taps.cudnn": 0.3,
    "depthwise.backward.taps.plain": 10.0,
    "depthwise.backward.taps.strided": 30.0,
}
_ORDINARY: dict[str, float] = {
    "launches": 1.0,
    "linear.flops": 1.27,
    "pointwise.flops": 1.27,
    "spatial.flops": 1.27,
    "winograd.flops": 0.95,
    "batched.flops": 1.7,
    "stem.flops": 0.5,
    "elementwise": 1.15,
    "elementwise.broadcast": 1.3,
    "layer_norm": 1.7,
    "layer_norm.rows": 0.3,
    "softmax": 1.4,
    "softmax.rows": 0.5,
    "batch_norm": 1.15,
    "grouped.tile": 1.27,
    "grouped.flops": 0.1,
    "transpose": 1.5,
    "linear.bytes": 0.3,
    "pointwise.bytes": 0.6,
    "spatial.bytes": 0.6,
    "spatial.bytes.last": 0.6,
    "batched.bytes": 0.6,
    "depthwise.taps.last": 2.5,
}
_ORDINARY_CORRECTION = 0.1
_FUSED: dict[str, float] = {
    **dict.fromkeys(("elementwise", "elementwise.cached", "elementwise.mixed", "elementwise.crossing"), 0.15),
    **dict.fromkeys(("elementwise.broadcast", "elementwise.broadcast.mixed", "transpose"), 0.15),
    **dict.fromkeys(("batch_norm", "batch_norm.last", "layer_norm"), 0.6),
    "cast": 0.1,
    "pool": 0.5,
    "launches": 0.2,
    "resize.serial": 0.0,
}


def prior(column: str, *, precision: str, compiled: bool) -> float:
    """The multiplier that a column has before any row is seen."""
    if compiled and column in _FUSED:
        return _FUSED[column]
    if precision == "fp32" and column in _ORDINARY:
        return _ORDINARY[column]
    if column in _TENSOR:
        return _TENSOR[column]
    if column.endswith(_CORRECTIONS):
        return _ORDINARY_CORRECTION if precision == "fp32" else _CORRECTION
    return _WORK


def priors(columns: Sequence[str], *, precision: str, compiled: bool) -> Array:
    """`prior` of each column, in order."""
    return np.array([prior(column, precision=precision, compiled=compiled) for column in columns])
