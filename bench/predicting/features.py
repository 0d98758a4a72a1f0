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
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from visionbench.record.devices import DeviceSpec
from visionbench.record.errors import BenchError

if TYPE_CHECKING:
    from visionbench.tracing import Trace
    from visionbench.tracing.call_cache import Operand, Operator

Column = tuple[str, float]
"""A feature's name and its ideal seconds."""

LAUNCH = "launches"
LAUNCH_SECONDS = 5e-6
"""The least time that enqueuing one kernel takes: about 5 us of the host's time."""

TILE = 128
_ALIGNED = 8
# Tensor cores read 16 bytes at a time: rows of 2-byte numbers whose length is no multiple of 8 go slower ways.

# What CUDA's autocast computes in fp32 and the trace does not show: a cast, and twice the bytes (autocast_mode.h).
_UPCAST = frozenset(("pow", "exp", "reciprocal", "rsqrt", "log", "softplus", "prod", "cumsum", "cumprod"))

_BILINEAR_BLOCK = 16384
_BILINEAR_SECONDS = 1e-7
# torch's bilinear kernel has one thread per output position, which loops over all images and channels.

_CUDNN_KERNELS = (1, 3, 5)
_CUDNN_MIN_CHANNELS, _CUDNN_MIN_WIDTH = 32, 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Peaks:
    """FLOP/s of matrix products on 2-byte and on 4-byte operands and of everything else, bytes/s, bytes of L2 cache.

    4-byte products run on the tensor cores under TF32 and on the ordinary cores without.
    """

    half: float
    single: float
    scalar: float
    bandwidth: float
    l2: float

    def of_products(self, itemsize: int) -> float:
        """FLOP/s of matrix products on operands of so many bytes."""
        return self.half if itemsize == 2 else self.single


def peaks_of(device: DeviceSpec, precision: str) -> Peaks:
    """The peaks that a spec of that precision meets on a device. Raises `BenchError` where the device lacks it."""
    peak = device.peak(precision)
    if peak is None:
        raise BenchError(f"a {device.key} has no {precision}: choose another --precision.")
    two_bytes = precision not in ("fp32", "tf32")
    return Peaks(
        half=peak if two_bytes else device.fp16,
        single=peak if precision == "tf32" else device.fp32,
        scalar=device.fp32,
        bandwidth=device.bandwidth,
        l2=device.l2,
    )


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
        yield "optimizer", _moved(op, peaks)
        return
    if autocast and op.name in _UPCAST and op.operands[0][2] == 2:
        yield "cast", 10 * elements(op.operands[0]) / peaks.bandwidth
    yield from _BY_KIND.get(op.kind, _elementwise)(op, peaks)


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
    out, peak = op.operands[-1], peaks.of_products(op.operands[-1][2])
    n = out[0][-1]
    m, k = elements(out) // max(n, 1), op.macs // max(elements(out), 1)
    flops, moved = 2 * op.macs / peak, _moved(op, peaks)
    yield "linear.flops", flops
    yield "linear.bytes", moved
    yield "linear.roof", max(flops, moved)
    yield "linear.tile", 2 * m * (rounded_up(n, TILE) - n) * k / peak
    yield "linear.short", 2 * m * rounded_up(n, TILE) * 64 / peak
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
    k, peak = left[0][2], peaks.of_products(op.operands[-1][2])
    tiles = rounded_up(m, 64) * rounded_up(n, 64) * rounded_up(k, 32)
    yield "batched.flops", 2 * op.macs / peak
    yield "batched.bytes", _moved(op, peaks)
    yield "batched.tile", 2 * batch * (tiles - m * n * k) / peak
    if k % 2 or n % 2:
        yield "batched.odd", _moved(op, peaks)


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
    peak = peaks.of_products(op.operands[0][2])
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
    moved = _moved(op, peaks)
    yield _elementwise_way(op) if moved * peaks.bandwidth >= 0.6 * peaks.l2 else "elementwise.cached", moved


def _elementwise_way(op: Operator) -> str:
    sources, target = op.operands[:-1] or op.operands, op.operands[-1]
    whole = elements(target)
    mixed = len({tensor[2] for tensor in (*sources, target) if elements(tensor) > 1}) > 1
    if any(elements(tensor) == whole and _crosses(tensor, target) for tensor in sources):
        return "elementwise.crossing"
    if any(elements(tensor) != whole and tensor[0] for tensor in sources):
        return "elementwise.broadcast.mixed" if mixed else "elementwise.broadcast"
    return "elementwise.mixed" if mixed else "elementwise"


