"""The multipliers before any row is seen.

Kernels that stream memory reach 70 to 90 % of the sheet's bandwidth, matrix kernels 60 to 80 % of its FLOP/s:
multipliers of 1.2 to 1.4. Columns that correct others (tiles, short products) start small. The larger ones are
for kernels known to be slow: plain depthwise convolutions, exponentials, torch's bilinear resizing.

Three regimes. On *tensor cores* (2-byte operands, TF32) nothing more is known. On *ordinary cores* (fp32) kernels have
been measured one by one and published: NeuSight's V100 data (arXiv 2407.13853; median share of the sheet: linear .79,
batched product .59, 3x3 convolution .78 and over 1 with Winograd, addition .88, layer norm .55, softmax .61), and no
kernel takes fewer than its FLOPs, so every tap of a depthwise convolution counts. *Compiled*, element-wise chains fuse
into one pass, which leaves little of their bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

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
    "elementwise": 0.15,
    "elementwise.cached": 0.15,
    "elementwise.mixed": 0.15,
    "elementwise.broadcast": 0.15,
    "elementwise.broadcast.mixed": 0.15,
    "elementwise.crossing": 0.15,
    "batch_norm": 0.6,
    "batch_norm.last": 0.6,
    "layer_norm": 0.6,
    "transpose": 0.15,
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
