"""A trace as a vector: ideal seconds of one step, by kind of work.

Each column is a sum over operators of *what the work would take at the data sheet's peak*: FLOPs over FLOP/s, or bytes
over bytes/s. A time model then multiplies each column by how far kernels of that kind stay from the peak. Eager
kernels run one after the other and hardly overlap, so times add; products and bytes of one matrix kernel do overlap,
so such a kernel has a column for each and one for the larger of the two (the roofline; Williams et al. 2009).

The columns differ by what is known to change a kernel: whether it reads along memory or across it, mixes types or
broadcasts (torch then neither vectorises nor coalesces), leaves part of a tile empty, or fits the L2 cache.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from visionbench.predicting.convolutions import Column, convolution_columns, elements, innermost, rounded_up, size
from visionbench.predicting.peaks import Peaks

if TYPE_CHECKING:
    from visionbench.tracing import Trace
    from visionbench.tracing.call_cache import Operand, Operator

LAUNCH = "launches"
LAUNCH_SECONDS = 5e-6
"""The least time that enqueuing one kernel takes: about 5 us of the host's time."""

_TILE = 128
_ALIGNED = 8
# Tensor cores read 16 bytes at a time: rows of 2-byte numbers whose length is no multiple of 8 go slower ways.

# What CUDA's autocast computes in fp32 and the trace does not show: a cast, and twice the bytes (autocast_mode.h).
_UPCAST = frozenset(("pow", "exp", "reciprocal", "rsqrt", "log", "softplus", "prod", "cumsum", "cumprod"))

_BILINEAR_BLOCK = 16384
_BILINEAR_SECONDS = 1e-7
# torch's bilinear kernel has one thread per output position, which loops over all images and channels.


def features(trace: Trace, peaks: Peaks) -> dict[str, float]:
    """The columns of one step of `trace`, in seconds at the peaks."""
    return total(distinct(trace.operators), peaks, autocast=trace.spec.precision.startswith("amp_"))


def distinct(operators: Iterable[Operator]) -> Counter[Operator]:
    """How often each call is made anywhere in the model: identical calls take equally long and are computed once."""
    return Counter(replace(op, module="") for op in operators)


def total(counts: Mapping[Operator, int], peaks: Peaks, *, autocast: bool) -> dict[str, float]:
    """The sums of the columns of all calls, each counted as often as it is made."""
    sums: defaultdict[str, float] = defaultdict(float)
    for op, times in counts.items():
        for name, seconds in columns(op, peaks, autocast=autocast):
            sums[name] += times * seconds
    return dict(sums)


def columns(op: Operator, peaks: Peaks, *, autocast: bool) -> Iterator[Column]:
    """The columns of one operator."""
    yield LAUNCH, LAUNCH_SECONDS
    if not op.operands:
        return
    if op.phase == "optimizer":
        yield "optimizer", sum(map(size, op.operands)) / peaks.bandwidth
        return
    if autocast and op.name in _UPCAST and op.operands[0][2] == 2:
        yield "cast", 10 * elements(op.operands[0]) / peaks.bandwidth
    yield from _BY_KIND.get(op.kind, _elementwise)(op, peaks)


def _moved(op: Operator, peaks: Peaks) -> float:
    return sum(map(size, op.operands)) / peaks.bandwidth


def _crosses(source: Operand, target: Operand) -> bool:
    """Whether a kernel that reads along memory must write across it."""
    return innermost(source) != innermost(target)


def _matmul(op: Operator, peaks: Peaks) -> Iterator[Column]:
    out = op.operands[-1]
    if len(out[0]) < 2:
        yield "elementwise", _moved(op, peaks)
    elif op.name in ("bmm", "baddbmm"):
        yield from _batched(op, peaks)
    else:
        yield from _product(op, peaks)


def _product(op: Operator, peaks: Peaks) -> Iterator[Column]:
    """(M, K) @ (K, N): a linear layer."""
    out, peak = op.operands[-1], _matrix_peak(op, peaks)
    n = out[0][-1]
    m, k = elements(out) // max(n, 1), op.macs // max(elements(out), 1)
    flops, moved = 2 * op.macs / peak, _moved(op, peaks)
    yield "linear.flops", flops
    yield "linear.bytes", moved
    yield "linear.roof", max(flops, moved)
    yield "linear.tile", 2 * m * (rounded_up(n, _TILE) - n) * k / peak
    yield "linear.short", 2 * m * rounded_up(n, _TILE) * 64 / peak
    if n % 2 or k % 2:
        yield "linear.odd", flops
    elif n % _ALIGNED or k % _ALIGNED:
        yield "linear.unaligned", flops


def _batched(op: Operator, peaks: Peaks) -> Iterator[Column]:
    left, right, out = op.operands[-3], op.operands[-2], op.operands[-1]
    if right[1][0] == 0:  # one matrix for all: a linear layer on an operand that is copied first
        yield "copy", 2 * size(left) / peaks.bandwidth
        yield from _product(op, peaks)
        return
    batch, m, n = out[0]
    k, peak = left[0][2], _matrix_peak(op, peaks)
    tiles = rounded_up(m, 64) * rounded_up(n, 64) * rounded_up(k, 32)
    yield "batched.flops", 2 * op.macs / peak
    yield "batched.bytes", _moved(op, peaks)
    yield "batched.tile", 2 * batch * (tiles - m * n * k) / peak
    if k % 2 or n % 2:
        yield "batched.odd", _moved(op, peaks)


