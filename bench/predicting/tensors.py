"""What the shape and the strides of an operand say about the kernel that meets it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from visionbench.tracing.call_cache import Operand


def elements(tensor: Operand) -> int:
    """How many elements a tensor has."""
    return math.prod(tensor[0])


def size(tensor: Operand) -> int:
    """Bytes that must be read of it: an expanded dimension (stride 0) is one element."""
    shape, strides, itemsize = tensor
    return itemsize * math.prod(1 if stride == 0 else n for n, stride in zip(shape, strides, strict=True))


def innermost(tensor: Operand) -> int:
    """The dimension whose neighbours are neighbours in memory, -1 if there is none: what a warp reads at once."""
    shape, strides, _ = tensor
    return next((i for i, (n, stride) in enumerate(zip(shape, strides, strict=True)) if n > 1 and stride == 1), -1)


def is_channels_last(tensor: Operand) -> bool:
    """Whether an (N, C, H, W) tensor lies in memory as (N, H, W, C)."""
    return len(tensor[0]) == 4 and tensor[0][1] > 1 and innermost(tensor) == 1


def rounded_up(n: int, multiple: int) -> int:
    """The next multiple: matrix kernels work in whole tiles."""
    return -(-n // multiple) * multiple
