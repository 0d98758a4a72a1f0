"""Columns of operators made by hand, and of a few real models."""

from __future__ import annotations

import math

import pytest

from visionbench.predicting.features import Peaks, columns, features, peaks_of
from visionbench.predicting.samples import MARK, columns_at, marked, traced
from visionbench.record.devices import find
from visionbench.record.errors import BenchError
from visionbench.record.spec import Spec
from visionbench.tracing.call_cache import Operator

ONE = Peaks(half=1.0, single=1.0, scalar=1.0, bandwidth=1.0, l2=0.0)


def contiguous(*shape: int, itemsize: int = 2) -> tuple:
    strides = [1]
    for n in reversed(shape[1:]):
        strides.append(strides[-1] * n)
    return (shape, tuple(reversed(strides)), itemsize)


def channels_last(n: int, c: int, h: int, w: int, itemsize: int = 2) -> tuple:
    return ((n, c, h, w), (c * h * w, 1, c * w, c), itemsize)


def operator(name: str, kind: str, *operands: tuple, macs: int = 0, phase: str = "forward") -> Operator:
    return Operator(
        name=name, kind=kind, module="", phase=phase, macs=macs, activations=0, bytes=1, counted=True, operands=operands
    )


def of(op: Operator, *, autocast: bool = False, peaks: Peaks = ONE) -> dict[str, float]:
    sums: dict[str, float] = {}
    for name, value in columns(op, peaks, autocast=autocast):
        sums[name] = sums.get(name, 0.0) + value
    return sums


def test_a_pointwise_convolution_counts_flops_bytes_and_the_larger_of_them():
    sums = of(
        operator("convolution", "conv", contiguous(2, 64, 7, 7), contiguous(128, 64, 1, 1), contiguous(2, 128, 7, 7))
    )
    assert sums["pointwise.flops"] == 2 * 2 * 49 * 64 * 128
    assert sums["pointwise.bytes"] == 2 * (2 * 64 * 49 + 2 * 128 * 49)
    assert sums["pointwise.roof"] == max(sums["pointwise.flops"], sums["pointwise.bytes"])
    assert sums["pointwise.tile"] == 0  # 128 filters fill a tile


def test_an_unfilled_tile_is_seen():
    narrow = operator("convolution", "conv", contiguous(2, 64, 7, 7), contiguous(96, 64, 1, 1), contiguous(2, 96, 7, 7))
    assert of(narrow)["pointwise.tile"] == 2 * 98 * 32 * 64


@pytest.mark.parametrize(
    ("x", "kernel", "out", "way"),
    [
        (contiguous(2, 64, 28, 28), 3, contiguous(2, 64, 28, 28), "cudnn"),
        (contiguous(2, 64, 28, 28), 7, contiguous(2, 64, 28, 28), "plain"),
        (contiguous(2, 16, 28, 28), 3, contiguous(2, 16, 28, 28), "plain"),
        (contiguous(2, 64, 28, 28, itemsize=4), 3, contiguous(2, 64, 28, 28, itemsize=4), "plain"),
        (contiguous(2, 64, 28, 28), 3, contiguous(2, 64, 14, 14), "strided"),
        (channels_last(2, 64, 28, 28), 7, channels_last(2, 64, 28, 28), "last"),
    ],
)
def test_a_depthwise_convolution_goes_the_way_that_torch_sends_it(x, kernel, out, way):
    weight = contiguous(x[0][1], 1, kernel, kernel, itemsize=x[2])
    assert f"depthwise.taps.{way}" in of(operator("convolution", "depthwise_conv", x, weight, out))
    gradients = operator("convolution_backward", "depthwise_conv", out, x, weight, x, weight, macs=1000)
    assert of(gradients)[f"depthwise.backward.taps.{way}"] == 2000
    moved = sum(math.prod(shape) * itemsize for shape, _, itemsize in (out, x, weight, x, weight))
    assert of(gradients)[f"depthwise.backward.bytes.{way}"] == moved


