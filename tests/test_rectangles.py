"""Images that are not square, wherever a user can ask for them: counted, measured, gated, predicted and reported."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from visionbench import compare, measure, predict, read_records, trace
from visionbench.command.main import main
from visionbench.models import ModelError, build
from visionbench.plugin.check import Settings, check
from visionbench.record.errors import BenchError
from visionbench.record.spec import Rectangle, Spec
from visionbench.reports import render
from visionbench.reports.render.html import evidence
from visionbench.reports.results import predictions, runs
from visionbench.tracing import run

NET = """
import torch

def tiny():
    return torch.nn.Sequential(torch.nn.Conv2d(3, 8, 4, stride=4), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())

def sized(image_size):
    height, width = image_size
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * height * width, 5))
"""
MODEL = "user:net_of_rectangles:tiny"
MACS = 8 * 10 * 8 * 3 * 4 * 4
"""Of 32 x 40 pixels: an output of 8 x 10, 8 channels, kernels of 3 x 4 x 4."""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "net_of_rectangles.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "net_of_rectangles", raising=False)
    return tmp_path


def macs(model: str, size: int | tuple[int, int], **fields: object) -> int:
    return run(Spec(model=model, image_size=size, **fields)).macs_per_image  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "model", ["timm:resnet18", "timm:convnext_atto", "timm:regnety_002", "paper:convnext_iso_small"]
)
@pytest.mark.parametrize("size", [(64, 160), (160, 64)])
def test_convolutions_cost_by_the_area(model: str, size: tuple[int, int]) -> None:
    """All but what follows the pooling (64 x 64 and 96 x 96 tell how much that is)."""
    small, large = macs(model, 64), macs(model, 96)
    by_pixel = (large - small) / (96 * 96 - 64 * 64)
    assert macs(model, size) == small + by_pixel * (64 * 160 - 64 * 64)


@pytest.mark.parametrize(("size", "tokens"), [((32, 64), 2 * 4), ((96, 32), 6 * 2)])
def test_a_vit_has_a_token_per_patch_of_the_rectangle(size: tuple[int, int], tokens: int) -> None:
    width, depth = 192, 12
    linear = tokens * 3 * 16 * 16 * width + depth * (tokens + 1) * 12 * width * width
    attention = depth * 2 * (tokens + 1) ** 2 * width
    assert macs("timm:deit_tiny_patch16_224", size) == linear + attention + width * 1000


@pytest.mark.parametrize(
    "model",
    ["timm:swin_tiny_patch4_window7_224", "timm:swinv2_cr_tiny_224", "timm:twins_svt_small", "timm:coatnet_0_224"],
)
def test_windows_lie_across_and_upright_alike(model: str) -> None:
    assert macs(model, (224, 448)) == macs(model, (448, 224)) > macs(model, 224)


@pytest.mark.parametrize("model", ["timm:nest_tiny", "timm:convit_tiny", "timm:efficientformer_l1"])
def test_one_that_takes_squares_alone_says_so_in_a_sentence(model: str) -> None:
    with pytest.raises((BenchError, ModelError), match="224x448") as refusal:
        macs(model, (224, 448))
    assert "\n" not in str(refusal.value)


def test_a_factory_is_given_both_sides() -> None:
    sized = build("timm:vit_tiny_patch16_224", (32, 64))
    assert sized.patch_embed.grid_size == (2, 4)


@pytest.mark.usefixtures("here")
def test_a_users_factory_is_given_both_sides_too() -> None:
    assert macs("user:net_of_rectangles:sized", (4, 6)) == 3 * 4 * 6 * 5


@pytest.mark.usefixtures("here")
def test_a_model_is_counted_at_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", MODEL, "--image-size", "32x40", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert {m["metric"]: m["values"] for m in record["measurements"]}["macs"] == [MACS]
    assert trace(MODEL, image_size=(32, 40)).value("macs") == MACS
    assert main(["trace", MODEL, "--image-size", "32x40", "--second-opinion"]) == 0
    said = capsys.readouterr().out
    assert f"{MODEL}@32x40" in said
    assert "the counts agree" in said


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_its_structure_is_guarded_by_both_tiers_of_a_suite(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare", "--exact", MODEL, "--image-size", "32x40", "--baseline", "b.json"]
    assert main([*words, "--update"]) == 0
    assert main(words) == 0
    assert f"{MODEL}@32x40 inference" in (here / "b.json").read_text()
    settings = Settings(folder=here, baseline=here / "b.json")
    assert check(MODEL, {"image_size": (32, 40)}, settings).word == "passed"
    assert "no such row" in check(MODEL, {"image_size": (40, 32)}, settings).text
    assert "mend the marker" in check(MODEL, {"image_size": (32, 40, 3)}, settings).text


@pytest.mark.usefixtures("here")
def test_it_is_predicted_and_told_with_the_command_that_makes_it_again() -> None:
    [across] = predict("resnet18", gpu="v100-sxm2-16gb", image_size=(192, 256))
    assert across.spec.image_size == Rectangle(192, 256)
    assert across.failure is None
    counted = trace("resnet18", image_size=(192, 256))
    table = predictions.layout([across], "Predicted")
    for form in ("terminal", "markdown", "latex", "csv"):
        assert "192x256" in render(table, form)
    assert "--image-size 192x256" in evidence.line_of([across])
    assert evidence.line_of([counted]).endswith("trace timm:resnet18 --image-size 192x256 --batch-size 1")


@pytest.mark.slow
def test_it_is_measured_and_gated(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", MODEL, "--image-size", "32x40", "--device", "cpu", "--protocol", "smoke", "--records", "r.jsonl"]
    assert main(words) == 0
    assert "32x40" in capsys.readouterr().out
    assert main(words) == 0
    assert "1 were recorded before" in capsys.readouterr().err
    [upright] = measure(MODEL, image_size=(40, 32), device="cpu", launches=1, records="r.jsonl")
    assert upright.spec.image_size == (40, 32)
    table = runs.layout(read_records("r.jsonl"))
    assert [row.cells[1].text for row in table.rows] == ["32x40", "40x32"]
    judged = compare(
        MODEL, vary={"memory_format": "channels_last"}, image_size=(32, 40), device="cpu", launches=1, rounds=2
    )
    assert [verdict.comparison.baseline.spec.image_size for verdict in judged.verdicts] == [(32, 40)]
    for suffix in ("svg", "png"):
        figure = ["figures", "memory_curve", "--model", "resnet18", "--image-size", "64x96", "--format", suffix]
        assert main([*figure, "--output", str(here)]) == 0
