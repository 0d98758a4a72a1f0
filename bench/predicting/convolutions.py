"""The columns of a convolution: what cuDNN's kernels are known to depend on.

A dense convolution is an implicit matrix product of M = N H W positions, N = output channels and K = input channels x
kernel area; it runs in whole tiles, so few output channels waste part of one (`.tile`), and a short K spends its time
on entering and leaving the loop (`.short`). Half-precision kernels want channels last: in NCHW the input and output are
transposed on the way, so bytes count by memory format. Depthwise convolutions have no products to share and are bound
by memory; torch sends them to cuDNN only for channels last or, in half precision, for small square kernels without
stride (ATen/native/Convolution.cpp, `use_cudnn_depthwise`), else to a plain kernel that is many times slower.
A 3x3 convolution without stride in 4-byte numbers may be computed with fewer products than the rule counts (Winograd;
Lavin & Gray 2016), so it has its own column.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from visionbench.predicting.peaks import Peaks

if TYPE_CHECKING:
    from visionbench.tracing.call_cache import Operand, Operator

Column = tuple[str, float]
"""A feature's name and its ideal seconds."""

TILE = 128
_CUDNN_KERNELS = (1, 3, 5)
_CUDNN_MIN_CHANNELS, _CUDNN_MIN_WIDTH = 32, 7


# --- what the shape and the strides of an operand say about the kernel that reads it ---


def elements(tensor: Operand) -> int:
    """How many elements a tensor has."""
    return math.prod(tensor[0])


def size(tensor: Operand) -> int:
    """Bytes of a tensor that must be read: an expanded dimension (stride 0) counts as one element."""
    shape, strides, itemsize = tensor
    return itemsize * math.prod(1 if stride == 0 else n for n, stride in zip(shape, strides, strict=True))


def innermost(tensor: Operand) -> int:
    """The dimension along which neighbours are adjacent in memory (a warp reads these at once); -1 without one."""
    shape, strides, _ = tensor
    return next((i for i, (n, stride) in enumerate(zip(shape, strides, strict=True)) if n > 1 and stride == 1), -1)


def is_channels_last(tensor: Operand) -> bool:
    """Whether an (N, C, H, W) tensor is stored as (N, H, W, C)."""
    return len(tensor[0]) == 4 and tensor[0][1] > 1 and innermost(tensor) == 1