def test_winograd_has_a_column_of_its_own_in_fp32_alone():
    def conv(itemsize: int) -> dict[str, float]:
        x = contiguous(2, 64, 28, 28, itemsize=itemsize)
        return of(operator("convolution", "conv", x, contiguous(64, 64, 3, 3, itemsize=itemsize), x))

    assert "winograd.flops" in conv(4)
    assert "spatial.flops" not in conv(4)
    assert "spatial.flops" in conv(2)


def test_an_elementwise_kernel_is_known_by_how_it_reads():
    same, last = contiguous(2, 64, 7, 7), channels_last(2, 64, 7, 7)
    single = contiguous(2, 64, 7, 7, itemsize=4)
    assert set(of(operator("add", "elementwise", same, same, same))) == {"launches", "elementwise"}
    assert "elementwise.crossing" in of(operator("add", "elementwise", same, last, same))
    assert "elementwise.mixed" in of(operator("add", "elementwise", same, single, single))
    assert "elementwise.broadcast" in of(operator("mul", "elementwise", same, contiguous(64, 1, 1), same))
    cached = Peaks(half=1.0, single=1.0, scalar=1.0, bandwidth=1.0, l2=1e6)
    assert "elementwise.cached" in of(operator("add", "elementwise", same, same, same), peaks=cached)


def test_what_autocast_computes_in_fp32_costs_a_cast():
    square = operator("pow", "elementwise", contiguous(4, 8), contiguous(4, 8))
    assert of(square, autocast=True)["cast"] == 10 * 32
    assert "cast" not in of(square, autocast=False)


def test_an_expanded_matrix_is_read_once():
    weight = ((28, 384, 128), (0, 1, 384), 2)
    sums = of(
        operator("bmm", "matmul", contiguous(28, 7, 384), weight, contiguous(28, 7, 128), macs=28 * 7 * 384 * 128)
    )
    assert sums["linear.bytes"] == 2 * (28 * 7 * 384 + 384 * 128 + 28 * 7 * 128)


def test_an_optimizer_is_bytes():
    assert (
        of(operator("_foreach_add_", "elementwise", contiguous(100, itemsize=4), phase="optimizer"))["optimizer"] == 400
    )


@pytest.mark.parametrize(
    ("model", "task", "memory_format"),
    [
        ("timm:resnet18", "inference", "contiguous"),
        ("timm:vit_tiny_patch16_224", "inference", "contiguous"),
        ("timm:mobilenetv3_small_050", "train", "channels_last"),
        ("timm:convnext_atto", "inference", "channels_last"),
    ],
)
def test_another_batch_of_a_marked_trace_is_the_trace_at_that_batch(model, task, memory_format):
    spec = Spec(model=model, task=task, batch_size=48, precision="amp_fp16", memory_format=memory_format)
    peaks = peaks_of(find("rtx-3090"), "amp_fp16")
    direct = features(traced(spec), peaks)
    moved = columns_at(marked(spec).operators, 48, peaks, autocast=True)
    assert moved == pytest.approx(direct, rel=1e-9)
    assert MARK != 48


def test_channels_last_reaches_the_columns_of_a_real_model():
    peaks = peaks_of(find("rtx-3090"), "amp_fp16")
    sums = features(
        traced(Spec(model="timm:resnet18", batch_size=8, precision="amp_fp16", memory_format="channels_last")), peaks
    )
    assert sums["spatial.bytes.last"] > 0
    assert "spatial.bytes" not in sums
    assert "batch_norm" not in sums


def test_peaks_follow_the_precision():
    a100, v100 = find("a100-sxm4-80gb"), find("v100-sxm2-16gb")
    assert peaks_of(a100, "tf32").single == a100.tf32
    assert peaks_of(a100, "fp32").single == a100.fp32
    assert peaks_of(a100, "amp_bf16").half == a100.bf16
    for precision in ("tf32", "amp_bf16"):
        with pytest.raises(BenchError, match="has no"):
            peaks_of(v100, precision)
