"""ConvNeXt as its authors wrote it: timm's networks weight for weight, and another program.

Source: arXiv 2201.03545v2, section 3 (depths and widths) and Table 5 (stochastic depth, layer scale); the end of the
road of `models.rungs`, in five sizes.

timm's ConvNeXt (`timm:convnext_tiny`) computes the same function with the same MACs. But its LayerNorm permutes and its
sum is branch + shortcut, so that a contiguous network's maps lie channels last from the stem on: its depthwise
convolutions go to cuDNN, and these to PyTorch's own kernel, which in half precision is many times slower. Here the
LayerNorm between stages is written out, which takes more kernels, and training drops paths as the authors' recipe does
(timm's default drops none). The paper's throughput, and that of papers which took the authors' file, is of this
program.
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
