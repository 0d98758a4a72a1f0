"""Detectors and segmentors: their boxes, their parts, and what they refuse.

tests/dense_networks.csv holds each network's exact counts, part by part.
"""

from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter

import pytest
import torch
from torch import nn

from tests.dense_networks import NETWORKS, PARTS, Size
from visionbench.models import ModelError, backbones, boxes, detection, paper, segmentation
from visionbench.tracing.call_cache import Operator
from visionbench.tracing.operators import Recorder
from visionbench.tracing.skeleton import _untouched

PART_OF = {"box_heads": "boxes", "mask_heads": "masks", "box_regions": "boxes", "mask_regions": "masks"}


def built(name: str, size: Size) -> nn.Module:
    with _untouched(), torch.device("meta"):
        return paper.build_dense(name, size).eval()


def traced(network: nn.Module, size: Size, images: int = 1) -> list[Operator]:
    recorder = Recorder()
    with torch.no_grad(), recorder.watching(network), recorder:
        network(torch.empty(images, 3, *size, device="meta"))
    return recorder.operators


def by_part(operators: list[Operator]) -> Counter[str]:
    macs: Counter[str] = Counter()
    for op in operators:
        part = op.module.partition(".")[0]
        macs[PART_OF.get(part, part)] += op.macs
    return macs


# --- the boxes ---


def test_the_boxes_are_those_of_seed_0() -> None:
    levels = boxes.draw(detection.BOXES, 800, 1280, detection.BOX_SEED)
    assert [len(level) for level in levels] == [488, 181, 189, 142]
    assert [tuple(box) for box in levels[0][:3]] == [
        (1063.046875, 354.578125, 1172.4375, 452.015625),
        (755.9375, 190.296875, 813.46875, 230.65625),
        (1093.765625, 515.78125, 1156.90625, 561.6875),
    ]
    masks = boxes.draw(detection.MASKS, 800, 1280, detection.MASK_SEED)
    assert [len(level) for level in masks] == [52, 10, 23, 15]


@pytest.mark.parametrize(("height", "width"), [(800, 1280), (64, 96), (1280, 800), (512, 2048)])
def test_boxes_lie_in_the_image_and_at_the_level_of_their_size(height: int, width: int) -> None:
    for number, level in enumerate(boxes.draw(300, height, width, 7)):
        for box in level:
            assert 0 <= box.x1 < box.x2 <= width
            assert 0 <= box.y1 < box.y2 <= height
            if box.x2 - box.x1 < width and box.y2 - box.y1 < height:
                side = math.sqrt((box.x2 - box.x1) * (box.y2 - box.y1))
                assert number in (boxes.level(side * 0.99), boxes.level(side * 1.01))


def test_boxes_need_no_torch_and_are_the_same_in_another_process() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import importlib.util as u\n"
        "s = u.spec_from_file_location('boxes', sys.argv[1]); m = u.module_from_spec(s); s.loader.exec_module(m)\n"
        "assert 'torch' not in sys.modules\n"
        "print(m.draw(50, 640, 960, 3))"
    )
    done = subprocess.run([sys.executable, "-c", code, boxes.__file__], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(boxes.draw(50, 640, 960, 3))


# --- counts: pencil formulas and golden integers ---


def positions(size: Size, stride: int) -> int:
    return math.ceil(size[0] / stride) * math.ceil(size[1] / stride)


def windows(size: Size, stride: int) -> int:
    return math.prod(7 * math.ceil(side / stride / 7) for side in size)


def pencil(name: str, size: Size, box_count: int = 1000, mask_count: int = 100) -> dict[str, int]:
    """The multiply-accumulates of each part of a network of ConvNeXt or Swin, by hand."""
    kind, _, backbone = name.rpartition("_")[0].rpartition("_")
    word = name.rpartition("_")[2]
    depths = (3, 3, 9 if word == "tiny" else 27, 3)
    width = {"tiny": 96, "small": 96, "base": 128, "large": 192, "xlarge": 256}[word]
    c, m = [width * 2**i for i in range(4)], [positions(size, stride) for stride in (4, 8, 16, 32)]
    counts = dict.fromkeys(PARTS, 0)
    counts["backbone"] = 48 * width * m[0]
    if backbone == "convnext":
        counts["backbone"] += sum(d * m[i] * (49 * c[i] + 8 * c[i] ** 2) for i, d in enumerate(depths))
        counts["backbone"] += sum(4 * c[i - 1] * c[i] * m[i] for i in (1, 2, 3))
    else:
        depths = (2, 2, 6 if word == "tiny" else 18, 2)
        padded = [windows(size, stride) for stride in (4, 8, 16, 32)]
        counts["backbone"] += sum(
            d * (4 * c[i] ** 2 * padded[i] + 8 * c[i] ** 2 * m[i] + 98 * c[i] * padded[i]) for i, d in enumerate(depths)
        )
        counts["backbone"] += sum(2 * c[i] ** 2 * m[i] for i in (1, 2, 3))
    if kind == "upernet":
        counts["decoder"] = (
            512 * sum(c[i] * m[i] for i in range(3))
            + 50 * 512 * c[3]
            + 9 * 512 * (c[3] + 2048) * m[3]
            + 9 * 512**2 * sum(m[:3])
            + 9 * 512 * 2048 * m[0]
            + 512 * 150 * m[0]
        )
        return counts
    stages = 3 if kind.startswith("cascade") else 1
    counts["neck"] = 256 * sum(c[i] * m[i] for i in range(4)) + 589_824 * sum(m)
    counts["rpn"] = (589_824 + 256 * 15) * (sum(m) + positions(size, 64))
    if stages == 1:
        counts["boxes"] = box_count * (12544 * 1024 + 1024**2 + 1024 * 401)
    else:
        counts["boxes"] = 3 * box_count * (4 * 49 * 589_824 + 12544 * 1024 + 1024 * 401)
    counts["masks"] = stages * mask_count * (4 * 196 * 589_824 + 196 * 256**2 * 4 + 784 * 256 * 80)
    return counts


@pytest.mark.parametrize("name", ["mask_rcnn_convnext_tiny", "cascade_mask_rcnn_swin_tiny", "upernet_swin_tiny"])
def test_each_part_of_a_small_image_costs_what_the_pencil_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detection, "BOXES", 20)
    monkeypatch.setattr(detection, "MASKS", 5)
    size = (64, 96)
    macs = by_part(traced(built(name, size), size))
    assert {part: macs[part] for part in PARTS} == pencil(name, size, 20, 5)


