"""The counter that printed the FLOPs of detectors and segmentors: hooks on modules of some exact types.

The detection and segmentation toolboxes of 2021 count with mmcv (`mmcv/cnn/utils/flops_counter.py`, v1.3.0): every
module whose class is *exactly* one it knows adds what its inputs and outputs say. It does not see what is a function
(`relu` in RPN, interpolation, attention's two products), nor a user's class: ConvNeXt's LayerNorm is one, Swin's
is torch's; nor `SyncBatchNorm`, nor GELU. Each kind of module is a separate term here, because tables differ in which
they hold (`visionbench.record.counters`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from visionbench.models.detection import Detector, SyncedNorm
from visionbench.models.segmentation import Segmentor

Terms = Callable[[Any, torch.Tensor, torch.Tensor], dict[str, int]]
"""(module, its input, its output) -> what it adds to which term."""


@contextmanager
def watching(model: nn.Module, terms: Counter[str]) -> Iterator[None]:
    """Add what the counter sees of a detector or segmentor to `terms`, while its forward runs.

    Other networks are not printed by this counter and add nothing. Hooks are gone afterwards.
    """

    def add(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        terms.update(_SEEN[type(module)](module, inputs[0], output))

    modules = model.modules() if isinstance(model, (Detector, Segmentor)) else ()
    handles = [module.register_forward_hook(add) for module in modules if type(module) in _SEEN]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def counts(terms: Mapping[str, int] | None, macs: int, batch_size: int) -> Iterator[tuple[str, int]]:
    """The terms of one image as metrics; `hooks.attention` are the products that no module of those types makes."""
    if terms is None:
        return
    for name, count in sorted(terms.items()):
        yield f"hooks.{name}", count // batch_size
    yield "hooks.attention", macs - terms["products"] // batch_size


def _convolution(module: nn.Conv2d | nn.ConvTranspose2d, x: torch.Tensor, out: torch.Tensor) -> dict[str, int]:
    """Of every output element C_in / groups x kernel multiply-accumulates, and one more for a bias.

    A transposed one is the same seen from the input: each of its elements goes into C_out / groups x kernel sums.
    """
    turned = isinstance(module, nn.ConvTranspose2d)
    elements, channels = (x.numel(), module.out_channels) if turned else (out.numel(), module.in_channels)
    products = elements * channels // module.groups * math.prod(module.kernel_size)
    return {"products": products, "bias": out.numel() if module.bias is not None else 0}


def _linear(module: nn.Linear, x: torch.Tensor, _out: torch.Tensor) -> dict[str, int]:
    """No bias: that counter leaves it out of linear layers."""
    return {"products": x.numel() * module.out_features}


def _elements(term: str, each: int = 1) -> Terms:
    """So many of every output element."""
    return lambda _module, _x, out: {term: each * out.numel()}


_SEEN: dict[type[nn.Module], Terms] = {
    nn.Conv2d: _convolution,
    nn.ConvTranspose2d: _convolution,
    nn.Linear: _linear,
    nn.ReLU: _elements("relu"),
    nn.BatchNorm2d: _elements("batch_norm", 2),
    nn.LayerNorm: _elements("layer_norm", 2),
    # One of every element that is pooled.
    **dict.fromkeys(
        (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d), lambda _module, x, _out: {"pooling": x.numel()}
    ),
    # Not seen by that counter: what it would add, for prints that no rule explains.
    SyncedNorm: _elements("synced_norm", 2),
    nn.GELU: _elements("gelu"),
}
