"""Mixed precision on the meta device: the casts that CUDA's autocast makes, and what they do to bytes and memory.

Expected behaviour: PyTorch's "CUDA Ops that can autocast to float16 / float32" (docs, torch.amp).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from visionbench.record.spec import Spec
from visionbench.tracing import Trace, run

Network = Callable[..., str]

N, S = 2, 32
IMAGES = N * 3 * S * S
HALVES = ["amp_fp16", "amp_bf16"]


def trace_of(model: str, **fields: Any) -> Trace:
    return run(Spec(model=model, **{"batch_size": N, "image_size": S, **fields}))


def bytes_of(traced: Trace, name: str) -> list[int]:
    return [op.bytes for op in traced.operators if op.name == name]


def names_of(traced: Trace) -> list[str]:
    return [op.name for op in traced.operators]


@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize(
    "model", ["timm:deit_tiny_patch16_224", "timm:swin_tiny_patch4_window7_224", "timm:convnext_atto", "timm:resnet18"]
)
def test_the_same_macs_fewer_bytes_a_lower_peak(model: str, precision: str) -> None:
    for task in ("inference", "train"):
        full, mixed = (
            trace_of(model, task=task, precision=p, image_size=224, batch_size=16) for p in ("fp32", precision)
        )
        assert mixed.macs_per_image == full.macs_per_image
        assert mixed.activations_per_image == full.activations_per_image
        assert mixed.param_bytes == full.param_bytes  # the parameters stay fp32
        counted = [sum(op.bytes for op in traced.operators if op.counted) for traced in (mixed, full)]
        assert counted[0] < 0.51 * counted[1]
        if full.curve and mixed.curve:
            assert mixed.curve.peak < full.curve.peak
            assert mixed.curve.split["parameters"] == full.curve.split["parameters"]


def test_the_two_halves_differ_in_softmax_alone() -> None:
    fp16, bf16 = (trace_of("timm:convnext_atto", task="train", precision=p) for p in HALVES)
    assert names_of(fp16) == names_of(bf16)
    assert fp16.bytes == bf16.bytes


@pytest.mark.parametrize("precision", HALVES)
def test_linear_and_convolution_take_and_give_halves(network: Network, precision: str) -> None:
    traced = trace_of(network("nn.Sequential(nn.Conv2d(3, 8, 1), nn.Linear(32, 10))"), precision=precision)
    assert bytes_of(traced, "convolution") == [2 * (IMAGES + 32 + N * 8 * S * S)]
    # images, two weights, two biases: read as fp32, written as halves. What the convolution gives is one already.
    assert sorted(bytes_of(traced, "_to_copy")) == sorted(6 * n for n in (IMAGES, 24, 8, 320, 10))
    (linear,) = [op.bytes for op in traced.operators if op.name in ("addmm", "mm", "bmm")]
    assert linear >= 2 * (N * 8 * S * S + 320 + N * 8 * S * 10)
    assert linear <= 2 * (N * 8 * S * S + N * 8 * 320 + 10 + N * 8 * S * 10)


@pytest.mark.parametrize("task", ["inference", "train"])
def test_a_weight_is_cast_once_per_step(network: Network, task: str) -> None:
    body = "s.w(s.w(s.w(x.flatten(1, 2)))).mean(1)"
    traced = trace_of(network(f"Forward(lambda s, x: {body}, w=nn.Linear(32, 32))"), precision="amp_fp16", task=task)
    casts = [op.bytes for op in traced.operators if op.name == "_to_copy" and op.phase == "forward"]
    assert casts.count(6 * 32 * 32) == 1  # the weight
    assert casts.count(6 * 32) == 1  # the bias
    assert casts.count(6 * IMAGES) == 1  # the images; later calls take what the first one gave


def test_a_frozen_weight_is_cast_every_time(network: Network) -> None:
    # torch caches casts of leaves that require a gradient, and of nothing else (autocast_mode.cpp, cached_cast).
    model = network(
        "Forward(lambda s, x: s.w(s.w(x.flatten(1, 2))).mean(1), w=nn.Linear(32, 32).requires_grad_(False))"
    )
    traced = trace_of(model, precision="amp_fp16")
    assert bytes_of(traced, "_to_copy").count(6 * 32 * 32) == 2


def test_halves_of_weights_are_kept_for_the_backward_pass_and_no_longer(network: Network) -> None:
    model = network("nn.Sequential(nn.Flatten(), nn.Linear(3072, 256), nn.Linear(256, 10))")
    traced = trace_of(model, precision="amp_fp16", task="train")
    assert traced.curve is not None
    states = 4 * 4 * traced.params  # parameters, gradients, two moments
    assert traced.curve.totals[-1] <= 1.01 * states
    first = {phase: event for event, phase in traced.curve.phases}
    forward_end = traced.curve.totals[first["backward"] - 1]
    # the first layer's weight is not needed for a gradient of the images: its half may go; the images' half stays
    assert forward_end >= 3 * 4 * traced.params + 2 * IMAGES + 4 * IMAGES + 2 * 2560


@pytest.mark.parametrize("precision", HALVES)
def test_a_layer_norm_takes_and_gives_fp32(network: Network, precision: str) -> None:
    model = network("nn.Sequential(nn.Linear(32, 32), nn.LayerNorm(32), nn.Linear(32, 32))")
    full, mixed = (trace_of(model, precision=p) for p in ("fp32", precision))
    assert bytes_of(mixed, "native_layer_norm") == bytes_of(full, "native_layer_norm")
    # up before it, down after it: each one copy of the images' size
    assert bytes_of(mixed, "_to_copy").count(6 * IMAGES) == 3


def test_a_group_norm_takes_and_gives_fp32(network: Network) -> None:
    model = network("nn.Sequential(nn.Conv2d(3, 8, 1), nn.GroupNorm(2, 8), nn.ReLU())")
    full, mixed = (trace_of(model, precision=p) for p in ("fp32", "amp_fp16"))
    assert bytes_of(mixed, "native_group_norm") == bytes_of(full, "native_group_norm")
    assert bytes_of(mixed, "relu") == bytes_of(full, "relu")


def test_a_batch_norm_takes_and_gives_halves(network: Network) -> None:
    # It is on neither list: cuDNN's takes halves with fp32 statistics.
    model = network("nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU())")
    full, mixed = (trace_of(model, precision=p) for p in ("fp32", "amp_fp16"))
    assert 2 * bytes_of(mixed, "relu")[0] == bytes_of(full, "relu")[0]


def test_softmax_of_fp16_is_one_kernel_and_of_bf16_two(network: Network) -> None:
    model = network("Forward(lambda s, x: s.w(x).softmax(-1), w=nn.Conv2d(3, 3, 1))")
    fp16, bf16 = (trace_of(model, precision=p) for p in HALVES)
    assert bytes_of(fp16, "_softmax") == [(2 + 4) * IMAGES]
    assert bytes_of(bf16, "_softmax") == [(4 + 4) * IMAGES]
    assert bytes_of(fp16, "_to_copy").count(6 * IMAGES) == 1  # the images
    assert bytes_of(bf16, "_to_copy").count(6 * IMAGES) == 2  # and what the convolution gives


def test_softmax_of_fp32_stays(network: Network) -> None:
    traced = trace_of(network("Forward(lambda s, x: x.softmax(-1))"), precision="amp_fp16")
    assert names_of(traced) == ["_softmax"]
    assert bytes_of(traced, "_softmax") == [8 * IMAGES]


@pytest.mark.parametrize("precision", HALVES)
def test_attention_takes_halves(network: Network, precision: str) -> None:
    model = network("Forward(lambda s, x: F.scaled_dot_product_attention(x, x, x))")
    fused = trace_of(model, precision=precision)
    assert bytes_of(fused, "fused_attention") == [2 * 4 * IMAGES + 4 * N * 3 * S]
    assert trace_of(model, precision=precision, attention="math").macs_per_image == fused.macs_per_image


def test_the_loss_is_fp32(network: Network) -> None:
    model = network("nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))")
    full, mixed = (trace_of(model, precision=p, task="train") for p in ("fp32", "amp_fp16"))
    assert bytes_of(mixed, "_log_softmax") == bytes_of(full, "_log_softmax")


def test_gradients_of_parameters_are_fp32(network: Network) -> None:
    model = network("nn.Sequential(nn.Flatten(), nn.Linear(3072, 64), nn.Linear(64, 10))")
    full, mixed = (trace_of(model, precision=p, task="train").curve for p in ("fp32", "amp_bf16"))
    assert full is not None
    assert mixed is not None
    assert mixed.peak_phase == full.peak_phase == "optimizer"
    assert mixed.split["gradients"] == full.split["gradients"] == full.split["parameters"]


def test_an_einsum_takes_halves(network: Network) -> None:
    model = network("Forward(lambda s, x: torch.einsum('nchw,cd->ndhw', x, s.w), w=(3, 5))")
    full, mixed = (trace_of(model, precision=p) for p in ("fp32", "amp_fp16"))
    products = [[op.bytes for op in traced.operators if op.counted] for traced in (full, mixed)]
    assert products[0] == [2 * n for n in products[1]]
    assert mixed.macs_per_image == full.macs_per_image


# Of the operators that torch does not compose of others, autocast casts these too.


@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize("task", ["inference", "train"])
def test_attention_written_with_bmm(network: Network, precision: str, task: str) -> None:
    model = network(
        "Forward(lambda s, x: attend(s.p(x)).mean(1), p=Patches(16))",
        before="def attend(t):\n    return torch.bmm(torch.bmm(t, t.transpose(1, 2)).softmax(-1), t)\n",
    )
    full, mixed = (trace_of(model, precision=p, task=task) for p in ("fp32", precision))
    assert mixed.macs_per_image == full.macs_per_image
    assert [2 * moved for moved in bytes_of(mixed, "bmm")] == bytes_of(full, "bmm")


@pytest.mark.parametrize("precision", HALVES)
def test_multihead_attention_that_returns_its_weights(network: Network, precision: str) -> None:
    model = network(
        "Forward(lambda s, x: attend(s, s.p(x)), p=Patches(12), a=nn.MultiheadAttention(12, 3, batch_first=True))",
        before="def attend(s, t):\n    return s.a(t, t, t)[0]\n",
    )
    full, mixed = (trace_of(model, precision=p) for p in ("fp32", precision))
    assert mixed.macs_per_image == full.macs_per_image
    assert [2 * moved for moved in bytes_of(mixed, "bmm")[-2:]] == bytes_of(full, "bmm")[-2:]


@pytest.mark.parametrize(
    "layer",
    ["nn.Conv2d(3, 8, 3, padding='same')", "nn.Conv1d(3, 8, 3, padding='same')", "nn.ConvTranspose2d(3, 8, 2, 2)"],
)
def test_every_convolution_takes_halves(network: Network, layer: str) -> None:
    images = "x.flatten(2)" if "1d" in layer else "x"
    model = network(f"Forward(lambda s, x: s.conv({images}), conv={layer})")
    full, mixed = (trace_of(model, precision=p) for p in ("fp32", "amp_fp16"))
    assert 2 * bytes_of(mixed, "convolution")[0] == bytes_of(full, "convolution")[0]