# --- convolutions: what cuDNN's kernels are known to depend on ---
#
# A dense convolution is an implicit matrix product of M = N H W positions, N = output channels and K = input channels x
# kernel area; it runs in whole tiles, so few output channels waste part of one (`.tile`), and a short K spends its time
# on entering and leaving the loop (`.short`). Half-precision kernels want channels last: in NCHW the input and output
# are transposed on the way, so bytes count by memory format. Depthwise convolutions have no products to share and are
# bound by memory; torch sends them to cuDNN only for channels last or, in half precision, for small square kernels
# without stride (ATen/native/Convolution.cpp, `use_cudnn_depthwise`), else to a plain kernel that is many times slower.
# A 3x3 convolution without stride in 4-byte numbers may be computed with fewer products than the rule counts (Winograd;
# Lavin & Gray 2016), so it has its own column.


@dataclass(frozen=True, slots=True, kw_only=True)
class _Convolution:
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
    peak: float
    flops: float
    bytes: float
    output: float

    @property
    def area(self) -> int:
        """Positions under the kernel."""
        return math.prod(self.kernel)


def _convolutions(op: Operator, peaks: Peaks) -> Iterator[Column]:
    """The columns of a forward convolution, or of the gradients of one."""
    if op.name == "convolution_backward":
        yield from _backward(op, peaks)
        return
    x, weight, out = op.operands[0], op.operands[1], op.operands[-1]
    conv = _convolution(x, weight, out, peaks)
    if len(op.operands) > 3 and conv.half:  # cuDNN adds the bias in a kernel that reads and writes the output again
        yield "conv.bias", 2 * conv.output
    if op.kind == "depthwise_conv":
        kernel = _depthwise_kernel(conv)
        yield f"depthwise.bytes.{kernel}", conv.bytes
        yield f"depthwise.taps.{kernel}", 2 * conv.positions * conv.filters * conv.area / peaks.scalar
    elif op.kind == "grouped_conv":
        yield from _grouped(conv, peaks)
    else:
        yield from _dense(conv, size(weight) / peaks.bandwidth)


def _convolution(x: Operand, weight: Operand, out: Operand, peaks: Peaks) -> _Convolution:
    area, peak = math.prod(weight[0][2:]), peaks.of_products(x[2])
    return _Convolution(
        channels=x[0][1],
        filters=out[0][1],
        per_group=weight[0][1],
        positions=elements(out) // out[0][1],
        kernel=weight[0][2:],
        shrinks=math.prod(x[0][2:]) >= 2.5 * math.prod(out[0][2:]),
        last=is_channels_last(x),
        half=x[2] == 2,
        width=out[0][-1],
        peak=peak,
        flops=2 * elements(out) * weight[0][1] * area / peak,
        bytes=(size(x) + size(out)) / peaks.bandwidth,
        output=size(out) / peaks.bandwidth,
    )


def _dense(conv: _Convolution, weight: float) -> Iterator[Column]:
    per_mac = 2 / conv.peak
    if conv.channels <= 4:  # the picture itself: channels are padded to 8
        yield "stem.flops", per_mac * conv.positions * rounded_up(conv.filters, 64) * 8 * conv.area
        yield "stem.bytes", conv.bytes
        return
    if conv.area == 1 and conv.width == 1:  # squeeze-and-excitation: little work
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


def _grouped(conv: _Convolution, peaks: Peaks) -> Iterator[Column]:
    groups = conv.channels // conv.per_group
    padded = rounded_up(conv.per_group, 16) * rounded_up(conv.filters // groups, 16)
    yield "grouped.tile", 2 * conv.positions * groups * padded * conv.area / conv.peak
    yield "grouped.flops", 2 * conv.positions * conv.filters * conv.per_group * conv.area / peaks.scalar
    yield "grouped.bytes.last" if conv.last else "grouped.bytes", conv.bytes


def _depthwise_kernel(conv: _Convolution) -> str:
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
    moved = _moved(op, peaks)
    last = ".last" if conv.last or is_channels_last(grad) else ""
    kind = op.kind.removesuffix("_conv")
    if kind == "depthwise":
        kernel = "last" if last else _depthwise_kernel(conv)
        yield f"depthwise.backward.taps.{kernel}", 2 * op.macs / peaks.scalar
        yield f"depthwise.backward.bytes.{kernel}", moved
        return
    products = 2 * op.macs / conv.peak
    yield f"{kind}.backward.flops{last}", products
    yield f"{kind}.backward.bytes{last}", moved
    if kind == "grouped":
        yield f"grouped.backward.scalar{last}", 2 * op.macs / peaks.scalar
    elif conv.area > 1:
        yield f"spatial.backward.flops{last}", products


_BY_KIND: Mapping[str, Callable[[Operator, Peaks], Iterator[Column]]] = {
    "conv": _convolutions,
    "grouped_conv": _convolutions,
    "depthwise_conv": _convolutions,
    "matmul": _matmul,
    "attention": _attention,
    "norm": _norm,
    "softmax": _softmax,
    "copy": _copy,
    "pool": _pool,
    "reduction": _reduction,
}
