"""Pencil arithmetic: small networks whose every operator can be counted by hand, in closed form."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from visionbench.record.spec import Spec
from visionbench.tracing import Trace, call_cache, formulas, run
from visionbench.tracing.call_cache import Operator
from visionbench.tracing.formulas import KINDS, kind_of

Network = Callable[..., str]

N, S = 2, 32
IMAGES = N * 3 * S * S
FP32 = 4


def trace_of(model: str, **fields: object) -> Trace:
    return run(Spec(model=model, batch_size=N, image_size=S, **fields))  # type: ignore[arg-type]


def only(traced: Trace) -> Operator:
    (operator,) = traced.operators
    return operator


def of(traced: Trace, name: str) -> list[Operator]:
    return [op for op in traced.operators if op.name == name]


# Convolutions. MACs are output elements x what each of them takes; the docs of nn.Conv2d give the output's size.


@pytest.mark.parametrize(
    ("layer", "macs", "outputs", "kind"),
    [
        ("nn.Conv2d(3, 8, 3)", (8 * 30 * 30) * (3 * 9), 8 * 30 * 30, "conv"),
        ("nn.Conv2d(3, 8, 3, bias=False)", (8 * 30 * 30) * (3 * 9), 8 * 30 * 30, "conv"),
        ("nn.Conv2d(3, 8, 3, stride=2, padding=1)", (8 * 16 * 16) * (3 * 9), 8 * 16 * 16, "conv"),
        ("nn.Conv2d(3, 8, (3, 5), dilation=2)", (8 * 28 * 24) * (3 * 15), 8 * 28 * 24, "conv"),
        ("nn.Conv2d(3, 8, 3, padding='same')", (8 * 32 * 32) * (3 * 9), 8 * 32 * 32, "conv"),
        ("nn.Conv2d(3, 8, 3, padding=1, padding_mode='reflect')", (8 * 32 * 32) * (3 * 9), 8 * 32 * 32, "conv"),
        ("nn.Conv2d(3, 8, 1)", (8 * 32 * 32) * 3, 8 * 32 * 32, "conv"),
        ("nn.Conv2d(3, 3, 7, padding=3, groups=3)", (3 * 32 * 32) * 49, 3 * 32 * 32, "depthwise_conv"),
        ("nn.Conv2d(3, 6, 3, groups=3)", (6 * 30 * 30) * 9, 6 * 30 * 30, "depthwise_conv"),
        # A transposed convolution spreads each input element over C_out / groups x kernel outputs.
        ("nn.ConvTranspose2d(3, 8, 2, stride=2)", (3 * 32 * 32) * (8 * 4), 8 * 64 * 64, "conv"),
        ("nn.ConvTranspose2d(3, 3, 3, groups=3)", (3 * 32 * 32) * 9, 3 * 34 * 34, "depthwise_conv"),
        ("nn.ConvTranspose2d(3, 8, 3, stride=2, padding=1)", (3 * 32 * 32) * (8 * 9), 8 * 63 * 63, "conv"),
    ],
)
def test_a_convolution(network: Network, layer: str, macs: int, outputs: int, kind: str) -> None:
    traced = trace_of(network(layer))
    (conv,) = of(traced, "convolution")
    assert (conv.macs, conv.activations, conv.kind, conv.counted) == (N * macs, N * outputs, kind, True)
    assert (traced.macs_per_image, traced.activations_per_image) == (macs, outputs)


def test_a_grouped_convolution(network: Network) -> None:
    traced = trace_of(network("nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 12, 3, groups=4))"))
    full, grouped = traced.operators
    assert full.kind == "conv"
    assert (grouped.kind, grouped.macs) == ("grouped_conv", N * (12 * 30 * 30) * (8 // 4 * 9))


def test_a_transposed_convolution_with_one_output_and_two_inputs_per_group_is_grouped(network: Network) -> None:
    traced = trace_of(network("nn.Sequential(nn.Conv2d(3, 8, 1), nn.ConvTranspose2d(8, 4, 3, groups=4))"))
    assert traced.operators[1].kind == "grouped_conv"


def test_a_transposed_convolution_in_groups(network: Network) -> None:
    traced = trace_of(network("nn.Sequential(nn.Conv2d(3, 8, 1), nn.ConvTranspose2d(8, 12, 3, stride=2, groups=4))"))
    grouped = traced.operators[1]
    assert (grouped.kind, grouped.macs) == ("grouped_conv", N * (8 * 32 * 32) * (12 // 4 * 9))
    assert grouped.activations == N * 12 * 65 * 65


def test_convolutions_of_one_and_three_dimensions(network: Network) -> None:
    line = trace_of(network("Forward(lambda s, x: s.conv(x.flatten(2)), conv=nn.Conv1d(3, 8, 5, stride=4))"))
    assert only(line).macs == N * (8 * 255) * (3 * 5)
    volume = trace_of(network("Forward(lambda s, x: s.conv(x[:, None]), conv=nn.Conv3d(1, 4, 3))"))
    assert only(volume).macs == N * (4 * 1 * 30 * 30) * 27


# Matrix products. The images serve as (N, 3, 32, 32) matrices.


@pytest.mark.parametrize(
    ("forward", "parts", "macs", "outputs"),
    [
        # a linear layer on (N, 3, 32, 32) -> (N, 3, 32, 10), and on three dimensions
        ("s.w(x)", "w=nn.Linear(32, 10)", (3 * 32 * 10) * 32, 3 * 32 * 10),
        ("s.w(x.flatten(1, 2))", "w=nn.Linear(32, 10)", (96 * 10) * 32, 96 * 10),
        ("s.w(x.flatten(1, 2))", "w=nn.Linear(32, 10, bias=False)", (96 * 10) * 32, 96 * 10),
        ("s.w(x.flatten(1))", "w=nn.Linear(3072, 10)", 10 * 3072, 10),
        ("x @ s.w", "w=(32, 8)", (3 * 32 * 8) * 32, 3 * 32 * 8),
        ("x @ s.w", "w=(3, 32, 8)", (3 * 32 * 8) * 32, 3 * 32 * 8),  # broadcast over the batch
        ("x[:, :1] @ s.w", "w=(3, 32, 8)", (3 * 32 * 8) * 32, 3 * 32 * 8),  # broadcast over the channel
        ("x @ x.transpose(2, 3)", "", (3 * 32 * 32) * 32, 3 * 32 * 32),
        ("x @ s.w", "w=(32,)", (3 * 32) * 32, 3 * 32),  # matrix times vector
        ("torch.bmm(x[:, 0], x[:, 1])", "", (32 * 32) * 32, 32 * 32),
        ("torch.baddbmm(x[:, 2], x[:, 0], x[:, 1])", "", (32 * 32) * 32, 32 * 32),
        ("torch.einsum('nchw,cd->ndhw', x, s.w)", "w=(3, 5)", (5 * 32 * 32) * 3, 5 * 32 * 32),
        ("torch.einsum('nchw,nciw->nchi', x, x)", "", (3 * 32 * 32) * 32, 3 * 32 * 32),
        ("torch.tensordot(x, s.w, dims=([1, 2], [0, 1]))", "w=(3, 32, 4)", (32 * 4) * 96, 32 * 4),
    ],
)
def test_a_matrix_product(network: Network, forward: str, parts: str, macs: int, outputs: int) -> None:
    traced = trace_of(network(f"Forward(lambda s, x: {forward}, {parts})"))
    assert (traced.macs_per_image, traced.activations_per_image) == (macs, outputs)
    assert {op.kind for op in traced.operators if op.counted} == {"matmul"}


def test_an_einsum_of_three_is_two_products(network: Network) -> None:
    traced = trace_of(
        network("Forward(lambda s, x: torch.einsum('nchw,cd,de->nehw', x, s.a, s.b), a=(3, 8), b=(8, 5))")
    )
    assert traced.macs_per_image == 32 * 32 * (3 * 8 + 8 * 5)


def test_products_of_a_whole_batch(network: Network) -> None:
    vector = trace_of(network("Forward(lambda s, x: torch.mv(x.flatten(1), s.w), w=(3072,))"))
    assert only(vector).macs == N * 3072
    dot = trace_of(network("Forward(lambda s, x: torch.dot(x.flatten(), s.w), w=(6144,))"))
    assert (only(dot).macs, only(dot).activations) == (N * 3072, 1)


def test_a_batch_of_products_that_are_summed(network: Network) -> None:
    traced = trace_of(network("Forward(lambda s, x: torch.addbmm(s.w, x[:, 0], x[:, 1]), w=(32, 32))"))
    assert only(traced).macs == N * 32 * 32 * 32


def test_a_recurrent_network(network: Network) -> None:
    # Hochreiter & Schmidhuber 1997 as nn.LSTM documents it: four gates, each from the input and the last hidden state.
    traced = trace_of(network("Forward(lambda s, x: s.lstm(x[:, 0])[0], lstm=nn.LSTM(32, 8, batch_first=True))"))
    assert traced.macs_per_image == 32 * (4 * 8 * 32 + 4 * 8 * 8)


PACKED = "nn.utils.rnn.pack_padded_sequence(x[:, 0], {}, batch_first=True, enforce_sorted=False)"
SEQUENCES = {
    "packed by a list": (f"s.r({PACKED.format('[32, 16]')})[0].data", 24),
    "packed by a tensor": (f"s.r({PACKED.format('torch.full((2,), 32)')})[0].data", 32),
    "packed, one after another": ("s.r(nn.utils.rnn.pack_sequence([x[0, 0], x[1, 0, :8]]))[0].data", 20),
    "nested": ("s.r(torch.nested.as_nested_tensor(list(x[:, 0]), layout=torch.jagged)).to_padded_tensor(0.0)", 32),
}


@pytest.mark.parametrize("kind", SEQUENCES)
def test_sequences_of_several_lengths_cost_what_they_are_long(network: Network, kind: str) -> None:
    body, steps = SEQUENCES[kind]
    layer, macs = ("Linear", 32 * 8) if kind == "nested" else ("LSTM", 4 * 8 * (32 + 8))
    traced = trace_of(network(f"Forward(lambda s, x: {body}, r=nn.{layer}(32, 8))"))
    assert traced.macs_per_image == steps * macs


# Bytes: what a kernel reads plus what it writes.


@pytest.mark.parametrize(
    ("forward", "elements"),
    [
        ("x + s.w", 3 * IMAGES),  # two read, one written
        ("x + 1", 2 * IMAGES),
        ("x.relu()", 2 * IMAGES),
        ("x.clone()", 2 * IMAGES),
        ("F.relu(x, inplace=True)", 2 * IMAGES),
        ("x.add_(s.w)", 3 * IMAGES),
        ("torch.cat([x, s.w])", 4 * IMAGES),
        ("x + s.one", 2 * IMAGES + N),  # broadcast: read once
        ("x + s.one.expand(2, 3, 32, 32)", 2 * IMAGES + N),  # expanded by hand: no more than that
        ("x[:, :1] * 2", 2 * IMAGES // 3),  # a view is as large as what it shows
        ("x.permute(0, 2, 3, 1).contiguous()", 2 * IMAGES),
    ],
)
def test_bytes_of_one_operator(network: Network, forward: str, elements: int) -> None:
    model = network(f"Forward(lambda s, x: {forward}, w=({N}, 3, {S}, {S}), one=({N}, 1, 1, 1))")
    assert only(trace_of(model)).bytes == FP32 * elements


def test_bytes_of_a_convolution_and_a_linear_layer(network: Network) -> None:
    conv = only(trace_of(network("nn.Conv2d(3, 8, 3)")))
    assert conv.bytes == FP32 * (IMAGES + (8 * 27 + 8) + N * 8 * 30 * 30)
    linear = only(trace_of(network("Forward(lambda s, x: s.w(x.flatten(1)), w=nn.Linear(3072, 10))")))
    assert linear.bytes == FP32 * (IMAGES + (10 * 3072 + 10) + N * 10)


def test_bytes_of_integers_and_masks(network: Network) -> None:
    traced = trace_of(network("Forward(lambda s, x: x > 0)"))
    assert only(traced).bytes == FP32 * IMAGES + IMAGES


@pytest.mark.parametrize(
    ("forward", "elements"),
    [
        ("torch.zeros_like(x)", IMAGES),  # written only
        ("x.new_zeros(x.shape)", IMAGES),
        ("torch.empty_like(x).zero_()", IMAGES),
        ("torch.empty_like(x).normal_()", IMAGES),
        ("torch.empty_like(x).copy_(x)", 2 * IMAGES),
    ],
)
def test_what_is_only_written_is_not_read(network: Network, forward: str, elements: int) -> None:
    assert only(trace_of(network(f"Forward(lambda s, x: {forward})"))).bytes == FP32 * elements


def test_bytes_of_the_optimizer(network: Network) -> None:
    # exp_avg.lerp_(grad, 1 - beta1) reads both and writes the first.
    model = network("nn.Sequential(nn.Conv2d(3, 8, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())")
    traced = trace_of(model, task="train")
    (lerp,) = of(traced, "_foreach_lerp_")
    assert lerp.bytes == 3 * FP32 * traced.params


# Kinds, views, and what the rule does not count.


@pytest.mark.parametrize(
    ("forward", "kind"),
    [
        ("F.layer_norm(x, (32,))", "norm"),
        ("F.group_norm(x, 3)", "norm"),
        ("F.batch_norm(x, None, None, training=True)", "norm"),
        ("F.instance_norm(x)", "norm"),
        ("x.softmax(-1)", "softmax"),
        ("F.log_softmax(x, -1)", "softmax"),
        ("F.gelu(x)", "elementwise"),
        ("F.silu(x, inplace=True)", "elementwise"),
        ("x * 2", "elementwise"),
        ("torch.where(x > 0, x, x)", "elementwise"),
        ("x.mean((2, 3))", "reduction"),
        ("x.amax(1)", "reduction"),
        ("F.max_pool2d(x, 2)", "pool"),
        ("F.avg_pool2d(x, 2)", "pool"),
        ("F.interpolate(x, scale_factor=2)", "pool"),
        ("F.pad(x, (1, 1))", "copy"),
        ("x.roll(1, 2)", "copy"),
        ("x.to(torch.float16)", "copy"),
        ("F.unfold(x, 4, stride=4)", "copy"),
        ("F.pixel_unshuffle(x, 2)", "copy"),
        ("torch.fft.rfft2(x).real", "other"),
        ("torch.cdist(x[:, 0], x[:, 1])", "other"),
        ("torch.empty_like(x).normal_()", "elementwise"),
    ],
)
def test_the_kind_of_what_is_not_counted(network: Network, forward: str, kind: str) -> None:
    traced = trace_of(network(f"Forward(lambda s, x: {forward})"))
    last = traced.operators[-1]
    assert (last.kind, last.macs, last.activations, last.counted) == (kind, 0, 0, False)
    assert traced.macs_per_image == 0
    assert last in traced.uncounted()


def test_every_kind_is_on_the_list(network: Network) -> None:
    traced = trace_of("timm:swin_tiny_patch4_window7_224")
    assert {op.kind for op in traced.operators} <= set(KINDS)
    assert "other" not in {op.kind for op in traced.operators}


def test_views_are_counted_apart(network: Network) -> None:
    traced = trace_of(
        network("Forward(lambda s, x: x.transpose(2, 3).flatten(2).unsqueeze(0)[0, :, 1:].chunk(2)[0] * 2)")
    )
    # transpose(2, 3).flatten(2) cannot be a view: that one copies.
    assert [op.name for op in traced.operators] == ["clone", "mul"]
    assert traced.views >= 4
    nothing = trace_of(network("Forward(lambda s, x: x.flatten(2).view(2, 3, 32, 32)[:, 1:].detach())"))
    assert nothing.operators == ()
    assert nothing.views >= 3
    assert nothing.bytes == 0


def test_allocation_is_no_operator(network: Network) -> None:
    traced = trace_of(network("Forward(lambda s, x: [torch.empty_like(x), x.new_empty(3), x][-1] + 1)"))
    assert [op.name for op in traced.operators] == ["add"]


def test_uncounted_operators_are_those_without_a_formula(network: Network) -> None:
    traced = trace_of(
        network("nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())")
    )
    assert [op.kind for op in traced.uncounted()] == ["norm", "elementwise", "pool"]
    assert all(op in traced.operators for op in traced.uncounted())


CUSTOM = """
@torch.library.custom_op("written_by_a_test::{name}", mutates_args=())
def doubled(x: torch.Tensor) -> torch.Tensor:
    return 2 * x