FAST = ("mask_rcnn_convnext_tiny", (800, 1280))


@pytest.mark.parametrize(
    ("name", "size"),
    [pytest.param(*network, marks=() if network == FAST else pytest.mark.slow) for network in NETWORKS],
)
def test_each_network_has_its_golden_counts(name: str, size: Size) -> None:
    counts, network = NETWORKS[name, size], built(name, size)
    operators = traced(network, size)
    macs = by_part(operators)
    assert sum(parameter.numel() for parameter in network.parameters()) == counts["params"]
    assert {part: macs[part] for part in PARTS} == {part: counts[part] for part in PARTS}
    assert sum(op.macs for op in operators) == counts["macs"]
    if "res" not in name:
        assert {part: counts[part] for part in PARTS} == pencil(name, size)
    assert not [op.name for op in operators if op.kind == "other" or op.missed]


def test_all_23_networks_of_the_two_tables_are_there() -> None:
    assert {name for name, _ in NETWORKS} == set(paper.DENSE)
    assert len(paper.DENSE) == 14 + 9
    assert {(name, network.image_size) for name, network in paper.DENSE.items()} <= set(NETWORKS)


def test_two_images_cost_twice_as_much() -> None:
    network = built("mask_rcnn_convnext_tiny", (64, 96))
    once, twice = (by_part(traced(network, (64, 96), images)) for images in (1, 2))
    assert twice == Counter({part: 2 * macs for part, macs in once.items()})


# --- a backbone of one's own ---


class Patches(nn.Module):
    """Four maps, the simplest there are."""

    channels = (8, 16, 24, 32)

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Conv2d(3, c, 4 * 2**i, 4 * 2**i) for i, c in enumerate(self.channels))

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [patches(images) for patches in self.maps]


class ThreeMaps(Patches):
    """What it promises and does not keep."""

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        return super().forward(images)[:3]


@pytest.mark.parametrize("around", [detection.mask_rcnn, detection.cascade_mask_rcnn, segmentation.upernet])
def test_any_backbone_of_four_maps_fits(around: detection.Callable[[nn.Module, Size], nn.Module]) -> None:
    with torch.device("meta"):
        network = around(Patches(), (64, 128)).eval()
        macs = by_part(traced(network, (64, 128)))
    assert macs["backbone"] == sum(3 * c * 64 * 128 for c in Patches.channels)


@pytest.mark.parametrize("name", ["resnet18", "regnety_004", "mobilenetv3_large_100", "swin_tiny_patch4_window7_224"])
def test_timms_networks_of_four_maps_fit(name: str) -> None:
    with _untouched(), torch.device("meta"):
        network = segmentation.upernet(backbones.from_timm(name, (64, 96)), (64, 96)).eval()
        assert network(torch.empty(1, 3, 64, 96)).shape == (1, 150, 64, 96)


def test_a_backbone_without_four_maps_is_refused() -> None:
    for name in ("vit_tiny_patch16_224", "deit_small_patch16_224"):
        with torch.device("meta"), pytest.raises(ModelError, match="maps at strides"):
            backbones.from_timm(name, (224, 224))
    for wrong in (nn.Conv2d(3, 8, 4), nn.Identity()):
        with pytest.raises(ModelError, match="four maps"):
            detection.mask_rcnn(wrong, (64, 64))
    with torch.device("meta"), pytest.raises(ModelError, match="a pyramid needs"):
        segmentation.upernet(ThreeMaps(), 64).eval()(torch.empty(1, 3, 64, 64))


@pytest.mark.parametrize(
    ("size", "remedy"), [((800, 1281), "800x1280"), (224 - 1, "224x224"), ((32, 640), "64x640"), (7, "64x64")]
)
@pytest.mark.parametrize("name", ["mask_rcnn_swin_tiny", "upernet_convnext_tiny"])
def test_a_size_that_does_not_fit_the_pyramid_is_refused(name: str, size: int | Size, remedy: str) -> None:
    with pytest.raises(ModelError, match=f"try {remedy}$"):
        paper.build_dense(name, size)
