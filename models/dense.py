"""The detectors and segmentors of arXiv 2201.03545v2, Tables 3 and 4, by name: what is built of which backbone."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn

from visionbench.models import backbones, detection, segmentation
from visionbench.models.backbones import Size

DETECTION_SIZE: Size = (800, 1280)
"""The photo that Table 3 counts: height and width in pixels (printed as 1280 x 800)."""

SEGMENTATION_SIZE: Size = (512, 2048)
SEGMENTATION_SIZE_22K: Size = (640, 2560)
"""Table 4's, after training on ImageNet-1K and on ImageNet-22K."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A backbone's builder (for an image size) and the function that puts it to use; the size that its table counts."""

    backbone: Callable[[Size], nn.Module]
    around: Callable[[nn.Module, Size], nn.Module]
    image_size: Size


_BACKBONES: dict[str, Callable[[Size], nn.Module]] = {
    **{n: partial(backbones.from_timm, n) for n in ("resnet50", "resnext101_32x4d", "resnext101_64x4d")},
    **{f"swin_{size}": partial(backbones.swin, size) for size in ("tiny", "small", "base", "large")},
    **{
        f"convnext_{size}": partial(backbones.original_convnext, size)
        for size in ("tiny", "small", "base", "large", "xlarge")
    },
}

_WITHOUT_1K = ("swin_large", "convnext_large", "convnext_xlarge")


def _network(prefix: str, name: str, around: Callable[[nn.Module, Size], nn.Module]) -> tuple[str, Network]:
    size = DETECTION_SIZE
    if around is segmentation.upernet:
        size = SEGMENTATION_SIZE_22K if name in _WITHOUT_1K else SEGMENTATION_SIZE
    return f"{prefix}_{name}", Network(backbone=_BACKBONES[name], around=around, image_size=size)


NETWORKS: dict[str, Network] = dict(
    (
        *(_network("mask_rcnn", name, detection.mask_rcnn) for name in ("swin_tiny", "convnext_tiny")),
        *(_network("cascade_mask_rcnn", name, detection.cascade_mask_rcnn) for name in _BACKBONES),
        *(_network("upernet", name, segmentation.upernet) for name in _BACKBONES if "res" not in name),
    )
)
"""14 detectors and 9 segmentors, in the order of their tables' families."""


def build(name: str, image_size: int | Size) -> nn.Module:
    """The network of one of `NETWORKS` for images of that size, in train mode, weights not trained.

    Raises `ModelError` for a size that is no multiple of 32.
    """
    network, size = NETWORKS[name], backbones.check_size(image_size)
    return network.around(network.backbone(size), size)
