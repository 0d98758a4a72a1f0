"""The placer of labels: nothing on anything, whatever it is given, and always the same."""

from __future__ import annotations

import itertools
import random

import pytest

from visionbench.reports.figures.place import Box, Label, Scene, Segment, place

CANVAS = Box(left=0, bottom=0, right=100, top=80)


def _labels(seed: int, number: int) -> tuple[Label, ...]:
    rng = random.Random(seed)
    return tuple(
        Label(x=rng.uniform(0, 100), y=rng.uniform(0, 80), width=rng.uniform(3, 14), height=2.4, radius=0.9)
        for _ in range(number)
    )


def _marks(labels: tuple[Label, ...]) -> tuple[Box, ...]:
    return tuple(
        Box(left=one.x - one.radius, bottom=one.y - one.radius, right=one.x + one.radius, top=one.y + one.radius)
        for one in labels
    )


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 6))])
def test_no_label_lies_on_another_on_a_mark_or_outside(seed: int) -> None:
    labels = _labels(seed, 30)
    marks = _marks(labels)
    found = place(labels, Scene(canvas=CANVAS, hard=marks))
    boxes = [one.box for one in found if one]
    assert len(boxes) == len(labels)
    assert all(box.within(CANVAS) for box in boxes)
    assert not any(box.overlaps(mark) for box in boxes for mark in marks)
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def test_it_is_deterministic() -> None:
    labels = _labels(1, 20)
    scene = Scene(canvas=CANVAS, hard=_marks(labels))
    first = place(labels, scene)
    place.cache_clear()
    assert place(labels, scene) == first


def test_a_lonely_label_stands_right_of_its_point_without_a_leader() -> None:
    [one] = place((Label(x=50, y=40, width=10, height=2, radius=1),), Scene(canvas=CANVAS))
    assert one is not None
    assert one.leader is None
    assert one.box.left > 51
    assert one.box.bottom + one.box.top == pytest.approx(80)


def test_twins_share_neither_place_nor_peace_and_what_has_moved_has_a_leader() -> None:
    twins = (Label(x=50, y=40, width=20, height=3, radius=1),) * 8
    found = place(twins, Scene(canvas=CANVAS, hard=_marks(twins)))
    assert all(found)
    assert any(one and one.leader for one in found)


def test_without_room_a_label_is_left_out_and_not_laid_over() -> None:
    tiny = Box(left=0, bottom=0, right=16, top=6)
    labels = (Label(x=6, y=2, width=9, height=1.6, radius=0.2),) * 9
    found = place(labels, Scene(canvas=tiny))
    boxes = [one.box for one in found if one]
    assert 1 <= len(boxes) < 9
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


@pytest.mark.parametrize(
    ("segment", "crosses"),
    [
        (Segment(x0=0, y0=0, x1=10, y1=10), True),
        (Segment(x0=0, y0=5, x1=10, y1=5), True),
        (Segment(x0=0, y0=0, x1=3, y1=3), False),
        (Segment(x0=0, y0=9, x1=10, y1=9), False),
        (Segment(x0=5, y0=5, x1=5, y1=5), True),
    ],
)
def test_a_segment_crosses_a_box_or_does_not(segment: Segment, crosses: bool) -> None:
    assert segment.crosses(Box(left=4, bottom=4, right=6, top=6)) is crosses
