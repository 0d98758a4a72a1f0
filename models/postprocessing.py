"""From a detector's outputs to boxes, classes and masks, with fixed sizes where the toolboxes have thresholds.

With random weights no score passes a threshold, or all do. So a fixed number goes into each step (mmdetection 2.11, the
test configs of Swin and ConvNeXt, give the numbers): non-maximum suppression costs what goes in, hardly what comes out.

    proposals    the best 1,000 anchors a level, decoded, NMS at 0.7 by level, the first 1,000
    detections   the best 500 of 80,000 boxes with their classes, decoded, NMS at 0.5 by class, the first 100
    paste        100 masks of 28 x 28 to the image's size, as bits, copied to the host

NMS on a GPU tells the host how many boxes are left, which stops it: none of this is ever part of a block of
back-to-back iterations.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from visionbench.models.boxes import Box

STRIDES = (4, 8, 16, 32, 64)
"""Pixels between two anchors of each level of the pyramid."""

SCALE, RATIOS = 8, (0.5, 1.0, 2.0)
"""An anchor's side in strides, and its ratios of height to width."""

PROPOSALS, PROPOSAL_OVERLAP = 1000, 0.7
CANDIDATES, DETECTIONS, DETECTION_OVERLAP = 500, 100, 0.5

LAST_STAGE_SPREAD = (0.1, 0.1, 0.2, 0.2)
"""What a box head's offsets are multiplied by: x, y, width, height."""

LARGEST_STEP = math.log(1000 / 16)
"""The logarithm of the most that a box may grow by."""


def proposals(scores: Sequence[Tensor], offsets: Sequence[Tensor], size: tuple[int, int]) -> list[Tensor]:
    """The boxes that RPN proposes, at most 1,000 of each image: (boxes, 5), corners and score, the best first.

    Shapes: scores (N, 3, h, w) and offsets (N, 12, h, w) of each of five levels; `size` is the image's (height, width).
    """
    return [_proposed([s[i] for s in scores], [o[i] for o in offsets], size) for i in range(len(scores[0]))]


def _proposed(scores: Sequence[Tensor], offsets: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    best, boxes, levels = [], [], []
    for number, (score, offset, stride) in enumerate(zip(scores, offsets, STRIDES, strict=True)):
        flat = score.permute(1, 2, 0).flatten().float().sigmoid()
        ranked, chosen = flat.topk(min(PROPOSALS, len(flat)))
        steps = offset.permute(1, 2, 0).reshape(-1, 4)[chosen].float()
        best.append(ranked)
        boxes.append(clip(decode(anchors(score.shape[-2:], stride, score.device)[chosen], steps), size))
        levels.append(torch.full_like(chosen, number))
    found, ranks = torch.cat(boxes), torch.cat(best)
    kept = suppress(found, ranks, torch.cat(levels), PROPOSAL_OVERLAP)[:PROPOSALS]
    return torch.cat([found[kept], ranks[kept, None]], 1)


def anchors(shape: Sequence[int], stride: int, device: torch.device) -> Tensor:
    """Three anchors (h x w x 3, 4) at each position of a level of `shape` (h, w), corners in pixels."""
    ratios = torch.tensor(RATIOS, device=device).sqrt()
    half = torch.stack([SCALE * stride / ratios, SCALE * stride * ratios], -1) / 2
    y, x = (torch.arange(length, device=device) * stride for length in shape)
    centres = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)[:, :, None].to(half.dtype)
    return torch.cat([centres - half, centres + half], -1).reshape(-1, 4)


def detections(scores: Tensor, offsets: Tensor, boxes: Tensor, size: tuple[int, int]) -> list[tuple[Tensor, Tensor]]:
    """At most 100 boxes of each image, (boxes, 5), corners and score, the best first; and their classes.

    Shapes: scores (N, K, 81), probabilities, the background last; offsets (N, K, 320); boxes (K, 4).
    """
    return [_detected(s.float(), o.float(), boxes.float(), size) for s, o in zip(scores, offsets, strict=True)]


