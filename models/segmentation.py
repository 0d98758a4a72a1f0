"""UPerNet on any backbone of four maps (arXiv 1807.10221).

Widths and order of layers are those of the toolbox that ConvNeXt and Swin were measured with (mmsegmentation 0.11 in
Swin's fork, github.com/SwinTransformer/Swin-Transformer-Semantic-Segmentation, 87e6f90; configs of
github.com/facebookresearch/ConvNeXt, 048efce, semantic_segmentation). The auxiliary head learns beside the decoder and
is left out in inference: the papers' parameters hold it, their FLOPs do not.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from visionbench.models.backbones import Size, check_maps, check_size, four_channels
from visionbench.models.detection import SyncedNorm
from visionbench.models.outputs import Supervised

CLASSES = 150
"""ADE20K's."""

WIDTH, AUXILIARY_WIDTH = 512, 256

POOLS = (1, 2, 3, 6)
"""Positions of a side of the pyramid's pooled maps."""


def conv(c_in: int, c_out: int, kernel: int) -> nn.Sequential:
    """Convolution without bias, synchronised norm, ReLU: (N, c_in, h, w) -> (N, c_out, h, w)."""
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, bias=False), SyncedNorm(c_out), nn.ReLU(inplace=True)
    )


def resize(maps: Tensor, like: Tensor) -> Tensor:
    """A map (N, C, h, w) at the resolution of another, bilinear."""
    return functional.interpolate(maps, size=like.shape[-2:], mode="bilinear", align_corners=False)


class UPerHead(nn.Module):
    """Pooling pyramid on the coarsest map, feature pyramid over all four, their fusion at stride 4, the classes."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        *finer, coarsest = channels
        self.pools = nn.ModuleList(nn.Sequential(nn.AdaptiveAvgPool2d(p), conv(coarsest, WIDTH, 1)) for p in POOLS)
        self.pooled = conv(coarsest + len(POOLS) * WIDTH, WIDTH, 3)
        self.lateral = nn.ModuleList(conv(c, WIDTH, 1) for c in finer)
        self.smooth = nn.ModuleList(conv(WIDTH, WIDTH, 3) for _ in finer)
        self.fuse = conv(len(channels) * WIDTH, WIDTH, 3)
        self.classify = nn.Conv2d(WIDTH, CLASSES, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Four maps -> logits (N, 150, H / 4, W / 4)."""
        coarsest = maps[-1]
        pooled = self.pooled(torch.cat([coarsest, *(resize(pool(coarsest), coarsest) for pool in self.pools)], 1))
        levels = [*(lateral(features) for lateral, features in zip(self.lateral, maps, strict=False)), pooled]
        for i in range(len(levels) - 1, 0, -1):
            levels[i - 1] = levels[i - 1] + resize(levels[i], levels[i - 1])
        smoothed = [smooth(level) for smooth, level in zip(self.smooth, levels, strict=False)]
        levels = [*smoothed, levels[-1]]
        logits: Tensor = self.classify(self.fuse(torch.cat([resize(level, levels[0]) for level in levels], 1)))
        return logits


class Segmentor(nn.Module):
    """Backbone and UPerNet's head; a smaller head on the third map while it is trained."""

    task = "segmentation"

    def __init__(self, backbone: nn.Module, image_size: int | Size) -> None:
        super().__init__()
        self.image_size = check_size(image_size)
        self.channels = four_channels(backbone)
        self.backbone = backbone
        self.decoder = UPerHead(self.channels)
        self.auxiliary = nn.Sequential(
            conv(self.channels[2], AUXILIARY_WIDTH, 3), nn.Conv2d(AUXILIARY_WIDTH, CLASSES, 1)
        )

    def forward(self, images: Tensor) -> Tensor | Supervised:
        """(N, 3, H, W) -> logits (N, 150, H, W); in training also the auxiliary head's, of the same shape.

        Raises `ModelError` if the backbone's maps are not what it said.
        """
        maps = list(self.backbone(images))
        check_maps(maps, self.channels, images)
        logits = resize(self.decoder(maps), images)
        return Supervised(logits, resize(self.auxiliary(maps[2]), images)) if self.training else logits


def upernet(backbone: nn.Module, image_size: int | Size) -> Segmentor:
    """UPerNet on any backbone of four maps, as `visionbench.models.detection.mask_rcnn` takes one.

    `image_size` in pixels: one number, or (height, width). Raises `ModelError` for a size that is no multiple of 32, or
    a module without four widths.
    """
    return Segmentor(backbone, image_size)
