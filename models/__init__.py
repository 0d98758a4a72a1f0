"""The zoo: a name in, a network with random weights out.

    resolve("convnext_tiny")           -> ModelCard(name="timm:convnext_tiny", image_size=224, ...)
    expand("timm:convnext_*")          -> every qualified name that matches
    build("timm:convnext_tiny", 224)   -> torch.nn.Module

Five homes: `timm:` (most of the world), `torchvision:` (its own programs, segmentation and video among them), `paper:`
(what timm lacks of arXiv 2201.03545v2, or has as another program: ConvNeXt as its authors wrote it, the isotropic
ones, the roadmap from ResNet to ConvNeXt, the detectors and segmentors of its Tables 3 and 4), `user:module:function`
or `user:file.py:function` (your function that returns a network) and `ladder:` (equal blocks, for the gate's test
of itself; in no list). A model that timm has needs no file here; one that it lacks needs one, and an entry in
`visionbench.models.paper`.

Importing this package imports neither torch nor timm; the functions do.
"""

from visionbench.models.building import build, load
from visionbench.models.catalog import ModelCard, ModelError, expand, is_dense, names, resolve

__all__ = ["ModelCard", "ModelError", "build", "expand", "is_dense", "load", "names", "resolve"]