def _detected(scores: Tensor, offsets: Tensor, boxes: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    classes = scores.shape[1] - 1
    steps = offsets.view(-1, classes, 4) * torch.tensor(LAST_STAGE_SPREAD, device=offsets.device)
    decoded = clip(decode(boxes[:, None].expand_as(steps), steps), size).reshape(-1, 4)
    flat = scores[:, :classes].flatten()
    best, chosen = flat.topk(min(CANDIDATES, len(flat)))
    kept = suppress(decoded[chosen], best, chosen % classes, DETECTION_OVERLAP)[:DETECTIONS]
    return torch.cat([decoded[chosen[kept]], best[kept, None]], 1), chosen[kept] % classes


def paste(masks: Tensor, boxes: Sequence[Box], size: tuple[int, int]) -> Tensor:
    """Each mask enlarged to its box, over half or not, at its place: (N, K, height, width) bits on the host.

    Shapes: masks (N, K, 28, 28), probabilities. As in the toolbox a GPU resamples the whole image for all masks at once
    and a CPU only what is inside the box, one mask after the other.
    """
    images, count = masks.shape[:2]
    bits = torch.zeros((images, count, *size), dtype=torch.bool, device=masks.device)
    if masks.device.type != "cpu":
        place = torch.tensor([tuple(box) for box in boxes], device=masks.device)
        for i in range(images):
            bits[i] = _resampled(masks[i].float(), place, (0, 0, size[1], size[0])) >= 0.5
        return bits.cpu()
    for k, box in enumerate(boxes):
        x1, y1, x2, y2 = _covered(box, size)
        place = torch.tensor([tuple(box)] * images)
        bits[:, k, y1:y2, x1:x2] = _resampled(masks[:, k].float(), place, (x1, y1, x2, y2)) >= 0.5
    return bits


def _covered(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The pixels that a box touches and one around it, inside the image."""
    low = (max(math.floor(side) - 1, 0) for side in (box.x1, box.y1))
    return (*low, min(math.ceil(box.x2) + 1, size[1]), min(math.ceil(box.y2) + 1, size[0]))  # type: ignore[return-value]


def _resampled(masks: Tensor, boxes: Tensor, window: tuple[int, int, int, int]) -> Tensor:
    """Masks (K, 28, 28) at each pixel's centre of `window` (x1, y1, x2, y2), zero outside their boxes (K, 4)."""
    x1, y1, x2, y2 = window
    x = _within(torch.arange(x1, x2, device=masks.device), boxes[:, 0], boxes[:, 2])
    y = _within(torch.arange(y1, y2, device=masks.device), boxes[:, 1], boxes[:, 3])
    shape = (len(masks), y2 - y1, x2 - x1)
    grid = torch.stack([x[:, None, :].expand(shape), y[:, :, None].expand(shape)], -1)
    return functional.grid_sample(masks[:, None], grid, align_corners=False)[:, 0]


def _within(pixels: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Where pixels' centres are between two sides (K,), which are -1 and 1: (K, pixels)."""
    return (pixels + 0.5 - low[:, None]) / (high - low)[:, None] * 2 - 1


def decode(boxes: Tensor, steps: Tensor) -> Tensor:
    """Boxes (..., 4) moved by steps (..., 4): the centre in sides, sides in logarithms (arXiv 1311.2524, app. C)."""
    low, high = boxes.split(2, -1)
    sides = high - low
    centre = (low + high) / 2 + steps[..., :2] * sides
    half = sides * steps[..., 2:].clamp(-LARGEST_STEP, LARGEST_STEP).exp() / 2
    return torch.cat([centre - half, centre + half], -1)


def clip(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes (..., 4) cut to an image of `size` (height, width)."""
    height, width = size
    return torch.stack([boxes[..., i].clamp(0, width if i % 2 == 0 else height) for i in range(4)], -1)


def suppress(boxes: Tensor, scores: Tensor, groups: Tensor, overlap: float) -> Tensor:
    """Which boxes (K, 4) no better one of its group overlaps by more, the best first.

    All groups at once: each is moved to a separate place, as the toolbox does.
    """
    from torchvision.ops import nms

    apart = boxes + (groups.to(boxes.dtype) * (boxes.max() + 1))[:, None]
    kept: Tensor = nms(apart, scores, overlap)
    return kept
