"""The networks of arXiv 2201.03545v2 that timm does not have, or not in this form: the registry behind `paper:`.

Registering one more is one entry here: its name and the function that builds it, which is called with that
name.
"""

from collections.abc import Callable

from torch import nn

from visionbench.models import convnext, convnext_isotropic, dense, roadmap

PAPER: dict[str, Callable[[str], nn.Module]] = {
    **dict.fromkeys(convnext.SIZES, convnext.build),
    **dict.fromkeys(convnext_isotropic.SIZES, convnext_isotropic.build),
    **dict.fromkeys(roadmap.RUNGS, roadmap.build),
}
"""ConvNeXt T to XL (Table 1), isotropic S, B, L (Table 2), every rung of Tables 10 and 11 in their order."""

DENSE = dense.NETWORKS
"""The detectors and segmentors of Tables 3 and 4. They are built for one image size, which PAPER's do not ask for."""

SMALLEST_IMAGE = 32
"""Pixels: the roadmap halves the image five times, the isotropic networks cut it into 16-pixel patches."""


def family(name: str) -> str:
    """The module of this package that defines `name`: `convnext`, `convnext_isotropic`, `roadmap`, `detection`, ..."""
    builder = DENSE[name].around if name in DENSE else PAPER[name]
    return builder.__module__.rpartition(".")[2]