def _matrix_peak(op: Operator, peaks: Peaks) -> float:
    return peaks.half if op.operands[-1][2] == 2 else peaks.single


def _attention(op: Operator, peaks: Peaks) -> Iterator[Column]:
    """A fused kernel works on whole tiles of queries, keys and head width, and takes an exponential per score."""
    query, key = op.operands[0][0], op.operands[1][0]
    backward = op.name.endswith("_backward")
    if backward:  # the gradient of the output comes first
        query, key = op.operands[1][0], op.operands[2][0]
    scores = math.prod(query[:-2]) * rounded_up(query[-2], 64) * rounded_up(key[-2], 64)
    width = next((w for w in (32, 64, 96, 128) if query[-1] <= w), 256)
    masked = len(op.operands) > (10 if backward else 5)
    suffix = (".masked" if masked else "") + (".backward" if backward else "")
    peak = peaks.half if op.operands[0][2] == 2 else peaks.single
    yield f"attention.flops{suffix}", 4 * scores * width / peak
    yield f"attention.scores{suffix}", 8 * scores / peaks.scalar
    yield "attention.bytes", _moved(op, peaks)


def _norm(op: Operator, peaks: Peaks) -> Iterator[Column]:
    x = op.operands[0]
    backward = ".backward" if op.name.endswith("_backward") else ""
    twice = 2 * size(x) / peaks.bandwidth
    if "batch_norm" in op.name:
        last = ".last" if len(x[0]) == 4 and innermost(x) == 1 else ""
        yield f"batch_norm{last}{backward}", _moved(op, peaks) if backward else twice
    elif "layer_norm" in op.name:
        if x[1] and x[1][-1] != 1:  # the kernel's caller makes it contiguous first
            yield "transpose", twice
        yield f"layer_norm{backward}", _moved(op, peaks) if backward else twice
        yield f"layer_norm.rows{backward}", elements(x) / max(1, x[0][-1]) * 512 / peaks.bandwidth
    else:
        single = ".one" if op.name == "native_group_norm" and op.operands[-1][0][-1] == 1 else ""
        yield f"group_norm{single}{backward}", 1.5 * twice


def _softmax(op: Operator, peaks: Peaks) -> Iterator[Column]:
    x = op.operands[0]
    yield "softmax", _moved(op, peaks)
    yield "softmax.rows", elements(x) / max(1, x[0][-1]) * 256 / peaks.bandwidth
    if x[1] and x[1][-1] != 1:
        yield "transpose", 2 * size(x) / peaks.bandwidth


def _copy(op: Operator, peaks: Peaks) -> Iterator[Column]:
    source, target = op.operands[0], op.operands[-1]
    if op.name in ("_to_copy", "clone", "copy_"):
        cast = "cast" if source[2] != target[2] else "copy"
        yield "transpose" if _crosses(source, target) else cast, _moved(op, peaks)
    elif op.name in ("cat", "stack"):
        yield "join", _moved(op, peaks)
    elif op.name in ("im2col", "col2im"):
        yield "unfold", _moved(op, peaks)
    else:
        yield "gather", 2 * size(target) / peaks.bandwidth


def _pool(op: Operator, peaks: Peaks) -> Iterator[Column]:
    yield "pool", _moved(op, peaks)
    if op.name.startswith("upsample_bi") and innermost(op.operands[0]) != 1:
        batch, channels, *positions = op.operands[-1][0]
        blocks = math.ceil(math.prod(positions) / _BILINEAR_BLOCK)
        yield "resize.serial", batch * channels * blocks * _BILINEAR_SECONDS


def _reduction(op: Operator, peaks: Peaks) -> Iterator[Column]:
    yield "reduction", _moved(op, peaks)


def _elementwise(op: Operator, peaks: Peaks) -> Iterator[Column]:
    target = op.operands[-1]
    moved = _moved(op, peaks)
    if moved * peaks.bandwidth < 0.6 * peaks.l2:
        yield "elementwise.cached", moved
    else:
        yield _elementwise_way(op.operands[:-1] or op.operands, target), moved


def _elementwise_way(sources: tuple[Operand, ...], target: Operand) -> str:
    whole = elements(target)
    mixed = len({tensor[2] for tensor in (*sources, target) if elements(tensor) > 1}) > 1
    if any(elements(tensor) == whole and _crosses(tensor, target) for tensor in sources):
        return "elementwise.crossing"
    if any(elements(tensor) != whole and tensor[0] for tensor in sources):
        return "elementwise.broadcast.mixed" if mixed else "elementwise.broadcast"
    return "elementwise.mixed" if mixed else "elementwise"


_BY_KIND: Mapping[str, Callable[[Operator, Peaks], Iterator[Column]]] = {
    "conv": convolution_columns,
    "grouped_conv": convolution_columns,
    "depthwise_conv": convolution_columns,
    "matmul": _matmul,
    "attention": _attention,
    "norm": _norm,
    "softmax": _softmax,
    "copy": _copy,
    "pool": _pool,
    "reduction": _reduction,
}
