"""ConvNeXt as its authors wrote it: timm's networks, weight for weight, in another memory order.

Source: arXiv 2201.03545v2, section 3 (depths and widths) and Table 5 (stochastic depth, layer scale); the end of the
road of `models.rungs`, in five sizes.

timm's ConvNeXt (`timm:convnext_tiny`) computes the same function with the same MACs, and is another program: it adds
branch + shortcut and not shortcut + branch, so from the second block on a contiguous network's maps lie channels last.
Then its depthwise convolutions go to cuDNN, and these to PyTorch's own kernel, which in half precision is many times
slower. The paper's throughput, and that of papers which took the authors' file, was measured with this program.
"""

from dataclasses import replace

from models.roadmap import Roadmap
from models.rungs import RUNGS, Rung


def _sized(depths: tuple[int, int, int, int], width: int, drop_path: float) -> Rung:
    finished = RUNGS["roadmap_t_separate_downsampling"]
    return replace(finished, labels=(), depths=depths, width=width, drop_path=drop_path)


SIZES: dict[str, Rung] = {
    "convnext_original_tiny": _sized((3, 3, 9, 3), 96, 0.1),
    "convnext_original_small": _sized((3, 3, 27, 3), 96, 0.4),
    "convnext_original_base": _sized((3, 3, 27, 3), 128, 0.5),
    "convnext_original_large": _sized((3, 3, 27, 3), 192, 0.5),
    "convnext_original_xlarge": _sized((3, 3, 27, 3), 256, 0.2),
}
"""XL's stochastic depth is that of its pre-training on ImageNet-22K; it was not trained on ImageNet-1K alone."""


def build(name: str) -> Roadmap:
    """The network of one of `SIZES`, in train mode, weights not trained."""
    return Roadmap(SIZES[name])
