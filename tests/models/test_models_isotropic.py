"""Isotropic ConvNeXt against pencil arithmetic and Table 2; and the parts it shares with the roadmap."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from visionbench.models.convnext_isotropic import SIZES, build
from visionbench.models.residual import DropPath, LayerNorm2d, LayerScale, Residual, drop_path_rates

# arXiv 2201.03545v2 Table 2: million parameters, "FLOPs" in G (multiply-adds), at 224 pixels.
TABLE2 = {
    "convnext_iso_small": (22, 4.3),
    "convnext_iso_base": (87, 16.9),
    "convnext_iso_large": (306, 59.7),
}
# Section 3.3 and the depths, widths and layer scale of the authors' three models.
SHAPES = {
    "convnext_iso_small": (18, 384, False),
    "convnext_iso_base": (18, 768, False),
    "convnext_iso_large": (36, 1024, True),
}


def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return build(name)


def pencil_params(depth: int, dim: int, layer_scale: bool) -> int:
    stem = 3 * 16 * 16 * dim + dim
    depthwise, norm = 7 * 7 * dim + dim, 2 * dim
    mlp = (dim * 4 * dim + 4 * dim) + (4 * dim * dim + dim)
    head = 2 * dim + 1000 * dim + 1000
    return stem + depth * (depthwise + norm + mlp + dim * layer_scale) + head


def pencil_macs(depth: int, dim: int) -> int:
    positions = 14 * 14
    return positions * (3 * 16 * 16 * dim + depth * (7 * 7 * dim + 2 * 4 * dim * dim)) + 1000 * dim


@pytest.mark.parametrize("name", TABLE2)
def test_params_are_the_pencils_and_the_papers(name: str) -> None:
    params = sum(p.numel() for p in on_meta(name).parameters())
    assert params == pencil_params(*SHAPES[name])
    assert round(params / 1e6) == TABLE2[name][0]


@pytest.mark.parametrize("name", TABLE2)
def test_macs_are_the_pencils_and_the_papers(name: str) -> None:
    model = on_meta(name).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, 224, 224, device="meta"))
    macs = counter.get_total_flops() // 2
    depth, dim, _ = SHAPES[name]
    assert macs == pencil_macs(depth, dim)
    assert round(macs / 1e9, 1) == TABLE2[name][1]


@pytest.mark.parametrize("name", TABLE2)
def test_layer_scale_in_large_only(name: str) -> None:
    scales = [m for m in on_meta(name).modules() if isinstance(m, LayerScale)]
    assert len(scales) == (36 if name == "convnext_iso_large" else 0)


def test_drop_path_climbs_to_the_recipes_rate() -> None:
    rates = [m.rate for m in on_meta("convnext_iso_large").modules() if isinstance(m, DropPath)]
    assert rates[0] == 0.0
    assert rates[-1] == SIZES["convnext_iso_large"].drop_path == 0.5
    assert rates == sorted(rates)


def test_small_trains_on_real_tensors() -> None:
    torch.manual_seed(0)
    model = build("convnext_iso_small")
    logits = model(torch.randn(2, 3, 64, 64))
    assert logits.shape == (2, 1000)
    logits.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", ["convnext_iso_base", "convnext_iso_large"])
def test_the_large_ones_train_on_meta(name: str) -> None:
    model = on_meta(name)
    model(torch.empty(2, 3, 64, 64, device="meta")).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_every_block_keeps_the_memory_format(memory_format: torch.memory_format) -> None:
    model = build("convnext_iso_small").eval().to(memory_format=memory_format)
    kept: list[bool] = []
    for block in model.modules():
        if isinstance(block, Residual):
            block.register_forward_hook(
                lambda _module, _inputs, out: kept.append(out.is_contiguous(memory_format=memory_format))
            )
    with torch.no_grad():
        model(torch.randn(2, 3, 64, 64).to(memory_format=memory_format))
    assert kept == [True] * 18


def test_drop_path_drops_whole_images_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    out = DropPath(0.25)(torch.ones(4000, 2, 3))
    assert out.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert (out == out[:, :1, :1]).all()
    assert out.mean().item() == pytest.approx(1.0, abs=0.05)


def test_drop_path_does_nothing_in_evaluation() -> None:
    x = torch.ones(3, 2)
    assert DropPath(0.9).eval()(x) is x


def test_drop_path_rates_are_a_line_of_plain_floats() -> None:
    assert drop_path_rates(0.4, 5) == pytest.approx((0.0, 0.1, 0.2, 0.3, 0.4))
    assert drop_path_rates(0.4, 1) == (0.0,)


def test_layer_norm_2d_is_layer_norm_over_channels() -> None:
    torch.manual_seed(0)
    ours, theirs = LayerNorm2d(5), nn.LayerNorm(5, eps=1e-6)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        other.data.copy_(mine.data.normal_())
    x = torch.randn(2, 5, 3, 4)
    expected = theirs(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(ours(x), expected)
    assert ours(x).is_contiguous()
