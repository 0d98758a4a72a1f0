"""From a detector's outputs to boxes and masks: every size is fixed, and the arithmetic is the textbook's."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from visionbench.models import detection, postprocessing
from visionbench.models.boxes import Box
from visionbench.models.detection import Detector
from visionbench.models.outputs import UntrainableError

SIZE = (96, 128)


class Patches(nn.Module):
    """The simplest backbone."""

    channels = (4, 4, 4, 4)

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Conv2d(3, 4, 4 * 2**i, 4 * 2**i) for i in range(4))

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [patches(images) for patches in self.maps]


def small(around: Callable[[nn.Module, tuple[int, int]], Detector]) -> Detector:
    """A detector of a few boxes."""
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(detection, "BOXES", 12)
        patched.setattr(detection, "MASKS", 3)
        return around(Patches(), SIZE).eval()


@pytest.fixture(scope="module")
def detector() -> Detector:
    return small(detection.mask_rcnn)


@pytest.fixture(scope="module")
def cascade() -> Detector:
    return small(detection.cascade_mask_rcnn)


@pytest.mark.parametrize("heads", [1, 3])
def test_the_dense_part_gives_what_it_says_and_it_is_finite(heads: int, request: pytest.FixtureRequest) -> None:
    network: Detector = request.getfixturevalue("detector" if heads == 1 else "cascade")
    with torch.inference_mode():
        outputs = network(torch.randn(2, 3, *SIZE))
    shapes = [tuple(tensor.shape) for tensor in outputs]
    levels = [(24, 32), (12, 16), (6, 8), (3, 4), (2, 2)]
    assert shapes == [
        *[(24, 81)] * heads,
        *[(24, 320)] * heads,
        *[(6, 80, 28, 28)] * heads,
        *[(2, 3, h, w) for h, w in levels],
        *[(2, 12, h, w) for h, w in levels],
    ]
    assert all(torch.isfinite(tensor).all() for tensor in outputs)


def test_the_phases_are_the_dense_part_and_the_post_processing(cascade: Detector) -> None:
    images = torch.randn(2, 3, *SIZE)
    phases = cascade.phases(images)
    assert list(phases) == ["backbone", "neck", "rpn", "boxes", "masks", "proposals", "detections", "paste"]
    with torch.inference_mode():
        for _ in range(2):  # a second round finds nothing left of the first
            results = {name: phase() for name, phase in phases.items()}
    for proposed in results["proposals"]:
        assert proposed.shape[1] == 5
        assert len(proposed) <= 1000
        assert (proposed[1:, 4] <= proposed[:-1, 4]).all()
    for found, classes in results["detections"]:
        assert found.shape == (100, 5)
        assert classes.max() < 80
    assert results["paste"].shape == (2, 3, *SIZE)
    assert results["paste"].dtype == torch.bool


def test_what_the_heads_give_is_sorted_back_by_image(detector: Detector) -> None:
    regions = detector.box_regions
    with torch.inference_mode():
        levels = detector.neck(detector.maps(torch.randn(2, 3, *SIZE)))
        both = regions.by_image(regions(levels), 2)
        for image in range(2):
            alone = regions.by_image(regions([level[image : image + 1] for level in levels]), 1)
            torch.testing.assert_close(both[image], alone[0])
    assert regions.boxes().shape == (12, 4)


def test_a_detector_is_not_trained(detector: Detector) -> None:
    with pytest.raises(UntrainableError, match="losses need boxes"):
        detector.train()(torch.randn(1, 3, *SIZE))
    detector.eval()


def test_a_step_of_zero_leaves_a_box_where_it_is_and_others_move_it_by_its_sides() -> None:
    box = torch.tensor([[10.0, 20.0, 30.0, 60.0]])
    torch.testing.assert_close(postprocessing.decode(box, torch.zeros(1, 4)), box)
    moved = postprocessing.decode(box, torch.tensor([[0.5, -0.25, math.log(2), 0.0]]))
    torch.testing.assert_close(moved, torch.tensor([[10.0, 10.0, 50.0, 50.0]]))
    huge = postprocessing.decode(box, torch.tensor([[0.0, 0.0, 99.0, 0.0]]))
    assert huge[0, 2] - huge[0, 0] == pytest.approx(20 * 1000 / 16)
    assert postprocessing.clip(torch.tensor([[-5.0, -5.0, 500.0, 500.0]]), (60, 80)).tolist() == [[0, 0, 80, 60]]


def test_anchors_have_one_area_and_three_ratios_at_each_position() -> None:
    found = postprocessing.anchors((2, 3), 4, torch.device("cpu")).view(2, 3, 3, 4)
    sides = found[..., 2:] - found[..., :2]
    torch.testing.assert_close(sides.prod(-1), torch.full((2, 3, 3), 32.0**2))
    torch.testing.assert_close(sides[0, 0, :, 1] / sides[0, 0, :, 0], torch.tensor([0.5, 1.0, 2.0]))
    centres = (found[..., 2:] + found[..., :2]) / 2
    assert centres[1, 2].tolist() == [[8.0, 4.0]] * 3


def test_boxes_suppress_those_of_their_own_group_alone() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 1, 11, 11], [0, 0, 10, 10], [50, 50, 60, 60]])
    scores, groups = torch.tensor([0.9, 0.8, 0.7, 0.95]), torch.tensor([0, 0, 1, 0])
    assert postprocessing.suppress(boxes, scores, groups, 0.5).tolist() == [3, 0, 2]


def test_a_mask_lands_in_its_box_on_a_cpu_as_it_does_on_a_whole_image() -> None:
    masks = torch.zeros(1, 2, 28, 28)
    masks[:, 0] = 1.0
    masks[:, 1, :, :14] = 1.0
    boxes = [Box(10.0, 20.0, 38.0, 48.0), Box(64.0, 0.0, 120.0, 56.0)]
    bits = postprocessing.paste(masks, boxes, SIZE)
    assert bits.shape == (1, 2, *SIZE)
    assert bits[0, 0, 20:48, 10:38].all()
    assert bits[0, 0].sum() == 28 * 28
    assert bits[0, 1, :56, 64:91].all()
    assert not bits[0, 1, :, 93:].any()
    place = torch.tensor([tuple(box) for box in boxes])
    whole = postprocessing._resampled(masks[0], place, (0, 0, SIZE[1], SIZE[0])) >= 0.5
    assert torch.equal(bits[0], whole)


@pytest.mark.slow
def test_a_detector_compiles_to_one_graph(cascade: Detector) -> None:
    explanation = torch._dynamo.explain(cascade)(torch.randn(1, 3, *SIZE))
    assert (explanation.graph_count, explanation.graph_break_count) == (1, 0)
