"""fvcore agrees on real tensors; and where it does not, the operator that explains it is named."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from visionbench.models import ModelError
from visionbench.record.spec import Spec
from visionbench.tracing.second_opinion import Opinion, second_opinion

Network = Callable[..., str]

AGREED = [
    "timm:convnext_tiny",
    "timm:deit_small_patch16_224",
    pytest.param("timm:swin_tiny_patch4_window7_224", marks=pytest.mark.slow),
    "timm:resnet50",
    "paper:convnext_iso_small",
]


def opinion_of(model: str, size: int = 32) -> Opinion:
    return second_opinion(Spec(model=model, image_size=size))


@pytest.mark.parametrize("model", AGREED)
def test_fvcore_agrees(model: str) -> None:
    opinion = opinion_of(model, 224)
    assert opinion.agrees
    # fvcore counts norms and pools on top, and nothing else.
    assert {d.operator for d in opinion.differences} <= {"batch_norm", "layer_norm", "adaptive_avg_pool2d"}
    assert opinion.theirs - opinion.ours == sum(d.theirs for d in opinion.differences) > 0
    assert all(d.ours == 0 and d.reason for d in opinion.differences)


def test_it_agrees_on_fused_attention_in_every_form(network: Network) -> None:
    for call in (
        "x, x, x",
        "x, x, x, is_causal=True",
        "x[:, :, :5], x, x",
        "x.repeat(1, 2, 1, 1), x, x, enable_gqa=True",
    ):
        opinion = opinion_of(network(f"Forward(lambda s, x: F.scaled_dot_product_attention({call}))"))
        assert opinion.agrees
        assert opinion.ours == opinion.theirs > 0
        assert opinion.differences == ()


def test_it_agrees_on_torchs_transformer(network: Network) -> None:
    opinion = opinion_of(network("nn.Sequential(Patches(12), nn.TransformerEncoderLayer(12, 3, 20, batch_first=True))"))
    assert opinion.agrees
    tokens = 4 * 4
    assert opinion.ours == tokens * (12 * 3 * 64 + 4 * 12 * 12 + 2 * 12 * 20) + tokens * tokens * 2 * 12
    assert [d.operator for d in opinion.differences] == ["layer_norm"]


def test_it_agrees_on_products_and_convolutions_of_all_sorts(network: Network) -> None:
    layers = (
        "nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8), "
        "nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=2), "
        "nn.ConvTranspose2d(8, 4, 2, 2), nn.Linear(32, 7), nn.Flatten(2), nn.Linear(224, 5, bias=False)"
    )
    opinion = opinion_of(network(f"nn.Sequential({layers})"))
    assert opinion.ours == opinion.theirs
    assert opinion.differences == ()


def test_it_is_about_one_image_of_a_forward_pass(network: Network) -> None:
    model = network("nn.Conv2d(3, 8, 1)")
    opinion = second_opinion(Spec(model=model, task="train", batch_size=16, image_size=32, precision="amp_fp16"))
    assert opinion.ours == opinion.theirs == 24 * 32 * 32
    assert opinion.spec == Spec(model=model, image_size=32)


UNKNOWN = {
    "baddbmm": "torch.baddbmm(x[:, 0], x[:, 1], x[:, 2])",
    "mv": "torch.mv(x[0, 0], s.w)",
}
"""Products that fvcore passes over."""


@pytest.mark.parametrize("operator", UNKNOWN)
def test_it_disagrees_where_fvcore_does_not_look(network: Network, operator: str) -> None:
    opinion = opinion_of(network(f"Forward(lambda s, x: {UNKNOWN[operator]}, w=(32,))"))
    assert not opinion.agrees
    assert opinion.ours > opinion.theirs == 0
    (difference,) = opinion.differences
    assert (difference.operator, difference.ours, difference.theirs) == ("matmul", opinion.ours, 0)


@pytest.mark.parametrize("operator", UNKNOWN)
def test_the_operator_that_explains_a_difference_is_named(network: Network, operator: str) -> None:
    opinion = opinion_of(network(f"Forward(lambda s, x: {UNKNOWN[operator]}, w=(32,))"))
    assert operator in " ".join(f"{d.operator} {d.reason}" for d in opinion.differences)


def test_an_einsum_of_three_is_counted_otherwise_by_fvcore(network: Network) -> None:
    # numpy's path optimizer, which fvcore asks, contracts the two small ones first; torch goes from left to right.
    opinion = opinion_of(
        network("Forward(lambda s, x: torch.einsum('nchw,cd,de->nehw', x, s.a, s.b), a=(3, 8), b=(8, 5))")
    )
    assert not opinion.agrees
    assert [d.operator for d in opinion.differences] == ["matmul"]
    assert opinion.ours == math.prod((32, 32)) * (3 * 8 + 8 * 5)


def test_what_neither_counts_is_no_difference(network: Network) -> None:
    opinion = opinion_of(network("Forward(lambda s, x: F.fold(F.unfold(x, 8, stride=8), (32, 32), 8, stride=8))"))
    assert opinion.agrees
    assert (opinion.ours, opinion.theirs, opinion.differences) == (0, 0, ())


def test_a_product_that_both_pass_over_is_named(network: Network) -> None:
    opinion = opinion_of(network("Forward(lambda s, x: s.b(x[:, 0], x[:, 1]), b=nn.Bilinear(32, 32, 4))"))
    assert opinion.ours == 32 * 4 * 32 * 32


@pytest.mark.slow
@pytest.mark.parametrize("built", ["Forward(lambda s, x: x @ s.w, w=(32,))", "torch.compile(nn.Conv2d(3, 8, 3))"])
def test_what_fvcore_cannot_count_at_all_is_no_difference(network: Network, built: str) -> None:
    opinion = opinion_of(network(built))
    assert opinion.trouble
    assert (opinion.agrees, opinion.differences) == (False, ())


def test_a_size_that_the_model_refuses() -> None:
    with pytest.raises(ModelError, match="refuses image size 16"):
        opinion_of("paper:convnext_iso_small", 16)
