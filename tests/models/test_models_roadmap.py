"""The roadmap against Tables 10 and 11, against pencil arithmetic, and its two ends against timm."""

from dataclasses import fields
from functools import cache

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tests.roadmap_rows import ROWS, Row
from visionbench.models import build
from visionbench.models.roadmap import RUNGS
from visionbench.tracing.skeleton import skeleton

# Label and printed "FLOPs" in G (multiply-adds) at 224 pixels; arXiv 2201.03545v2 Tables 10 and 11.
TABLE10 = [
    ("ResNet-50 (PyTorch)", 4.09),
    ("ResNet-50 (enhanced recipe)", 4.09),
    ("stage ratio (3,3,9,3)", 4.53),
    ('"patchify" stem 4x4/4', 4.42),
    ("depthwise conv", 2.35),
    ("increase width 64->96", 5.27),
    ("inverting dimensions", 4.64),
    ("move up depthwise conv", 4.07),
    ("kernel size 5", 4.10),
    ("kernel size 7", 4.15),
    ("kernel size 9", 4.21),
    ("kernel size 11", 4.29),
    ("ReLU->GELU (k=7)", 4.15),
    ("fewer activations", 4.15),
    ("fewer norms", 4.15),
    ("BN->LN", 4.46),
    ("separate d.s. conv (ConvNeXt-T)", 4.49),
    ("Swin-T", 4.50),
]
TABLE11 = [
    ("ResNet-200 (original recipe)", 15.01),
    ("ResNet-200 (enhanced recipe)", 15.01),
    ("stage ratio and increase width", 14.52),
    ('"patchify" stem', 14.38),
    ("depthwise conv", 7.23),
    ("increase width 84->128", 16.76),
    ("inverting dimensions", 15.68),
    ("move up depthwise conv", 14.63),
    ("kernel size 5", 14.70),
    ("kernel size 7", 14.81),
    ("kernel size 9", 14.95),
    ("kernel size 11", 15.13),
    ("ReLU->GELU (k=7)", 14.81),
    ("fewer activations", 14.81),
    ("fewer norms", 14.81),
    ("BN->LN", 14.81),
    ("separate d.s. conv (ConvNeXt-B)", 15.35),
    ("Swin-B", 15.43),
]
PRINTED = {(10, label): gmacs for label, gmacs in TABLE10} | {(11, label): gmacs for label, gmacs in TABLE11}

# What the networks of these rows really cost: the printed column is shifted down by one row here.
SLIPS = {
    (10, "BN->LN"): 4.15,
    (10, "separate d.s. conv (ConvNeXt-T)"): 4.46,
    (10, "Swin-T"): 4.49,
}


@cache
def on_meta(name: str) -> nn.Module:
    return skeleton(name, 224)


def params(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@cache
def macs(name: str) -> int:
    """Multiply-adds of convolutions, linear layers and both attention products, one 224-pixel image."""
    model = on_meta(name).eval()
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            setattr(module, "fused_attn", False)  # noqa: B010  the counter does not know every fused operator
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, 224, 224, device="meta"))
    flops: int = counter.get_total_flops()
    return flops // 2


def test_rows_carry_the_printed_labels_in_the_printed_order() -> None:
    assert [(row.table, row.label) for row in ROWS] == list(PRINTED)


@pytest.mark.parametrize(
    "row",
    [pytest.param(row, marks=pytest.mark.slow) if row.table == 11 else row for row in ROWS],
    ids=lambda row: f"{row.table}-{row.label}",
)
def test_printed_gmacs_to_two_decimals(row: Row) -> None:
    key = (row.table, row.label)
    assert round(macs(row.model) / 1e9, 2) == SLIPS.get(key, PRINTED[key])


def test_the_slips_are_three_and_shifted_by_one_row() -> None:
    assert all(SLIPS[key] != PRINTED[key] for key in SLIPS)
    assert [PRINTED[key] for key in SLIPS][:2] == [SLIPS[key] for key in SLIPS][1:]


POSITIONS = (56 * 56, 28 * 28, 14 * 14, 7 * 7)


def bottleneck_macs(depths: tuple[int, ...], w: int, *, depthwise: bool, patchify: bool) -> int:
    total = 56 * 56 * 4 * 4 * 3 * w if patchify else 112 * 112 * 7 * 7 * 3 * w
    c_in = w
    for i, (p, depth) in enumerate(zip(POSITIONS, depths, strict=True)):
        inner, out = w * 2**i, 4 * w * 2**i
        before_stride = p if i == 0 else 4 * p
        spatial = 9 * inner * (1 if depthwise else inner)
        total += before_stride * c_in * inner + p * (spatial + inner * out + c_in * out)
        total += (depth - 1) * p * (out * inner + spatial + inner * out)
        c_in = out
    return total + 1000 * c_in


