"""The verbs of prediction, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.cli import main
from bench.record.record import from_json


def test_a_prediction_stands_beside_the_print_with_its_tier(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "--gpu", "v100-sxm2-16gb", "convnext_tiny", "--format", "json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert table["name"] == "predictions"
    text = json.dumps(table)
    assert "774.7" in text  # arXiv 2201.03545v2, Table 1
    assert "anchored" in text


def test_what_a_card_cannot_do_is_refused_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "--gpu", "v100-sxm2-16gb", "resnet18", "--precision", "tf32"]) == 4
    assert "has no tf32" in capsys.readouterr().out.lower()


def test_training_has_memory_and_records_say_predicted(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["predict", "--gpu", "rtx-3090", "resnet18", "--task", "train", "--precision", "amp_fp16", "--lines"]
    assert main(words) == 0
    record = from_json(capsys.readouterr().out)
    assert record.source == "predicted"
    assert record.protocol is None
    low, centre, high = (record.value(f"step_time{end}") for end in (".low80", "", ".high80"))
    assert 0 < (low or 0) < (centre or 0) < (high or 0)
    # Live tensors of ResNet-18's step at batch 64: at least its weights, gradients and moments, 4 x 46.8 MB.
    assert (record.value("peak_memory_allocated") or 0) > 4 * 46.8e6


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "--gpu", "gtx-9999", "resnet18"],
        ["predict", "--gpu", "missing.toml", "resnet18"],
        ["predict", "--gpu", "v100", "no_such_network"],
        ["calibrate", "missing.csv"],
        ["calibrate", "missing.jsonl"],
    ],
)
def test_a_mistake_is_one_sentence(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    told = capsys.readouterr().err
    assert told.startswith("bench.py: ")
    assert told.count("\n") == 1


def test_the_held_out_errors_meet_what_is_promised(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate-predictions", "--format", "csv"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) > 5
    assert any("rtx-3090" in row for row in rows)
