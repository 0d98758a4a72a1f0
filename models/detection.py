"""Mask R-CNN and Cascade Mask R-CNN on any backbone of four maps, under a fixed load.

Sources: Mask R-CNN (arXiv 1703.06870), FPN (1612.03144), Cascade R-CNN (1712.00726); the widths and the order of layers
are those of the toolbox that ConvNeXt and Swin were measured with (mmdetection 2.11 in Swin's fork,
github.com/SwinTransformer/Swin-Transformer-Object-Detection, c7b2011; configs of github.com/facebookresearch/ConvNeXt,
048efce, object_detection). So is where a ReLU is a module and where a function, and which class a norm has: the program
that counted the papers' FLOPs sees modules of some exact types only (`visionbench.tracing.hooks`).

`Detector.forward` is the *dense part*, what the papers' FLOPs are of: backbone, pyramid, region proposals on five
levels; 1,000 boxes of each image through every box head; 100 through every mask head. The boxes are given
(`visionbench.models.boxes`), the same for every stage and image: with random weights a detector's own proposals mean
nothing, and real weights would make time depend on a photo. What turns its outputs into detections is
`visionbench.models.postprocessing`, timed apart.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from visionbench.models import boxes as drawing
from visionbench.models import postprocessing
from visionbench.models.backbones import STRIDES, Size, check_maps, check_size, four_channels
from visionbench.models.outputs import UntrainableError

CLASSES = 80
"""COCO's; a box head scores one more, the background."""

WIDTH = 256
"""Channels of every level of the pyramid and of the heads' convolutions."""

ANCHORS = 3
"""Per position: one scale, three ratios."""

BOXES, MASKS = 1000, 100
"""Boxes of one image that go through the box heads, and through the mask heads."""

BOX_SEED, MASK_SEED = 0, 1

BOX_POOL, MASK_POOL = 7, 14
"""Positions of a side of what RoIAlign cuts out of the pyramid."""


class SyncedNorm(nn.BatchNorm2d):
    """Batch norm that a training over several GPUs synchronises; in one process torch's arithmetic is the same.

    A separate class, because the papers' counter sees `BatchNorm2d` and not `SyncBatchNorm`.
    """


class FeaturePyramid(nn.Module):
    """FPN: four maps to the same width, from the coarsest down, and a fifth level of every second position."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, WIDTH, 1) for c in channels)
        self.smooth = nn.ModuleList(nn.Conv2d(WIDTH, WIDTH, 3, padding=1) for _ in channels)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Four maps (N, channels[i], h, w) -> five (N, 256, h, w)."""
        levels: list[Tensor] = [lateral(features) for lateral, features in zip(self.lateral, maps, strict=True)]
        for i in range(len(levels) - 1, 0, -1):
            levels[i - 1] = levels[i - 1] + functional.interpolate(
                levels[i], size=levels[i - 1].shape[-2:], mode="nearest"
            )
        smoothed: list[Tensor] = [smooth(level) for smooth, level in zip(self.smooth, levels, strict=True)]
        return [*smoothed, functional.max_pool2d(smoothed[-1], 1, stride=2)]


class RegionProposals(nn.Module):
    """RPN: at every position of every level a score and four offsets for each of three anchors."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.scores = nn.Conv2d(WIDTH, ANCHORS, 1)
        self.offsets = nn.Conv2d(WIDTH, 4 * ANCHORS, 1)

    def forward(self, levels: Iterable[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Levels (N, 256, h, w) -> scores (N, 3, h, w) and offsets (N, 12, h, w) of each."""
        hidden = [functional.relu(self.conv(level)) for level in levels]
        return [self.scores(level) for level in hidden], [self.offsets(level) for level in hidden]


