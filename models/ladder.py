"""Ladders: networks of `depth` identical blocks and next to nothing else, so that one block more is an exact cost.

What a gate finds must be tested on a difference whose size is known: 21 equal blocks take 21/20 of the time of 20, as
long as nothing else takes time. So there is no head, the output of the last block is the network's, and the stem deals
the image's rows out as channels, which computes nothing. Each kind is a block of some vision model, sized to take about
a third of a millisecond on one core for one image of 64 pixels. Weights stay small: a block more must not be the one
with which they outgrow a cache.

Ladders are for `selftest` and no benchmark's subject, so no list of models shows them; `ladder:conv3x3_20` names one.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from visionbench.models.residual import Permute, Residual, convnext_branch

IMAGE_SIZE = 64
"""Pixels, and what an image's side must be a multiple of: windows of 16 positions of 4 pixels."""

MOST_BLOCKS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of block: `block(channels)` maps (N, channels, side, side) to the same shape.

    The stem gives positions of `patch` x `patch` pixels, and repeats its channels until there are `channels`.
    """

    block: Callable[[int], nn.Module]
    patch: int
    channels: int


class Ladder(nn.Module):
    """The stem, then `depth` blocks, each with separate weights."""

    def __init__(self, kind: Kind, depth: int) -> None:
        super().__init__()
        self.patch, self.channels = kind.patch, kind.channels
        self.blocks = nn.Sequential(*(kind.block(kind.channels) for _ in range(depth)))

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, channels, H / patch, W / patch)."""
        n, _, height, width = images.shape
        rows = images.reshape(n, 3 * self.patch**2, height // self.patch, width // self.patch)  # a view
        repeats = self.channels // rows.shape[1]
        out: Tensor = self.blocks(rows.repeat(1, repeats, 1, 1) if repeats > 1 else rows)
        return out


class SelfAttention(nn.Module):
    """Attention within windows of `window` x `window` positions (Liu et al., arXiv 2103.14030), without their shift."""

    def __init__(self, channels: int, window: int, heads: int) -> None:
        super().__init__()
        self.window, self.heads = window, heads
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.projection = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        n, c, height, width = x.shape
        s, down, across = self.window, height // self.window, width // self.window
        tokens = x.reshape(n, c, down, s, across, s).permute(0, 2, 4, 3, 5, 1).reshape(-1, s * s, c)
        heads = self.qkv(self.norm(tokens)).reshape(-1, s * s, 3, self.heads, c // self.heads)
        q, k, v = heads.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(-1, s * s, c)
        out: Tensor = self.projection(mixed).reshape(n, down, across, s, s, c)
        return out.permute(0, 5, 1, 3, 2, 4).reshape(n, c, height, width)


class SqueezeExcite(nn.Module):
    """Channels weighed by what the whole map holds (Hu et al., arXiv 1709.01507)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.weigh = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            nn.SiLU(),
            nn.Conv2d(squeezed, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        out: Tensor = x * self.weigh(x)
        return out


class PoolMixer(nn.Module):
    """A position's neighbourhood less itself, instead of attention (Yu et al., arXiv 2111.11418)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, channels)
        self.pool = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        normed = self.norm(x)
        out: Tensor = self.pool(normed) - normed
        return out


class Dense(nn.Module):
    """A dense layer and the transition that takes the map back to its width (Huang et al., arXiv 1608.06993)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        grown = channels // 2
        self.layer = nn.Sequential(*_norm_relu(channels), nn.Conv2d(channels, grown, 3, padding=1, bias=False))
        self.transition = nn.Sequential(*_norm_relu(channels + grown), nn.Conv2d(channels + grown, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        out: Tensor = self.transition(torch.cat([x, self.layer(x)], dim=1))
        return out


def _residual(*branch: nn.Module) -> nn.Module:
    """The sum of x and branch(x): a network of sixty blocks then neither fades nor explodes."""
    return Residual(nn.Sequential(*branch), shortcut=nn.Identity(), after=nn.Identity(), drop_path=0.0)


def _norm_relu(channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.BatchNorm2d(channels), nn.ReLU()


def _conv(c_in: int, c_out: int, kernel: int, groups: int = 1) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(c_out)


def _bottleneck(channels: int) -> nn.Module:
    inner = channels // 4
    return _residual(
        *_conv(channels, inner, 1), nn.ReLU(), *_conv(inner, inner, 3), nn.ReLU(), *_conv(inner, channels, 1)
    )


def _resnext(channels: int) -> nn.Module:
    wide = _conv(channels, channels, 3, groups=8)
    return _residual(*_conv(channels, channels, 1), nn.ReLU(), *wide, nn.ReLU(), *_conv(channels, channels, 1))


def _mbconv(channels: int) -> nn.Module:
    inner = 4 * channels
    depthwise = _conv(inner, inner, 3, groups=inner)
    weighed = SqueezeExcite(inner, channels // 4)
    return _residual(*_conv(channels, inner, 1), nn.SiLU(), *depthwise, nn.SiLU(), weighed, *_conv(inner, channels, 1))


def _mlp(channels: int) -> nn.Module:
    inner = 4 * channels
    layers = (nn.LayerNorm(channels), nn.Linear(channels, inner), nn.GELU(), nn.Linear(inner, channels))
    return _residual(*_on_channels(*layers))


def _layernorm_gelu(channels: int) -> nn.Module:
    return _residual(*_on_channels(*(m for _ in range(4) for m in (nn.LayerNorm(channels), nn.GELU()))))


def _batchnorm_relu(channels: int) -> nn.Module:
    return nn.Sequential(*(module for _ in range(8) for module in _norm_relu(channels)))


def _on_channels(*modules: nn.Module) -> tuple[nn.Module, ...]:
    """The modules with the channels as the last dimension."""
    return Permute(0, 2, 3, 1), *modules, Permute(0, 3, 1, 2)


KINDS: dict[str, Kind] = {
    "conv3x3": Kind(block=lambda c: _residual(nn.ReLU(), nn.Conv2d(c, c, 3, padding=1)), patch=2, channels=24),
    "bottleneck": Kind(block=_bottleneck, patch=2, channels=48),
    "resnext": Kind(block=_resnext, patch=4, channels=48),
    "convnext": Kind(block=lambda c: _residual(convnext_branch(c, c)), patch=4, channels=48),
    "mbconv": Kind(block=_mbconv, patch=2, channels=12),
    "mlp": Kind(block=_mlp, patch=4, channels=48),
    "attention": Kind(block=lambda c: _residual(SelfAttention(c, window=16, heads=3)), patch=4, channels=48),
    "window_attention": Kind(block=lambda c: _residual(SelfAttention(c, window=8, heads=3)), patch=4, channels=48),
    "layernorm_gelu": Kind(block=_layernorm_gelu, patch=4, channels=48),
    "batchnorm_relu": Kind(block=_batchnorm_relu, patch=2, channels=48),
    "pooling": Kind(block=lambda c: _residual(PoolMixer(c)), patch=2, channels=24),
    "dense": Kind(block=Dense, patch=2, channels=24),
}
"""By the name that comes before the depth."""


def parse(name: str) -> tuple[str, int] | None:
    """`conv3x3_20` -> ("conv3x3", 20); None for what names no ladder."""
    kind, _, depth = name.rpartition("_")
    known = kind in KINDS and depth.isascii() and depth.isdecimal() and not depth.startswith("0")
    return (kind, int(depth)) if known and int(depth) <= MOST_BLOCKS else None


def build(name: str) -> Ladder:
    """The ladder of that name, in train mode, weights not trained. Raises ValueError for what names none."""
    parsed = parse(name)
    if parsed is None:
        raise ValueError(f"no ladder {name!r}")
    kind, depth = parsed
    return Ladder(KINDS[kind], depth)
