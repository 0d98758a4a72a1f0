"""Detectors and segmentors through the whole of the house: selection, traces, predictions, refusals, one real run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests import dense_networks
from visionbench.command.main import main
from visionbench.command.requests import HowToRun, Selection
from visionbench.command.selection import Defaults, specs_to_run
from visionbench.predicting.step_time import predict_step
from visionbench.record import store
from visionbench.record.devices import find
from visionbench.record.metrics import DETECTOR_PHASES
from visionbench.record.spec import Precision, Spec
from visionbench.reports import REPORTS
from visionbench.reports.paper.lessons import learned
from visionbench.tracing import run
from visionbench.tracing.second_opinion import second_opinion

ROOT = Path(__file__).parents[1]
ON_A_GPU = Defaults(precision="tf32", memory_format="channels_last", batch_size=64)


@pytest.mark.parametrize(("table", "rows"), [("convnext_table3", 14), ("convnext_table4", 11)])
def test_tables_run_as_the_papers_did_one_image_contiguous(table: str, rows: int) -> None:
    specs = specs_to_run(Selection(words=(table,)), HowToRun(), ON_A_GPU)
    assert len(specs) == rows
    assert {(spec.batch_size, spec.memory_format, spec.precision) for spec in specs} == {(1, "contiguous", "tf32")}
    asked = HowToRun(batch_size=4, memory_format="channels_last")
    assert {spec.batch_size for spec in specs_to_run(Selection(words=(table,)), asked, ON_A_GPU)} == {4}


def test_the_other_tables_still_run_as_table_12_did() -> None:
    specs = specs_to_run(Selection(words=("convnext_table12",)), HowToRun(), ON_A_GPU)
    assert {(spec.batch_size, spec.memory_format) for spec in specs} == {(64, "channels_last")}


def test_a_name_alone_means_its_tables_size() -> None:
    names = ("paper:mask_rcnn_swin_tiny", "paper:upernet_swin_tiny", "paper:upernet_swin_large")
    specs = specs_to_run(Selection(words=names), HowToRun(), Defaults())
    assert [str(spec.image_size) for spec in specs] == ["800x1280", "512x2048", "640x2560"]


def test_the_card_shows_each_parts_share(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", "paper:mask_rcnn_convnext_tiny", "--image-size", "64x96"]) == 0
    shown = capsys.readouterr().out
    parts = shown.partition("By part")[2].partition("By kind")[0]
    assert all(part in parts for part in ("backbone", "neck", "rpn", "box_heads", "mask_heads"))
    assert "toolbox's counter" in shown


@pytest.mark.parametrize("size", ["801x1280", "64x33", "32", "8x8"])
@pytest.mark.parametrize("model", ["paper:cascade_mask_rcnn_swin_tiny", "paper:upernet_convnext_tiny"])
def test_a_size_that_fits_no_pyramid_is_one_sentence(model: str, size: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", model, "--image-size", size]) == 2
    said = capsys.readouterr().err
    assert "multiples of 32" in said
    assert "try " in said


def test_a_detectors_training_is_refused_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", "paper:mask_rcnn_swin_tiny", "--image-size", "64", "--task", "train"]) == 2
    said = capsys.readouterr().err
    assert "losses need boxes" in said
    assert "--task inference" in said


@pytest.mark.parametrize("precision", ["amp_bf16", "amp_fp16", "fp16", "tf32"])
@pytest.mark.parametrize("model", ["paper:mask_rcnn_convnext_tiny", "paper:upernet_swin_tiny"])
def test_every_precision_counts_the_same(model: str, precision: Precision) -> None:
    plain = Spec(model=model, image_size=(64, 96))
    traces = [run(spec) for spec in (plain, replace(plain, precision=precision))]
    assert traces[0].macs_per_image == traces[1].macs_per_image
    assert traces[0].hooks == traces[1].hooks
    assert not [op.name for op in traces[1].operators if op.kind == "other" or op.missed]


def test_a_segmentor_trains_its_auxiliary_head_too() -> None:
    spec = Spec(model="paper:upernet_convnext_tiny", image_size=(64, 96), task="train", batch_size=2)
    inference, step = run(replace(spec, task="inference")), run(spec)
    assert step.curve is not None
    forward = sum(op.macs for op in step.operators if op.phase == "forward")
    positions = 2 * 4 * 6
    assert forward - sum(op.macs for op in inference.operators) == positions * (9 * 384 * 256 + 256 * 150)
    backward = sum(op.macs for op in step.operators if op.phase == "backward")
    stem = 2 * 16 * 24 * 48 * 96  # whose input needs no gradient
    assert backward == 2 * forward - stem
    assert step.hooks is None


def test_no_prediction_is_made_of_a_detector_and_the_reason_is_said() -> None:
    card = find("a100-sxm4-40gb")
    assert card is not None
    refused = predict_step(Spec(model="paper:mask_rcnn_convnext_tiny", image_size=(64, 96), precision="tf32"), card)
    assert refused.failure is not None
    assert "RoIAlign" in refused.failure.message


@pytest.mark.slow
@pytest.mark.parametrize("model", ["paper:mask_rcnn_swin_tiny", "paper:upernet_convnext_tiny"])
def test_a_second_opinion_agrees(model: str) -> None:
    opinion = second_opinion(Spec(model=model, image_size=64))
    assert opinion.agrees
    assert opinion.ours > 1e9


def test_the_first_look_counts_printed_flops_by_their_own_rule() -> None:
    rows = [row for name in ("convnext_table3", "convnext_table4") for row in REPORTS[name].rows]
    [sentence] = learned(rows, dense_networks.records())
    assert sentence.startswith("Of 38 printed params and FLOPs, 36 agree")


@pytest.mark.slow
def test_a_detector_runs_in_a_fresh_process_with_every_phase(tmp_path: Path) -> None:
    records = tmp_path / "records.jsonl"
    words = [
        "run",
        "paper:mask_rcnn_convnext_tiny",
        "--image-size",
        "64x96",
        "--device",
        "cpu",
        "--records",
        str(records),
    ]
    done = subprocess.run([sys.executable, "bench.py", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [record] = store.read(records).records
    assert record.spec.image_size == (64, 96)
    assert {"throughput", *DETECTOR_PHASES} <= {measurement.metric for measurement in record.measurements}
    assert json.loads(records.read_text())["spec"]["image_width"] == 96
    assert "post-processing" in done.stdout


MINE = """
from torch import nn
from visionbench.models.detection import cascade_mask_rcnn


