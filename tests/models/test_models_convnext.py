"""The authors' ConvNeXt: timm's network weight for weight, and another program."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from visionbench.models import build, resolve
from visionbench.models.convnext import SIZES
from visionbench.models.roadmap import RUNGS
from visionbench.tracing.skeleton import skeleton


def params(name: str) -> int:
    return sum(parameter.numel() for parameter in skeleton(name, 224).parameters())


@pytest.mark.parametrize(
    ("size", "count"),
    [
        ("tiny", 28_589_128),
        ("small", 50_223_688),
        ("base", 88_591_464),
        ("large", 197_767_336),
        ("xlarge", 350_196_968),
    ],
)
def test_each_size_has_timms_parameters(size: str, count: int) -> None:
    """The counts are those of timm 1.0.31's `convnext_{size}`, which the authors' weights fit."""
    assert params(f"paper:convnext_original_{size}") == params(f"timm:convnext_{size}") == count


def test_tiny_and_base_are_the_ends_of_the_road() -> None:
    """Of which tests/models/test_models_roadmap.py shows that the tiny one computes what timm's does."""
    for size, road in (("tiny", "t"), ("base", "b")):
        assert SIZES[f"convnext_original_{size}"] == replace(
            RUNGS[f"roadmap_{road}_separate_downsampling"], labels=(), table=10, drop_path=0.0
        )


@pytest.mark.parametrize("name", SIZES)
def test_it_is_of_timms_family_and_says_where_it_is_from(name: str) -> None:
    card = resolve(name)
    assert card.name == f"paper:{name}"
    assert card.family == resolve("timm:convnext_tiny").family == "convnext"
    assert "2201.03545" in card.origin


def depthwise_inputs(model: nn.Module, x: torch.Tensor) -> list[bool]:
    """Whether the input of each depthwise convolution lies contiguous."""
    seen: list[bool] = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            module.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].is_contiguous()))
    with torch.no_grad():
        model.eval()(x)
    return seen


def test_a_contiguous_network_stays_so_and_timms_does_not() -> None:
    images = torch.zeros(2, 3, 64, 64)
    ours = depthwise_inputs(build("paper:convnext_original_tiny", 64), images)
    theirs = depthwise_inputs(build("timm:convnext_tiny", 64), images)
    assert len(ours) == len(theirs) == 18
    assert all(ours)
    assert not any(theirs)
