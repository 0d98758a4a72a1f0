"""The networks of arXiv 2201.03545v2 that timm does not have, or not in this form: the registry behind `paper:`.

Registering one more is one entry here: its name and the function that builds it, which is called with that
name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn

from visionbench.models import backbones, convnext, convnext_isotropic, detection, roadmap, segmentation
from visionbench.models.backbones import Size

PAPER: dict[str, Callable[[str], nn.Module]] = {
    **dict.fromkeys(convnext.SIZES, convnext.build),
    **dict.fromkeys(convnext_isotropic.SIZES, convnext_isotropic.build),
    **dict.fromkeys(roadmap.RUNGS, roadmap.build),
}
"""ConvNeXt T to XL (Table 1), isotropic S, B, L (Table 2), every rung of Tables 10 and 11 in their order."""

SMALLEST_IMAGE = 32
"""Pixels: the roadmap halves the image five times, the isotropic networks cut it into 16-pixel patches."""

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


DENSE: dict[str, Network] = dict(
    (
        *(_network("mask_rcnn", name, detection.mask_rcnn) for name in ("swin_tiny", "convnext_tiny")),
        *(_network("cascade_mask_rcnn", name, detection.cascade_mask_rcnn) for name in _BACKBONES),
        *(_network("upernet", name, segmentation.upernet) for name in _BACKBONES if "res" not in name),
    )
)
"""The 14 detectors and 9 segmentors of Tables 3 and 4. They are built for one image size; PAPER's are not."""


def family(name: str) -> str:
    """The module of this package that defines `name`: `convnext`, `convnext_isotropic`, `roadmap`, `detection`, ..."""
    builder = DENSE[name].around if name in DENSE else PAPER[name]
    return builder.__module__.rpartition(".")[2]


def build_dense(name: str, image_size: int | Size) -> nn.Module:
    """The network of one of `DENSE` for images of that size, in train mode, weights not trained.

    Raises `ModelError` for a size that is no multiple of 32.
    """
    network, size = DENSE[name], backbones.check_size(image_size)
    return network.around(network.backbone(size), size)