class Patches(nn.Module):
    channels = (8, 16, 24, 32)

    def __init__(self):
        super().__init__()
        self.maps = nn.ModuleList(nn.Conv2d(3, c, 4 * 2**i, 4 * 2**i) for i, c in enumerate(self.channels))

    def forward(self, images):
        return [patches(images) for patches in self.maps]


class ThreeMaps(Patches):
    def forward(self, images):
        return super().forward(images)[:3]


def detector(image_size):
    return cascade_mask_rcnn(Patches(), image_size)


def three_maps(image_size):
    return cascade_mask_rcnn(ThreeMaps(), image_size)


def no_backbone(image_size):
    return cascade_mask_rcnn(nn.Conv2d(3, 3, 3), image_size)
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "backbones_of_mine.py").write_text(MINE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield "user:backbones_of_mine"
    sys.modules.pop("backbones_of_mine", None)


def test_a_backbone_of_ones_own_gets_its_row(mine: str) -> None:
    traced = run(Spec(model=f"{mine}:detector", image_size=(64, 96)))
    assert traced.hooks is not None
    backbone = sum(op.macs for op in traced.operators if op.module.startswith("backbone"))
    assert backbone == 3 * (8 + 16 + 24 + 32) * 64 * 96


@pytest.mark.parametrize(
    ("factory", "size", "reason"),
    [
        ("three_maps", "64x96", "a pyramid needs"),
        ("no_backbone", "64x96", "four maps"),
        ("detector", "65x96", "multiples of 32"),
    ],
)
def test_what_is_no_backbone_is_refused_in_a_sentence(
    mine: str, factory: str, size: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["trace", f"{mine}:{factory}", "--image-size", size]) == 2
    said = capsys.readouterr().err
    assert reason in said
    assert "Traceback" not in said
