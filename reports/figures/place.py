"""Where labels go, so that none covers another or a point, or is cut off: pure geometry, in any unit, deterministic.

Every label has a few hundred candidate places: rings of directions around its point, the nearer the better. Places that
leave the canvas or cover an obstacle are struck out first. What is left is a choice of one place per label, made
greedily (the label with the fewest places first) and then improved label by label until nothing moves, which for the
few dozen labels of a figure ends after a handful of rounds (Christensen, Marks & Shieber 1995 compare such searches). A
label for which no free place is left has none: it is better left out, and named, than laid over another.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

DIRECTIONS = 24
RINGS = (0.0, 0.4, 1.0, 1.8, 2.8, 4.0, 5.5, 7.5, 10.0, 13.0, 17.0)
"""Distances of a label from its point's edge, in heights of the label."""

KEPT = 90
"""The best places of a label that are weighed against the other labels."""

ROUNDS = 12
OVERLAP = 1e6
"""What it costs to cover something: more than any distance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A rectangle with its edges."""

    left: float
    bottom: float
    right: float
    top: float

    def overlaps(self, other: Box) -> bool:
        """Whether the two have more than an edge in common."""
        across = self.left < other.right and other.left < self.right
        return across and self.bottom < other.top and other.bottom < self.top

    def within(self, other: Box) -> bool:
        """Whether nothing of it is outside the other."""
        across = other.left <= self.left and self.right <= other.right
        return across and other.bottom <= self.bottom and self.top <= other.top


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A straight line between two points, which labels should not cover."""

    x0: float
    y0: float
    x1: float
    y1: float

    def crosses(self, box: Box) -> bool:
        """Whether some of it is inside the box (Liang & Barsky 1984)."""
        if self.x0 <= box.left >= self.x1 or self.x0 >= box.right <= self.x1:
            return False  # most are: a figure asks a million times
        if self.y0 <= box.bottom >= self.y1 or self.y0 >= box.top <= self.y1:
            return False
        enter, leave = 0.0, 1.0
        dx, dy = self.x1 - self.x0, self.y1 - self.y0
        for step, room in (
            (-dx, self.x0 - box.left),
            (dx, box.right - self.x0),
            (-dy, self.y0 - box.bottom),
            (dy, box.top - self.y0),
        ):
            if step == 0:
                if room <= 0:
                    return False
            elif step < 0:
                enter = max(enter, room / step)
            else:
                leave = min(leave, room / step)
        return enter < leave


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """What wants a place: the size of its text, and its point with the radius to keep clear of."""

    x: float
    y: float
    width: float
    height: float
    radius: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A place of a label: its box, its price before other labels are looked at, and its leader, if it needs one."""

    box: Box
    price: float
    leader: Segment | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What is already there: `canvas` bounds all labels, `hard` must stay free, `soft` and `lines` had better."""

    canvas: Box
    hard: tuple[Box, ...] = ()
    soft: tuple[Box, ...] = ()
    lines: tuple[Segment, ...] = ()


@functools.lru_cache(maxsize=32)
def place(labels: tuple[Label, ...], scene: Scene) -> tuple[Place | None, ...]:
    """A place for every label, or None where there is no free one.

    Remembered, because the light and the dark dress of a figure have their labels in the same places.
    """
    options = [_candidates(label, scene) for label in labels]
    order = sorted(range(len(labels)), key=lambda index: (len(options[index]), index))
    chosen: list[Place | None] = [None] * len(labels)
    for _ in range(ROUNDS):
        before = list(chosen)
        for index in order:
            others = [other for place, other in enumerate(chosen) if place != index and other]
            chosen[index] = min(options[index], key=lambda option: _price(option, others), default=None)
        if chosen == before:
            break
    return _apart(chosen)


def _candidates(label: Label, scene: Scene) -> list[Place]:
    """The best lawful places of one label."""
    found = (one for one in _around(label) if one.box.within(scene.canvas))
    free = (one for one in found if not any(one.box.overlaps(box) for box in scene.hard))
    priced = (replace(one, price=one.price + _burden(one, scene)) for one in free)
    return sorted(priced, key=lambda one: one.price)[:KEPT]


def _around(label: Label) -> Iterator[Place]:
    for ring in RINGS:
        for step in range(DIRECTIONS):
            angle = 2 * math.pi * step / DIRECTIONS
            box = _beside(label, angle, ring * label.height)
            leader = _leader(label, box) if ring >= 1.0 else None
            yield Place(box=box, price=ring + _sideways(angle), leader=leader)


def _beside(label: Label, angle: float, gap: float) -> Box:
    """The box whose nearest point is at `angle` and `gap` from the point's edge."""
    reach, cos, sin = label.radius + gap + 0.15 * label.height, math.cos(angle), math.sin(angle)
    # The centre goes out by as much of the half-size as looks that way: beside, above and below are alike.
    x = label.x + cos * reach + label.width / 2 * max(-1.0, min(1.0, 1.6 * cos))
    y = label.y + sin * reach + label.height / 2 * max(-1.0, min(1.0, 1.6 * sin))
    half = (label.width / 2, label.height / 2)
    return Box(left=x - half[0], bottom=y - half[1], right=x + half[0], top=y + half[1])


def _sideways(angle: float) -> float:
    """A taste: right, then left, then above, then below, then between."""
    cos, sin = math.cos(angle), math.sin(angle)
    return 0.3 * (1 - max(cos, -0.8 * cos, 0.7 * sin, -0.6 * sin))


def _leader(label: Label, box: Box) -> Segment:
    """From the label's nearest edge to the point's edge."""
    x, y = min(max(label.x, box.left), box.right), min(max(label.y, box.bottom), box.top)
    length = math.hypot(x - label.x, y - label.y) or 1.0
    part = min(label.radius / length, 1.0)
    return Segment(x0=x, y0=y, x1=label.x + (x - label.x) * part, y1=label.y + (y - label.y) * part)


def _burden(one: Place, scene: Scene) -> float:
    """What is below the label or crosses its leader: bearable, but not liked."""
    box, leader = one.box, one.leader
    soft = sum(box.overlaps(other) for other in scene.soft)
    lines = sum(line.crosses(box) for line in scene.lines)
    hidden = sum(leader.crosses(other) for other in scene.hard) if leader else 0
    return 0.8 * soft + 1.5 * lines + 1.2 * max(hidden - 1, 0)


def _price(one: Place, others: Sequence[Place]) -> float:
    """Its own price and what it does to the labels that have a place, and they to it."""
    price = one.price
    for other in others:
        price += OVERLAP * one.box.overlaps(other.box)
        if one.leader:
            price += 6.0 * one.leader.crosses(other.box)
        if other.leader:
            price += 6.0 * other.leader.crosses(one.box)
    return price


def _apart(chosen: Sequence[Place | None]) -> tuple[Place | None, ...]:
    """Should two still overlap, the later one goes."""
    kept: list[Place | None] = []
    for one in chosen:
        clash = one and any(other and one.box.overlaps(other.box) for other in kept)
        kept.append(None if clash else one)
    return tuple(kept)