@doubled.register_fake
def _(x):
    return torch.empty_like(x)
"""


def test_an_operator_nobody_knows_is_not_lost(network: Network) -> None:
    expression = "Forward(lambda s, x: doubled(doubled(s.conv(x))), conv=nn.Conv2d(3, 8, 1))"
    traced = trace_of(network(expression, before=CUSTOM.format(name="doubled")))
    assert [op.name for op in traced.operators] == ["convolution", *["written_by_a_test.doubled"] * 2]
    assert [op.kind for op in traced.operators[1:]] == ["other", "other"]
    assert traced.uncounted() == traced.operators[1:]
    assert [op.bytes for op in traced.uncounted()] == [2 * FP32 * N * 8 * S * S] * 2


def test_the_layer_that_called(network: Network) -> None:
    traced = trace_of(network("nn.Sequential(nn.Conv2d(3, 8, 1), nn.Sequential(nn.ReLU(), nn.Conv2d(8, 8, 1)))"))
    assert [(op.name, op.module) for op in traced.operators] == [
        ("convolution", "0"),
        ("relu", "1.0"),
        ("convolution", "1.1"),
    ]
    outside = trace_of(network("Forward(lambda s, x: s.a(x) + s.b(x), a=nn.Conv2d(3, 4, 1), b=nn.Conv2d(3, 4, 1))"))
    assert [(op.name, op.module) for op in outside.operators] == [
        ("convolution", "a"),
        ("convolution", "b"),
        ("add", ""),
    ]


def test_a_repeated_call_costs_what_the_first_one_did(network: Network) -> None:
    once = trace_of(network("Forward(lambda s, x: F.gelu(s.conv(x)), conv=nn.Conv2d(3, 3, 3, padding=1))"))
    body = "F.gelu(s.conv(F.gelu(s.conv(F.gelu(s.conv(x))))))"
    thrice = trace_of(network(f"Forward(lambda s, x: {body}, conv=nn.Conv2d(3, 3, 3, padding=1))"))
    assert thrice.operators == once.operators * 3
    assert thrice.params == once.params


def test_tied_parameters_count_once(network: Network) -> None:
    tied = network("Forward(lambda s, x: s.b(s.a(x)), a=LINEAR, b=LINEAR)", before="LINEAR = nn.Linear(32, 32)")
    assert trace_of(tied).params == 32 * 32 + 32
    assert trace_of(tied).macs_per_image == 2 * prod((3, 32, 32, 32))


def test_buffers_are_no_parameters(network: Network) -> None:
    traced = trace_of(network("nn.BatchNorm2d(3)"))
    assert (traced.params, traced.buffers) == (6, 7)  # scale and shift; mean, variance and the number of batches
    assert (traced.param_bytes, traced.buffer_bytes) == (24, 6 * 4 + 8)


ACTIVATIONS = """
    hardtanh hardtanh_ hardtanh_backward elu elu_ elu_backward celu celu_ selu selu_ hardsigmoid hardsigmoid_
    hardsigmoid_backward leaky_relu leaky_relu_ leaky_relu_backward gelu_ gelu_backward hardswish hardswish_
    hardswish_backward mish_ mish_backward softplus_backward glu glu_backward silu_ threshold_backward abs_ rsub
    rrelu_with_noise_ log_sigmoid_backward mse_loss huber_loss_backward
