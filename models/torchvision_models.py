"""torchvision's networks as a separate home: classification, segmentation, video and optical flow.

They are built with random weights, and otherwise as torchvision builds them for its own weights, so that they have the
parameters that its documentation names. torchvision is optional: it is imported by these functions alone.
"""

from importlib import metadata
from typing import TYPE_CHECKING, Any

from visionbench.models.catalog import DEFAULT_IMAGE_SIZE, ImageSize, ModelCard, ModelError, sides

if TYPE_CHECKING:
    from torch import nn

FRAMES = 16
"""Frames of a clip: those of the FLOPs that torchvision prints of every video network."""

SEGMENTED, FLOW = 520, (520, 960)
"""Pixels: what torchvision resizes an image to before it segments it, and the frames of its example of RAFT."""

_SIZE_WORDS = {"vit_": "image_size", "maxvit_": "input_size"}
"""By which keyword networks of a fixed size take it."""

_REFUSED = {
    "detection": "takes a list of images of many sizes and not a batch; write a factory (user:module:function) for it",
    "quantization": "needs a quantised backend and data to be calibrated with; say torchvision:{}",
}


def listed() -> list[str]:
    """The names that can be built, none where torchvision is not installed."""
    try:
        import torchvision
    except ImportError:
        return []
    names: list[str] = torchvision.models.list_models()
    return [name for name in names if _module(name).partition(".")[0] not in _REFUSED]


def card(bare: str) -> ModelCard | None:
    """The card of a network that `bare` names exactly; None if torchvision has none of that name.

    Raises `ModelError` where torchvision is not installed, and for a network that takes no batch of images.
    """
    try:
        import torchvision
    except ImportError as error:
        raise ModelError(f"torchvision:{bare} needs torchvision: install it (pip install torchvision)") from error
    if bare not in torchvision.models.list_models():
        return None
    module = _module(bare)
    if reason := _REFUSED.get(module.partition(".")[0]):
        raise ModelError(f"torchvision:{bare} {reason.format(bare.removeprefix('quantized_'))}")
    return ModelCard(
        name=f"torchvision:{bare}",
        family=module.rpartition(".")[2],
        image_size=_image_size(bare, module),
        origin=f"torchvision {metadata.version('torchvision')}, {torchvision.models.__name__.replace('.', '/')}/"
        f"{module.replace('.', '/')}.py",
    )


def build(bare: str, image_size: ImageSize) -> "nn.Module":
    """The network with random weights, in train mode. Raises what torchvision raises for a size that it refuses."""
    import torchvision

    settings: dict[str, Any] = {"weights": None}
    module = _module(bare)
    if module.startswith("segmentation."):
        settings |= {"weights_backbone": None}
        settings |= {} if bare.startswith("lraspp") else {"aux_loss": True}
    if module in ("googlenet", "inception"):
        settings |= {"init_weights": False, "aux_logits": module == "inception"}
    for begin, word in _SIZE_WORDS.items():
        if bare.startswith(begin):
            settings[word] = image_size if word == "image_size" else sides(image_size)
    network: nn.Module = torchvision.models.get_model(bare, **settings)
    return network


def shapes(bare: str, image_size: ImageSize) -> tuple[tuple[int, ...], ...]:
    """What a network is given of one image, clip or pair of frames, without the batch."""
    height, width = sides(image_size)
    module = _module(bare)
    if module.startswith("optical_flow."):
        return ((3, height, width), (3, height, width))
    return ((3, FRAMES, height, width),) if module.startswith("video.") else ((3, height, width),)


def _module(bare: str) -> str:
    """The module that defines a network, below `torchvision.models`: `video.resnet`."""
    import torchvision

    module: str = torchvision.models.get_model_builder(bare).__module__
    return module.removeprefix("torchvision.models.")


def _image_size(bare: str, module: str) -> ImageSize:
    """The pixels that its weights are made for."""
    import torchvision

    if module.startswith("segmentation."):
        return SEGMENTED
    if module.startswith("optical_flow."):
        return FLOW
    preset = torchvision.models.get_model_weights(bare).DEFAULT.transforms
    size = getattr(preset, "keywords", {}).get("crop_size", DEFAULT_IMAGE_SIZE)
    return int(size if isinstance(size, int) else size[0])
