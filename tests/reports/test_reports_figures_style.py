"""The palette: everything stands out from its ground, and what stands side by side looks different to every eye."""

from __future__ import annotations

import itertools
import math

import pytest

from visionbench.reports.figures.accuracy_flops import FAMILIES, OTHER, family, short
from visionbench.reports.figures.panels import log_ticks
from visionbench.reports.figures.style import LIGHT, THEMES, tinted


def _linear(colour: str) -> list[float]:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    return [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]


def _contrast(a: str, b: str) -> float:
    light = sorted(0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in (_linear(a), _linear(b)))
    return (light[1] + 0.05) / (light[0] + 0.05)


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES)
def test_text_and_marks_stand_out_from_their_ground(theme) -> None:
    for text in (theme.ink, theme.muted, *(tinted(theme, hue) for hue in theme.hues)):
        assert _contrast(text, theme.ground) >= 4.5
    for name, hue in theme.hues.items():
        assert _contrast(hue, theme.ground) >= 3.0, name


# Machado, Oliveira & Fernandes 2009, severity 1.0, in linear RGB.
VISION = {
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}


def _lab(rgb: list[float]) -> tuple[float, float, float]:
    r, g, b = (min(max(part, 0.0), 1.0) for part in rgb)
    xyz = (
        (0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.9505,
        0.2126 * r + 0.7152 * g + 0.0722 * b,
        (0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.089,
    )
    x, y, z = (part ** (1 / 3) if part > 0.008856 else 7.787 * part + 16 / 116 for part in xyz)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES)
def test_the_hues_that_stand_side_by_side_differ_for_every_eye(theme, vision) -> None:
    """ConvNeXt against Swin, memory against arithmetic, done against failed: these two must never be mixed up."""
    seen = {
        name: _lab([sum(a * b for a, b in zip(row, _linear(theme.hues[name]), strict=True)) for row in VISION[vision]])
        for name in ("blue", "vermillion", "green", "grey")
    }
    assert math.dist(seen["blue"], seen["vermillion"]) > 40
    assert min(math.dist(a, b) for a, b in itertools.combinations(seen.values(), 2)) > 10


def test_families_differ_in_shape_too() -> None:
    markers = [family.marker for family in (*FAMILIES, OTHER)]
    assert len(set(markers)) == len(markers)
    assert all(family.hue in LIGHT.hues for family in (*FAMILIES, OTHER))


@pytest.mark.parametrize(
    ("label", "size", "kin", "reads"),
    [
        ("ConvNeXt-B", 384, "ConvNeXt", "B@384"),
        ("ConvNeXt-S (iso.)", 224, "ConvNeXt (isotropic)", "S"),
        ("Swin-T", 224, "Swin", "T"),
        ("ViT-L/16", 384, "DeiT, ViT", "ViT-L/16@384"),
        ("EffNetV2-XL", 480, "EfficientNet", "V2-XL@480"),
        ("R-101x3", 384, "ResNet", "101x3@384"),
        ("NASNet-A", 224, "other", "NASNet-A"),
    ],
)
def test_a_label_beside_its_legend(label: str, size: int, kin: str, reads: str) -> None:
    assert family(label).name == kin
    assert short(label, size) == reads


def test_a_logarithmic_axis_has_ticks_enough_to_read_a_value_off():
    assert log_ticks(40, 1400) == [50, 100, 200, 500, 1000]
    few = log_ticks(4.1, 14.0)
    assert len(few) >= 3
    assert all(4.1 <= tick <= 14.0 for tick in few)
    assert all(len(log_ticks(low, low * 1.5)) >= 3 for low in (0.2, 3.0, 70.0, 900.0))
