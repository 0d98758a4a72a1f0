"""Isotropic ConvNeXt (arXiv 2201.03545v2, section 3.3, Table 2), a ViT with a 7 x 7 depthwise convolution as attention.

The image is cut into 16 x 16 patches once and keeps that resolution (14 x 14 at 224 pixels) through all blocks. Depths
and widths match ViT-S/B/L in parameters and MACs, so the two differ only in how positions talk to each other. Facts
that are easy to get wrong: no norm after the stem, one LN after the pooling, layer scale in L only.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from visionbench.models.residual import EPS, Residual, convnext_branch, drop_path_rates, pooled_head

PATCH = 16
"""Side of a patch in pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Isotropic:
    """One size: `layer_scale` is its initial value or None for none, `drop_path` the last block's rate."""

    depth: int
    dim: int
    drop_path: float
    layer_scale: float | None = None


SIZES: dict[str, Isotropic] = {
    "convnext_iso_small": Isotropic(depth=18, dim=384, drop_path=0.1),
    "convnext_iso_base": Isotropic(depth=18, dim=768, drop_path=0.2),
    "convnext_iso_large": Isotropic(depth=36, dim=1024, drop_path=0.5, layer_scale=1e-6),
}


class ConvNeXtIsotropic(nn.Module):
    """Patches, `depth` equal blocks, pool, LN, head.

    MACs at 224 pixels, with P = 14^2 positions: P (768 dim + depth (49 dim + 8 dim^2)) + 1000 dim.
    """

    def __init__(self, size: Isotropic) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, size.dim, PATCH, PATCH)
        self.blocks = nn.Sequential(
            *(
                Residual(
                    convnext_branch(size.dim, size.dim, layer_scale=size.layer_scale),
                    shortcut=nn.Identity(),
                    after=nn.Identity(),
                    drop_path=rate,
                )
                for rate in drop_path_rates(size.drop_path, size.depth)
            )
        )
        self.head = pooled_head(size.dim, nn.LayerNorm(size.dim, eps=EPS))

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> logits (N, 1000); H and W are cut to multiples of 16 pixels."""
        logits: Tensor = self.head(self.blocks(self.stem(images)))
        return logits


def build(name: str) -> ConvNeXtIsotropic:
    """The network of one of `SIZES`, in train mode, weights not trained."""
    return ConvNeXtIsotropic(SIZES[name])
