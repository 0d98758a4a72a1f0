"""Attention: the same MACs however it is computed, in closed form, with all the options torch takes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from visionbench.record.spec import Spec
from visionbench.tracing import Trace, run

Network = Callable[..., str]

N, S = 2, 32
TOKENS = (S // 8) ** 2
"""`Patches` cuts the image into this many tokens."""
WIDTH, HEADS = 12, 3
DEPTH = WIDTH // HEADS

STEM = TOKENS * WIDTH * 3 * 64
"""MACs of `Patches(12)`, one image."""
PRODUCTS = TOKENS * TOKENS * 2 * WIDTH
"""Q K^T and its product with V over all heads (Vaswani et al. 2017, section 3.2.1): N N (d + d) MACs per head."""


def trace_of(model: str, **fields: object) -> Trace:
    return run(Spec(model=model, batch_size=N, image_size=S, **fields))  # type: ignore[arg-type]


def names_of(traced: Trace) -> list[str]:
    return [op.name for op in traced.operators]


# q, k, v are (N, heads, tokens, depth): the same tensor three times is enough for counting.
SPLIT = f"s.p(x).unflatten(2, ({HEADS}, {DEPTH})).transpose(1, 2)"


def attention(network: Network, call: str, **parts: str) -> str:
    """A network that evaluates `call`, in which q is (N, heads, tokens, depth), and makes 10 classes of its average."""
    more = "".join(f", {name}={part}" for name, part in parts.items())
    before = f"def attend(s, q):\n    return {call}\n"
    expression = (
        f"Forward(lambda s, x: attend(s, {SPLIT}).mean((1, 2)) @ s.head, p=Patches({WIDTH}), head=({DEPTH}, 10){more})"
    )
    return network(expression, before=before)


HEAD = DEPTH * 10


@pytest.mark.parametrize(
    "options",
    [
        "",
        ", scale=0.5",
        ", is_causal=True",
        ", dropout_p=0.1",
        ", attn_mask=s.mask",
        ", attn_mask=s.mask > 0",
        ", attn_mask=s.mask, dropout_p=0.5, scale=2.0",
    ],
)
@pytest.mark.parametrize("kind", ["fused", "math"])
def test_every_option_counts_the_same(network: Network, options: str, kind: str) -> None:
    model = attention(network, f"F.scaled_dot_product_attention(q, q, q{options})", mask=f"({TOKENS}, {TOKENS})")
    traced = trace_of(model, attention=kind)
    assert traced.macs_per_image == STEM + PRODUCTS + HEAD
    assert traced.activations_per_image == TOKENS * WIDTH + HEADS * TOKENS * (TOKENS + DEPTH) + 10
    assert ("fused_attention" in names_of(traced)) == (kind == "fused")
    assert ("bmm" in names_of(traced)) == (kind == "math")


def test_a_fused_kernel_is_one_operator_that_keeps_no_matrix(network: Network) -> None:
    traced = trace_of(attention(network, "F.scaled_dot_product_attention(q, q, q)"))
    (fused,) = [op for op in traced.operators if op.kind == "attention"]
    assert (fused.name, fused.counted, fused.macs) == ("fused_attention", True, N * PRODUCTS)
    # q, k, v and the output, and one fp32 log-sum-exp per query and head (Dao et al. 2022, algorithm 1)
    assert fused.bytes == 4 * N * (4 * TOKENS * WIDTH + HEADS * TOKENS)


@pytest.mark.parametrize("kind", ["fused", "math"])
def test_queries_and_values_of_their_own_lengths(network: Network, kind: str) -> None:
    # 5 queries against all keys, values of depth 2
    model = attention(network, "F.scaled_dot_product_attention(q[:, :, :5], q, q[..., :2]).repeat(1, 1, 1, 2)")
    traced = trace_of(model, attention=kind)
    assert traced.macs_per_image == STEM + HEADS * 5 * TOKENS * (DEPTH + 2) + HEAD


@pytest.mark.parametrize("kind", ["fused", "math"])
def test_grouped_queries(network: Network, kind: str) -> None:
    # Ainslie et al. 2023: 3 heads of queries share one of keys and values; the work is that of 3 heads.
    model = attention(network, "F.scaled_dot_product_attention(q, q[:, :1], q[:, :1], enable_gqa=True)")
    for task, steps in (("inference", 1), ("train", 3)):
        traced = trace_of(model, attention=kind, task=task)
        forward = sum(op.macs for op in traced.operators if op.phase == "forward")
        assert forward == N * (STEM + PRODUCTS + HEAD)
        assert forward <= traced.macs_per_image * N <= steps * forward


@pytest.mark.parametrize("view", ["q[:, None]", "q[0]"])
def test_other_than_four_dimensions_have_no_fused_kernel(network: Network, view: str) -> None:
    model = attention(
        network, f"F.scaled_dot_product_attention({view}, {view}, {view}).view(-1, {HEADS}, {TOKENS}, {DEPTH})"
    )
    fused, math = (trace_of(model, attention=kind) for kind in ("fused", "math"))
    assert "fused_attention" not in names_of(fused)
    assert names_of(fused) == names_of(math)
    assert fused.macs_per_image == math.macs_per_image


def test_forward_macs_of_whole_models_do_not_depend_on_the_kernel() -> None:
    for model in ("timm:deit_tiny_patch16_224", "timm:swin_tiny_patch4_window7_224", "timm:swinv2_tiny_window8_256"):
        size = 256 if "256" in model else 224
        fused, math = (run(Spec(model=model, image_size=size, attention=kind)) for kind in ("fused", "math"))
        assert fused.macs_per_image == math.macs_per_image
        assert fused.activations_per_image == math.activations_per_image
        assert fused.params == math.params


# Layers of torch that have a fast path of their own in eval mode, which most counters see as nothing.

PROJECTIONS = TOKENS * WIDTH * 4 * WIDTH
"""Query, key, value and output projection of `nn.MultiheadAttention`."""


@pytest.mark.parametrize("kind", ["fused", "math"])
@pytest.mark.parametrize("weights", [False, True])
def test_multihead_attention_in_eval(network: Network, kind: str, weights: bool) -> None:
    model = network(
        "Forward(lambda s, x: attend(s, s.p(x)), p=Patches(12), a=nn.MultiheadAttention(12, 3, batch_first=True))",
        before=f"def attend(s, t):\n    return s.a(t, t, t, need_weights={weights})[0]\n",
    )
    traced = trace_of(model, attention=kind)
    assert traced.macs_per_image == STEM + PROJECTIONS + PRODUCTS
    assert traced.params == (12 * 3 * 64 + 12) + 4 * (12 * 12 + 12)


@pytest.mark.parametrize("kind", ["fused", "math"])
@pytest.mark.parametrize("norm_first", [False, True])
def test_a_transformer_encoder_layer_in_eval(network: Network, kind: str, norm_first: bool) -> None:
    layer = f"nn.TransformerEncoderLayer(12, 3, 20, batch_first=True, norm_first={norm_first})"
    traced = trace_of(network(f"nn.Sequential(Patches(12), {layer})"), attention=kind)
    assert traced.macs_per_image == STEM + PROJECTIONS + PRODUCTS + TOKENS * 2 * 12 * 20
    assert len([op for op in traced.operators if op.kind == "norm"]) == 2


def test_a_transformer_encoder_in_eval(network: Network) -> None:
    layer = "nn.TransformerEncoderLayer(12, 3, 20, batch_first=True)"
    traced = trace_of(
        network(f"nn.Sequential(Patches(12), nn.TransformerEncoder({layer}, 4, enable_nested_tensor=False))")
    )
    assert traced.macs_per_image == STEM + 4 * (PROJECTIONS + PRODUCTS + TOKENS * 2 * 12 * 20)


# Backward.


def test_backward_of_both_kernels(network: Network) -> None:
    model = attention(network, "F.scaled_dot_product_attention(q, q, q)")
    fused, math = (trace_of(model, attention=kind, task="train") for kind in ("fused", "math"))
    backward = {
        kind: sum(op.macs for op in traced.operators if op.phase == "backward")
        for kind, traced in (("fused", fused), ("math", math))
    }
    others = N * (STEM + 2 * HEAD)  # the stem needs no gradient of the images
    assert backward["math"] == others + 2 * N * PRODUCTS  # each product has two gradients, each as large as itself
    assert backward["fused"] == others + 5 * N * PRODUCTS // 2  # and Q K^T once more (Dao et al. 2022, algorithm 4)


@pytest.mark.parametrize("kind", ["fused", "math"])
def test_a_learned_bias_has_a_gradient(network: Network, kind: str) -> None:
    model = attention(
        network, "F.scaled_dot_product_attention(q, q, q, attn_mask=s.bias)", bias=f"(1, {HEADS}, {TOKENS}, {TOKENS})"
    )
    traced = trace_of(model, attention=kind, task="train")
    assert traced.curve is not None
    # Every parameter has its gradient in the optimizer's step: the weights' blocks of 512 bytes and the bias's own.
    bias = 4 * HEADS * TOKENS * TOKENS
    without = trace_of(attention(network, "F.scaled_dot_product_attention(q, q, q)"), attention=kind, task="train")
    assert without.curve is not None
    assert (traced.params - without.params) * 4 == bias
    assert traced.curve.split["parameters"] - without.curve.split["parameters"] == bias
    assert traced.curve.totals[-1] - without.curve.totals[-1] in (
        2 * bias,
        4 * bias,
    )  # itself, its gradient (and two moments)


def test_fused_attention_needs_less_memory_than_math() -> None:
    spec = {"model": "timm:deit_tiny_patch16_224", "task": "train", "batch_size": 8}
    fused, math = (run(Spec(**spec, attention=kind)).curve for kind in ("fused", "math"))  # type: ignore[arg-type]
    assert fused is not None
    assert math is not None
    matrices = 12 * 8 * 3 * 197 * 197 * 4  # the softmax of 12 blocks, 3 heads, fp32
    assert math.peak - fused.peak > 0.5 * matrices


def test_the_output_of_a_fused_kernel_is_reshaped_without_a_copy() -> None:
    traced = run(Spec(model="timm:deit_tiny_patch16_224"))
    assert "fused_attention" in names_of(traced)
    assert "clone" not in names_of(traced)
