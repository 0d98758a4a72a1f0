"""The boxes that a detector is loaded with: drawn from a seed, the same on every Python, torch and device.

A detector with random weights proposes boxes that mean nothing, and RoIAlign's time varies by a factor of five with
their sizes alone. So its second half works on given boxes, of many sizes and of one distribution: the side log-uniform
from 16 pixels to the image's shorter side, the ratio of width to height log-uniform from 1:2 to 2:1, the place uniform.
The mix of pyramid levels that follows is ours, not COCO's.
"""

import math
import random
from typing import NamedTuple

SMALLEST_SIDE = 16
"""Pixels."""

FINEST_LEVEL_SIDE = 56
"""Boxes with sides below twice this many pixels are read from the finest map (arXiv 1612.03144, eq. 1, as the
detection toolboxes write it: 56 = 224 / 4)."""

LEVELS = 4
"""How many of the pyramid's levels boxes are read from: those with strides 4, 8, 16 and 32."""


class Box(NamedTuple):
    """Corners in pixels: the left upper one and the right lower one."""

    x1: float
    y1: float
    x2: float
    y2: float


def draw(count: int, height: int, width: int, seed: int) -> tuple[tuple[Box, ...], ...]:
    """`count` boxes in an image of `height` x `width` pixels, grouped by the four levels, the finest first.

    Coordinates are rounded to 1/64 of a pixel, which every platform's logarithm agrees on.
    """
    source = random.Random(seed)  # noqa: S311 -- no secret, a load
    levels: tuple[list[Box], ...] = tuple([] for _ in range(LEVELS))
    for _ in range(count):
        side = _log_uniform(source, SMALLEST_SIDE, min(height, width))
        ratio = math.sqrt(_log_uniform(source, 0.5, 2.0))
        box_width, box_height = min(side * ratio, width), min(side / ratio, height)
        x, y = source.random() * (width - box_width), source.random() * (height - box_height)
        levels[level(side)].append(Box(*map(_rounded, (x, y, x + box_width, y + box_height))))
    return tuple(map(tuple, levels))


def level(side: float) -> int:
    """The pyramid level, 0 to 3, for a box of that side: the root of its area, before the image cuts it."""
    return min(max(math.floor(math.log2(side / FINEST_LEVEL_SIDE)), 0), LEVELS - 1)


def _log_uniform(source: random.Random, low: float, high: float) -> float:
    return float(low * (high / low) ** source.random())


def _rounded(pixels: float) -> float:
    return round(pixels * 64) / 64