def inverted_macs(depths: tuple[int, ...], w: int) -> int:
    total = 56 * 56 * 48 * w
    for i, (p, depth) in enumerate(zip(POSITIONS, depths, strict=True)):
        c = w * 2**i
        equal = p * (2 * 4 * c * c + 9 * 4 * c)
        first = equal if i == 0 else 4 * p * (c // 2) * 4 * c + p * (9 * 4 * c + 4 * c * c + (c // 2) * c)
        total += first + (depth - 1) * equal
    return total + 1000 * 8 * w


def moved_up_macs(depths: tuple[int, ...], w: int, k: int) -> int:
    total = 56 * 56 * 48 * w
    for i, (p, depth) in enumerate(zip(POSITIONS, depths, strict=True)):
        c, half = w * 2**i, w * 2**i // 2
        equal = p * (k * k * c + 2 * 4 * c * c)
        first = equal if i == 0 else p * (k * k * half + half * 4 * c + 4 * c * c + half * c)
        total += first + (depth - 1) * equal
    return total + 1000 * 8 * w


def convnext_macs(depths: tuple[int, ...], w: int) -> int:
    total = 56 * 56 * 48 * w
    for i, (p, depth) in enumerate(zip(POSITIONS, depths, strict=True)):
        c = w * 2**i
        total += depth * p * (49 * c + 8 * c * c) + (p * 2 * 2 * (c // 2) * c if i else 0)
    return total + 1000 * 8 * w


T, B = (3, 3, 9, 3), (3, 3, 27, 3)
PENCIL_MACS = {
    "t_resnet50": bottleneck_macs((3, 4, 6, 3), 64, depthwise=False, patchify=False),
    "t_stage_ratio": bottleneck_macs(T, 64, depthwise=False, patchify=False),
    "t_patchify": bottleneck_macs(T, 64, depthwise=False, patchify=True),
    "t_depthwise": bottleneck_macs(T, 64, depthwise=True, patchify=True),
    "t_width": bottleneck_macs(T, 96, depthwise=True, patchify=True),
    "t_inverted": inverted_macs(T, 96),
    "t_move_up": moved_up_macs(T, 96, 3),
    "t_kernel11": moved_up_macs(T, 96, 11),
    "t_layer_norm": moved_up_macs(T, 96, 7),
    "t_separate_downsampling": convnext_macs(T, 96),
    "b_resnet200": bottleneck_macs((3, 24, 36, 3), 64, depthwise=False, patchify=False),
    "b_stage_ratio": bottleneck_macs(B, 84, depthwise=False, patchify=False),
    "b_width": bottleneck_macs(B, 128, depthwise=True, patchify=True),
    "b_inverted": inverted_macs(B, 128),
    "b_kernel5": moved_up_macs(B, 128, 5),
    "b_separate_downsampling": convnext_macs(B, 128),
}


@pytest.mark.parametrize("step", PENCIL_MACS)
def test_macs_are_the_pencils(step: str) -> None:
    assert macs(f"paper:roadmap_{step}") == PENCIL_MACS[step]


def moved_up_params(depths: tuple[int, ...], w: int, k: int, *, norms: int, bn: bool) -> int:
    """`norms` per branch (3, or 1 after the depthwise); a convolution has a bias unless a BN follows it."""
    total = 48 * w + w
    for i, depth in enumerate(depths):
        c = w * 2**i
        for block in range(depth):
            c_in = c // 2 if i and not block else c
            weights = k * k * c_in + 4 * c * c_in + 4 * c * c
            affine = 2 * (c_in + (4 * c + c) * (norms == 3))
            biases = (0 if bn else c_in) + (4 * c + c) * (norms == 1)
            projection = c_in * c + 2 * c + (0 if bn else c) if c_in != c else 0
            total += weights + affine + biases + projection
    return total + 1000 * 8 * w + 1000


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("t_move_up", moved_up_params(T, 96, 3, norms=3, bn=True)),
        ("t_fewer_activations", moved_up_params(T, 96, 7, norms=3, bn=True)),
        ("t_fewer_norms", moved_up_params(T, 96, 7, norms=1, bn=True)),
        ("t_layer_norm", moved_up_params(T, 96, 7, norms=1, bn=False)),
        ("b_kernel9", moved_up_params(B, 128, 9, norms=3, bn=True)),
        ("b_layer_norm", moved_up_params(B, 128, 7, norms=1, bn=False)),
    ],
)
def test_params_are_the_pencils(step: str, expected: int) -> None:
    assert params(on_meta(f"paper:roadmap_{step}")) == expected


@pytest.mark.parametrize(
    ("ours", "theirs", "count"),
    [
        ("t_resnet50", "resnet50", 25_557_032),
        ("t_separate_downsampling", "convnext_tiny", 28_589_128),
        ("b_resnet200", "resnet200", 64_673_832),
        ("b_separate_downsampling", "convnext_base", 88_591_464),
    ],
)
def test_the_ends_of_the_road_have_timms_params(ours: str, theirs: str, count: int) -> None:
    assert params(on_meta(f"paper:roadmap_{ours}")) == params(on_meta(f"timm:{theirs}")) == count


def timms_parameters(model: nn.Module) -> list[Tensor]:
    """timm's parameters in our order: each block's layer scale, which timm registers first, comes last."""
    ordered: list[Tensor] = []
    for name, parameter in model.named_parameters():
        if name.endswith(".gamma"):
            late = parameter
            continue
        ordered.append(parameter)
        if name.endswith("mlp.fc2.bias"):
            ordered.append(late)
    return ordered


@pytest.mark.parametrize(("ours", "theirs"), [("t_resnet50", "resnet50"), ("t_separate_downsampling", "convnext_tiny")])
@pytest.mark.slow
def test_the_ends_of_the_road_compute_what_timm_computes(ours: str, theirs: str) -> None:
    torch.manual_seed(0)
    mine, other = build(f"paper:roadmap_{ours}", 224).eval(), timm.create_model(theirs).eval()
    for a, b in zip(mine.parameters(), timms_parameters(other), strict=True):
        assert a.shape == b.shape
        # timm starts some norms and scales at (almost) zero, which would hide their branches.
        a.data.copy_(b.data.normal_(std=0.05).add_(1.0 if b.ndim == 1 else 0.0))
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(mine(images), other(images), rtol=1e-3, atol=1e-3)


def fields_that_differ(a: str, b: str) -> set[str]:
    one, two = RUNGS[f"roadmap_{a}"], RUNGS[f"roadmap_{b}"]
    return {f.name for f in fields(one) if getattr(one, f.name) != getattr(two, f.name)} - {"labels"}


@pytest.mark.parametrize(
    ("step", "after", "changed"),
    [
        ("t_resnet50", "t_stage_ratio", {"depths"}),
        ("b_resnet200", "b_stage_ratio", {"depths", "width"}),
        ("t_stage_ratio", "t_patchify", {"stem"}),
        ("t_width", "t_inverted", {"block"}),
        ("t_gelu", "t_fewer_activations", {"activations"}),
        ("t_fewer_activations", "t_fewer_norms", {"norms"}),
        ("t_fewer_norms", "t_layer_norm", {"norm"}),
        ("t_layer_norm", "t_separate_downsampling", {"separate_downsampling", "layer_scale"}),
    ],
)
def test_a_step_changes_what_it_names(step: str, after: str, changed: set[str]) -> None:
    assert fields_that_differ(step, after) == changed


def count_kinds(step: str, *kinds: type[nn.Module]) -> int:
    return sum(isinstance(module, kinds) for module in on_meta(f"paper:roadmap_{step}").modules())


def test_activations_and_norms_are_where_the_paper_puts_them() -> None:
    blocks = sum(T)
    assert count_kinds("t_kernel7", nn.ReLU) == 3 * blocks
    assert count_kinds("t_gelu", nn.GELU) == 3 * blocks
    assert count_kinds("t_fewer_activations", nn.GELU) == blocks
    assert count_kinds("t_fewer_activations", nn.BatchNorm2d) == 3 * blocks + 3  # projections
    assert count_kinds("t_fewer_norms", nn.BatchNorm2d) == blocks + 3
    assert count_kinds("t_layer_norm", nn.BatchNorm2d) == 0
    assert count_kinds("t_layer_norm", nn.LayerNorm) == blocks


@pytest.mark.parametrize("name", RUNGS)
@pytest.mark.slow
def test_every_rung_trains_on_meta(name: str) -> None:
    model = on_meta(f"paper:{name}").train()
    model.zero_grad(set_to_none=True)
    logits = model(torch.empty(2, 3, 64, 64, device="meta"))
    assert logits.shape == (2, 1000)
    logits.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("step", ["t_inverted", "t_layer_norm", pytest.param("b_fewer_norms", marks=pytest.mark.slow)])
def test_a_rung_trains_on_real_tensors(step: str) -> None:
    torch.manual_seed(0)
    model = build(f"paper:roadmap_{step}", 64)
    logits = model(torch.randn(2, 3, 64, 64))
    logits.square().mean().backward()
    assert logits.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