def rounded_up(n: int, multiple: int) -> int:
    """The next multiple: matrix kernels work in whole tiles."""
    return -(-n // multiple) * multiple


# --- convolutions ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Convolution:
    """One convolution as cuDNN sees it. `flops`, `bytes` and `output` are seconds at the peaks."""

    channels: int
    filters: int
    per_group: int
    positions: int
    kernel: tuple[int, ...]
    shrinks: bool
    last: bool
    half: bool
    width: int
    flops: float
    bytes: float
    output: float

    @property
    def area(self) -> int:
        """Positions under the kernel."""
        return math.prod(self.kernel)


def convolution_columns(op: Operator, peaks: Peaks) -> Iterator[Column]:
    """The columns of a forward convolution, or of the gradients of one."""
    if op.name == "convolution_backward":
        return _backward(op, peaks)
    x, weight, out = op.operands[0], op.operands[1], op.operands[-1]
    conv = _convolution(x, weight, out, peaks)
    if len(op.operands) > 3 and conv.half:
        return _with_bias(conv, _forward(op, conv, peaks))
    return _forward(op, conv, peaks)


def _convolution(x: Operand, weight: Operand, out: Operand, peaks: Peaks) -> Convolution:
    half, area = x[2] == 2, math.prod(weight[0][2:])
    positions = elements(out) // out[0][1]
    return Convolution(
        channels=x[0][1],
        filters=out[0][1],
        per_group=weight[0][1],
        positions=positions,
        kernel=weight[0][2:],
        shrinks=math.prod(x[0][2:]) >= 2.5 * math.prod(out[0][2:]),
        last=is_channels_last(x),
        half=half,
        width=out[0][-1],
        flops=2 * elements(out) * weight[0][1] * area / (peaks.half if half else peaks.single),
        bytes=(size(x) + size(out)) / peaks.bandwidth,
        output=size(out) / peaks.bandwidth,
    )


def _with_bias(conv: Convolution, columns: Iterator[Column]) -> Iterator[Column]:
    """In half precision cuDNN adds the bias in a separate kernel, which reads and writes the output again."""
    yield "conv.bias", 2 * conv.output
    yield from columns


def _forward(op: Operator, conv: Convolution, peaks: Peaks) -> Iterator[Column]:
    if op.kind == "depthwise_conv":
        return _depthwise(conv, peaks)
    if op.kind == "grouped_conv":
        return _grouped(conv, peaks)
    return _dense(conv, size(op.operands[1]) / peaks.bandwidth, peaks)


def _dense(conv: Convolution, weight: float, peaks: Peaks) -> Iterator[Column]:
    per_mac = 2 / (peaks.half if conv.half else peaks.single)
    batch_only = math.prod(conv.kernel) == 1 and conv.width == 1
    if conv.channels <= 4:  # the picture itself: channels are padded to 8
        yield "stem.flops", per_mac * conv.positions * rounded_up(conv.filters, 64) * 8 * conv.area
        yield "stem.bytes", conv.bytes
        return
    if batch_only:  # squeeze-and-excitation: little work
        yield "gate.bytes", conv.bytes + weight
        return
    name = "pointwise" if conv.area == 1 else "spatial"
    winograd = conv.kernel == (3, 3) and not conv.half and not conv.shrinks
    yield "winograd.flops" if winograd else f"{name}.flops", conv.flops
    yield f"{name}.bytes.last" if conv.last else f"{name}.bytes", conv.bytes
    yield f"{name}.roof", max(conv.flops, conv.bytes)
    waste = rounded_up(conv.filters, TILE) - conv.filters
    yield f"{name}.tile", per_mac * conv.positions * waste * conv.channels * conv.area
    yield f"{name}.short", per_mac * conv.positions * rounded_up(conv.filters, 64) * 64


def _grouped(conv: Convolution, peaks: Peaks) -> Iterator[Column]:
    groups = conv.channels // conv.per_group
    padded = rounded_up(conv.per_group, 16) * rounded_up(conv.filters // groups, 16)
    peak = peaks.half if conv.half else peaks.single
    yield "grouped.tile", 2 * conv.positions * groups * padded * conv.area / peak
    yield "grouped.flops", 2 * conv.positions * conv.filters * conv.per_group * conv.area / peaks.scalar
    yield "grouped.bytes.last" if conv.last else "grouped.bytes", conv.bytes


def _depthwise(conv: Convolution, peaks: Peaks) -> Iterator[Column]:
    taps = 2 * conv.positions * conv.filters * conv.area / peaks.scalar
    kernel = _depthwise_kernel(conv)
    yield f"depthwise.bytes.{kernel}", conv.bytes
    yield f"depthwise.taps.{kernel}", taps


def _depthwise_kernel(conv: Convolution) -> str:
    """The kernel that torch chooses: channels last, strided, cuDNN's or its own plain one."""
    square = len(conv.kernel) == 2 and conv.kernel[0] == conv.kernel[1] and conv.kernel[0] in _CUDNN_KERNELS
    if conv.last:
        return "last"
    if conv.shrinks:
        return "strided"
    fits = conv.channels >= _CUDNN_MIN_CHANNELS and conv.width >= _CUDNN_MIN_WIDTH
    return "cudnn" if conv.half and square and fits else "plain"


def _backward(op: Operator, peaks: Peaks) -> Iterator[Column]:
    """Two more convolutions, one per gradient; the kernel of the weight's gradient reduces over positions."""
    grad, x, weight = op.operands[:3]
    conv = _convolution(x, weight, grad, peaks)
    moved = sum(map(size, op.operands)) / peaks.bandwidth
    last = ".last" if conv.last or is_channels_last(grad) else ""
    kind = op.kind.removesuffix("_conv")
    if kind == "depthwise":
        kernel = "last" if last else _depthwise_kernel(conv)
        yield f"depthwise.backward.taps.{kernel}", 2 * op.macs / peaks.scalar
        yield f"depthwise.backward.bytes.{kernel}", moved
        return
    products = 2 * op.macs / (peaks.half if conv.half else peaks.single)
    yield f"{kind}.backward.flops{last}", products
    yield f"{kind}.backward.bytes{last}", moved
    if kind == "grouped":
        yield f"grouped.backward.scalar{last}", 2 * op.macs / peaks.scalar
    elif conv.area > 1:
        yield f"spatial.backward.flops{last}", products