"""


@pytest.mark.parametrize("name", ACTIVATIONS.split())
def test_an_activation_is_known_by_name_in_every_torch(name: str) -> None:
    packet = getattr(torch.ops.aten, name)
    overload = getattr(packet, packet.overloads()[0])
    untagged = SimpleNamespace(overloadpacket=packet, namespace="aten", tags=())  # as older releases have them
    assert kind_of(untagged) == kind_of(overload) == "elementwise"


@pytest.mark.parametrize("task", ["inference", "train"])
@pytest.mark.parametrize("model", ["timm:mobilenetv2_100", "timm:mobilenetv3_large_100", "timm:efficientnet_b0",
                                   "timm:swin_tiny_patch4_window7_224"])  # fmt: skip
def test_nothing_of_an_anchor_depends_on_a_tag(monkeypatch: pytest.MonkeyPatch, model: str, task: str) -> None:
    plain = formulas.kind_of

    def untagged(func: Any) -> str:
        kind = plain(SimpleNamespace(overloadpacket=func.overloadpacket, namespace=func.namespace, tags=()))
        assert kind == plain(func), func
        return kind

    monkeypatch.setattr(call_cache, "kind_of", untagged)
    traced = run(Spec(model=model, task=task, image_size=224))  # type: ignore[arg-type]
    assert not [operator.name for operator in traced.operators if operator.kind == "other"]