class BoxHead(nn.Module):
    """What is in a box and where exactly: `layers` flatten its features to 1,024, two linear layers follow.

    81 scores, and four offsets for each of 80 classes.
    """

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers
        self.scores = nn.Linear(1024, CLASSES + 1)
        self.offsets = nn.Linear(1024, 4 * CLASSES)

    def forward(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        """(K, 256, 7, 7) -> (K, 81), (K, 320)."""
        hidden = self.layers(regions)
        return self.scores(hidden), self.offsets(hidden)


def two_linear() -> BoxHead:
    """Mask R-CNN's: two linear layers of 1,024."""
    return BoxHead(
        nn.Sequential(nn.Flatten(1), nn.Linear(WIDTH * BOX_POOL**2, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU())
    )


def four_convolutions() -> BoxHead:
    """The cascade's in Swin's and ConvNeXt's configs (`4conv1f`): four normed convolutions, one linear layer."""
    layers: list[nn.Module] = []
    for _ in range(4):
        layers += [nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False), SyncedNorm(WIDTH), nn.ReLU()]
    return BoxHead(nn.Sequential(*layers, nn.Flatten(1), nn.Linear(WIDTH * BOX_POOL**2, 1024), nn.ReLU()))


def mask_head() -> nn.Sequential:
    """Four convolutions, twice the resolution, one mask of 28 x 28 per class: (K, 256, 14, 14) -> (K, 80, 28, 28)."""
    layers: list[nn.Module] = []
    for _ in range(4):
        layers += [nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.ConvTranspose2d(WIDTH, WIDTH, 2, 2), nn.ReLU(), nn.Conv2d(WIDTH, CLASSES, 1))


class Regions(nn.Module):
    """RoIAlign of given boxes: each from the level that suits its size (aligned, sampling by size, as the toolbox).

    The boxes are buffers, one for each level, in pixels. Cast to fp16 with the weights they are whole pixels above
    1024; under autocast they stay in fp32.
    """

    def __init__(self, count: int, side: int, size: Size, seed: int) -> None:
        super().__init__()
        from torchvision.ops import roi_align  # now, for its first import calls an operator, which is no part of a step

        self.align = roi_align
        self.side = side
        self.drawn = drawing.draw(count, *size, seed)
        for i, boxes in enumerate(self.drawn):
            rows = torch.tensor([tuple(box) for box in boxes]).reshape(-1, 4)
            self.register_buffer(f"level{i}", rows, persistent=False)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """The pyramid's levels of N images -> (N x boxes, 256, side, side): by level, then image, then box."""
        cut = []
        for i, (features, stride) in enumerate(zip(levels, STRIDES, strict=False)):
            rois = of_each_image(self.get_buffer(f"level{i}"), features.shape[0])
            # Under autocast in the boxes' fp32 and back: what torchvision's own rule for CUDA does.
            exact = self.align(features.to(rois.dtype), rois, self.side, 1 / stride, 0, aligned=True)
            cut.append(exact.to(features.dtype))
        return torch.cat(cut)

    def by_image(self, rows: Tensor, images: int) -> Tensor:
        """What a head gave for the regions, (images x boxes, ...) -> (images, boxes, ...)."""
        counts = [images * len(boxes) for boxes in self.drawn]
        return torch.cat([part.unflatten(0, (images, -1)) for part in rows.split(counts) if part.shape[0]], 1)

    def boxes(self) -> Tensor:
        """All boxes of one image (boxes, 4), in the order of `by_image`."""
        return torch.cat([self.get_buffer(f"level{i}") for i in range(len(self.drawn))])


def of_each_image(boxes: Tensor, images: int) -> Tensor:
    """The same boxes (K, 4) in each of so many images, as RoIAlign takes them: (images x K, 5), the image first."""
    count = boxes.shape[0]
    index = torch.arange(images, device=boxes.device, dtype=boxes.dtype).view(-1, 1, 1).expand(images, count, 1)
    return torch.cat([index, boxes.expand(images, count, 4)], -1).flatten(0, 1)


class Detector(nn.Module):
    """A two-stage detector with `box_heads` in a row, each with its mask head, for images of one size."""

    task = "detection"

    def __init__(self, backbone: nn.Module, image_size: int | Size, box_heads: Sequence[BoxHead]) -> None:
        super().__init__()
        self.image_size = check_size(image_size)
        self.channels = four_channels(backbone)
        self.backbone = backbone
        self.neck = FeaturePyramid(self.channels)
        self.rpn = RegionProposals()
        self.box_regions = Regions(BOXES, BOX_POOL, self.image_size, BOX_SEED)
        self.box_heads = nn.ModuleList(box_heads)
        self.mask_regions = Regions(MASKS, MASK_POOL, self.image_size, MASK_SEED)
        self.mask_heads = nn.ModuleList(mask_head() for _ in box_heads)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """The dense part of N images: the scores of each box head, its offsets, masks, and RPN's scores and offsets.

        Shapes: (N x 1000, 81), (N x 1000, 320), (N x 100, 80, 28, 28), (N, 3, h, w) and (N, 12, h, w) of each level.
        Raises `ModelError` if the backbone's maps are not what it said, and `UntrainableError` in training.
        """
        if self.training:
            raise UntrainableError(
                "a detector's losses need boxes, classes and masks of real images, and its time depends on them"
            )
        levels = self.neck(self.maps(images))
        objectness, anchor_offsets = self.rpn(levels)
        scores, offsets = self.score_boxes(levels)
        return (*scores, *offsets, *self.draw_masks(levels), *objectness, *anchor_offsets)

    def maps(self, images: Tensor) -> list[Tensor]:
        """The backbone's four maps, of the shapes that it promised."""
        maps: list[Tensor] = list(self.backbone(images))
        check_maps(maps, self.channels, images)
        return maps

    def score_boxes(self, levels: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """RoIAlign and every box head: scores (N x 1000, 81) and offsets (N x 1000, 320) of each."""
        both = [head(self.box_regions(levels)) for head in self.box_heads]
        return [scores for scores, _ in both], [offsets for _, offsets in both]

    def draw_masks(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """RoIAlign once and every mask head: (N x 100, 80, 28, 28) of each."""
        regions = self.mask_regions(levels)
        return [head(regions) for head in self.mask_heads]

    def phases(self, images: Tensor) -> dict[str, Callable[[], object]]:
        """The dense part and the post-processing of a batch in phases, to be called in this order.

        What a phase leaves is the next one's input, but post-processing works with given boxes: its results are not fed
        back, so that every phase's load is fixed.
        """
        left: dict[str, list[Tensor]] = {}

        def backbone() -> None:
            left["maps"] = self.maps(images)

        def neck() -> None:
            left["levels"] = self.neck(left["maps"])

        def rpn() -> None:
            left["objectness"], left["anchor_offsets"] = self.rpn(left["levels"])

        def boxes() -> None:
            left["scores"], left["offsets"] = self.score_boxes(left["levels"])

        def masks() -> None:
            left["masks"] = self.draw_masks(left["levels"])

        def proposals() -> object:
            return postprocessing.proposals(left["objectness"], left["anchor_offsets"], self.image_size)

        def detections() -> object:
            by_image, count = self.box_regions.by_image, len(images)
            scores = torch.stack([by_image(scores, count).softmax(-1) for scores in left["scores"]]).mean(0)
            offsets = by_image(left["offsets"][-1], count)
            return postprocessing.detections(scores, offsets, self.box_regions.boxes(), self.image_size)

        def paste() -> object:
            by_image, count = self.mask_regions.by_image, len(images)
            masks = torch.stack([by_image(masks, count)[:, :, 0].sigmoid() for masks in left["masks"]]).mean(0)
            left.clear()  # what is timed next begins with an empty memory
            drawn = [box for level in self.mask_regions.drawn for box in level]
            return postprocessing.paste(masks, drawn, self.image_size)

        parts = (backbone, neck, rpn, boxes, masks, proposals, detections, paste)
        return {part.__name__: part for part in parts}


def mask_rcnn(backbone: nn.Module, image_size: int | Size) -> Detector:
    """Mask R-CNN on any backbone of four maps: one box head of two linear layers, one mask head.

    A backbone is a module with `channels`, the widths of its maps, whose `forward` gives the four at strides 4, 8, 16
    and 32 (`visionbench.models.backbones`). With it your function is a model like any other,
    `user:mine:detector`:

        def detector(image_size):
            return mask_rcnn(MyBackbone(), image_size)

    `image_size` in pixels: one number, or (height, width). Raises `ModelError` for a size that is no multiple of 32, or
    a module without four widths.
    """
    return Detector(backbone, image_size, [two_linear()])


def cascade_mask_rcnn(backbone: nn.Module, image_size: int | Size) -> Detector:
    """Cascade Mask R-CNN as `mask_rcnn`: three box heads of four convolutions, three mask heads."""
    return Detector(backbone, image_size, [four_convolutions() for _ in range(3)])
