"""ConvNeXt as its authors wrote it: timm's networks weight for weight, and another program.

Sources: arXiv 2201.03545v2, section 3 (depths and widths), and github.com/facebookresearch/ConvNeXt, models/convnext.py
(order of operators, LayerNorm, no stochastic depth unless a recipe asks for it); the end of the road of
`visionbench.models.roadmap`, in five sizes.

timm's ConvNeXt (`timm:convnext_tiny`) computes the same function with the same MACs. But its LayerNorm permutes and its
sum is branch + shortcut, so that a contiguous network's maps are channels last from the stem on: its depthwise
convolutions go to cuDNN, and these to PyTorch's own kernel. Here the LayerNorm between stages is written out, which
takes more kernels.
"""

from dataclasses import replace

from visionbench.models.roadmap import RUNGS, Roadmap, Rung


def _sized(depths: tuple[int, int, int, int], width: int) -> Rung:
    return replace(RUNGS["roadmap_t_separate_downsampling"], labels=(), depths=depths, width=width, drop_path=0.0)


SIZES: dict[str, Rung] = {
    "convnext_original_tiny": _sized((3, 3, 9, 3), 96),
    "convnext_original_small": _sized((3, 3, 27, 3), 96),
    "convnext_original_base": _sized((3, 3, 27, 3), 128),
    "convnext_original_large": _sized((3, 3, 27, 3), 192),
    "convnext_original_xlarge": _sized((3, 3, 27, 3), 256),
}


def build(name: str) -> Roadmap:
    """The network of one of `SIZES`, in train mode, weights not trained."""
    return Roadmap(SIZES[name])
