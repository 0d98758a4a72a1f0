"""Backbones: networks that give four feature maps, at strides 4, 8, 16 and 32, and no logits.

Every backbone is a module with `channels`, the four widths, whose `forward` turns images (N, 3, H, W) into four maps
(N, channels[i], H / 4 / 2^i, W / 4 / 2^i), the finest first. `visionbench.models.detection.mask_rcnn` and its
neighbours take such a module from anybody.

ConvNeXt and Swin have a LayerNorm on each of the maps that they hand on, ResNet and ResNeXt have none (their detection
code: github.com/SwinTransformer/Swin-Transformer-Object-Detection, c7b2011, and github.com/facebookresearch/ConvNeXt,
048efce, object_detection).
"""

from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor, nn

from visionbench.models import convnext
from visionbench.models.catalog import ModelError, resolve, sides
from visionbench.models.residual import LayerNorm2d

STRIDES = (4, 8, 16, 32)
"""Pixels between two positions of each map."""

SMALLEST_IMAGE = 64
"""Pixels of the shorter side: the last map is then two positions high."""

Size = tuple[int, int]
"""Height and width in pixels."""


class Backbone(nn.Module):
    """Four maps from `body`, each through its own norm. `channels` are their widths."""

    def __init__(self, body: nn.Module, norms: Sequence[nn.Module], channels: Sequence[int]) -> None:
        super().__init__()
        self.body = body
        self.norms = nn.ModuleList(norms)
        self.channels = tuple(channels)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(N, 3, H, W) -> four maps (N, channels[i], H / stride, W / stride)."""
        return [norm(features) for norm, features in zip(self.norms, self.body(images), strict=True)]


class _ConvNeXtMaps(nn.Module):
    """The authors' ConvNeXt without its head: the outputs of its four stages."""

    def __init__(self, name: str) -> None:
        super().__init__()
        network = convnext.build(name)
        self.stem, self.stages = network.stem, network.stages

    def forward(self, images: Tensor) -> list[Tensor]:
        """(N, 3, H, W) -> four maps."""
        features, maps = self.stem(images), []
        for stage in self.stages:
            features = stage(features)
            maps.append(features)
        return maps


class _ToChannelsFirst(nn.Module):
    """A channels-last map through a norm of torch's, and then in the order that convolutions take."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, features: Tensor) -> Tensor:
        """(N, H, W, C) -> (N, C, H, W), contiguous."""
        normed: Tensor = self.norm(features)
        return normed.permute(0, 3, 1, 2).contiguous()


def original_convnext(size: str, _image_size: Size | None = None) -> Backbone:
    """ConvNeXt as its authors wrote it, `tiny` to `xlarge`, for images of any size."""
    name = f"convnext_original_{size}"
    channels = [convnext.SIZES[name].width * 2**i for i in range(4)]
    return Backbone(_ConvNeXtMaps(name), [LayerNorm2d(c) for c in channels], channels)


def swin(size: str, image_size: Size) -> Backbone:
    """Swin of timm with windows of 7, `tiny` to `large`; every map is padded to whole windows, as the authors do.

    Windows do not shrink with small maps (`always_partition`).
    """
    body = _features(f"swin_{size}_patch4_window7_224", img_size=image_size, always_partition=True)
    channels = body.feature_info.channels()
    return Backbone(body, [_ToChannelsFirst(nn.LayerNorm(c)) for c in channels], channels)


def from_timm(name: str, image_size: Size) -> Backbone:
    """The four maps of any network of timm's that has them, `resnet50` or `regnety_040`, without an added norm.

    Raises `ModelError` for a network that is unknown, refuses the size, or lacks a map at one of `STRIDES`.
    """
    from timm.models import get_pretrained_cfg

    bare = resolve(f"timm:{name}").name.removeprefix("timm:")
    defaults = get_pretrained_cfg(bare)
    options: dict[str, Any] = {"img_size": image_size} if defaults and defaults.fixed_input_size else {}
    try:
        body = _features(bare, **options)
        strides = body.feature_info.reduction()
        if len(strides) > len(STRIDES) and set(STRIDES) <= set(strides):
            last = [max(i for i, stride in enumerate(strides) if stride == wanted) for wanted in STRIDES]
            body = _features(bare, out_indices=[body.feature_info.out_indices[i] for i in last], **options)
    except (RuntimeError, AssertionError, TypeError, ValueError) as refusal:
        reason = str(refusal).split("\n")[0]
        raise ModelError(f"timm:{bare} gives no feature maps at {image_size} ({reason}); take another") from refusal
    if tuple(body.feature_info.reduction()) != STRIDES:
        raise ModelError(f"timm:{bare} has maps at strides {strides}: a pyramid needs {STRIDES}; take another")
    channels = body.feature_info.channels()
    norms: list[nn.Module] = [nn.Identity() for _ in channels]
    if getattr(body, "output_fmt", None) == "NHWC":
        norms = [_ToChannelsFirst(norm) for norm in norms]
    return Backbone(body, norms, channels)


def _features(name: str, **options: Any) -> Any:
    """A network of timm's that gives feature maps, and says their strides and widths in `feature_info`."""
    import timm

    return timm.create_model(name, features_only=True, **options)


def four_channels(backbone: nn.Module) -> tuple[int, int, int, int]:
    """The widths that a backbone says it has. Raises `ModelError` for one that does not name four."""
    channels = getattr(backbone, "channels", None)
    if not isinstance(channels, Sequence) or len(channels) != len(STRIDES) or not all(type(c) is int for c in channels):
        name = type(backbone).__name__
        raise ModelError(f"{name} is no backbone: give it `channels`, the widths of its four maps, not {channels!r}")
    return cast(tuple[int, int, int, int], tuple(channels))


def check_maps(maps: Sequence[Tensor], channels: Sequence[int], images: Tensor) -> None:
    """Raise `ModelError` unless the backbone's maps have the widths it names, at strides 4, 8, 16 and 32."""
    height, width = images.shape[-2:]
    expected = [(c, height // stride, width // stride) for c, stride in zip(channels, STRIDES, strict=True)]
    shapes = [tuple(features.shape[1:]) for features in maps]
    if shapes != expected:
        raise ModelError(f"the backbone's maps are {shapes} (channels, height, width); a pyramid needs {expected}")


def check_size(image_size: int | Size) -> Size:
    """Height and width of a square or a rectangle. Raises `ModelError` unless both are multiples of 32, at least 64."""
    height, width = sides(image_size)
    if height % STRIDES[-1] or width % STRIDES[-1] or min(height, width) < SMALLEST_IMAGE:
        near = "x".join(str(max(SMALLEST_IMAGE, round(side / STRIDES[-1]) * STRIDES[-1])) for side in (height, width))
        raise ModelError(
            f"an image of {height}x{width} does not fit a pyramid of strides 4 to 32: "
            f"both sides must be multiples of 32 and at least {SMALLEST_IMAGE}; try {near}"
        )
    return height, width
