"""The verbs `effects` and `export`, and tables read again from what they keep, as a user meets them."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from visionbench.command.main import main
from visionbench.command.verbs.trace import count_missing
from visionbench.comparison import comparison
from visionbench.comparison.switches import switch_of
from visionbench.record import store
from visionbench.record.spec import Spec

FACTORY = """
import torch

def tiny():
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, stride=4), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 10)
    )
"""
SMALL = ["--image-size", "32", "--batch-size", "2", "--device", "cpu", "--launches", "1", "--rounds", "2"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "net_of_effects.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_effects_are_measured_kept_and_printed_again(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["effects", "user:net_of_effects:tiny", *SMALL, "--switches", "channels_last,tf32", "--task", "both"]
    assert main(words) == 0
    printed, told = capsys.readouterr()
    assert "(2 not possible here)" in told
    assert "a CPU has none" in printed
    found = comparison.read(here / "visionbench-effects.jsonl")
    assert sorted((switch_of(one), one.baseline.spec.task, len(one.launches)) for one in found) == [
        ("channels_last", "inference", 1),
        ("channels_last", "train", 1),
        ("tf32", "inference", 0),
        ("tf32", "train", 0),
    ]
    counted = store.read(here / "visionbench.jsonl").records
    assert {(r.source, r.spec.task) for r in counted} == {("computed", "train")}, "training memory, exactly"
    assert main(["report", "effects"]) == 0
    assert capsys.readouterr().out == printed


def test_counts_of_another_torch_or_timm_are_made_again(here: Path) -> None:
    spec = Spec(model="user:net_of_effects:tiny", task="train", image_size=32)
    path = here / "counts.jsonl"
    [new] = count_missing([spec], [], path)
    assert count_missing([spec], [new], path) == []
    for other in ({"torch": "1.0"}, {"timm": "0.1"}):
        old = replace(new, environment=replace(new.environment, **other))  # type: ignore[arg-type]
        assert [record.spec for record in count_missing([spec], [old], path)] == [spec]
    assert len(store.read(path).records) == 3


@pytest.mark.slow
def test_a_grid_is_measured_and_not_again(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["effects", "user:net_of_effects:tiny", *SMALL, "--switches", "channels_last", "--grid"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "Every configuration, one after the other" in out
    assert "fp32, channels_last" in out
    assert len(store.read(here / "visionbench.jsonl").records) == 2
    assert main(words) == 0
    assert len(store.read(here / "visionbench.jsonl").records) == 2
    assert main(["report", "--all", "--records", "visionbench.jsonl"]) == 0
    assert "Every configuration" in capsys.readouterr().out


def test_all_tables_leave_out_our_own_that_have_nothing_to_say(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--all"]) == 0
    out = capsys.readouterr().out
    assert "Table 10 of the ConvNeXt paper" in out
    assert "Every configuration" not in out
    assert main(["report", "effects_grid"]) == 0
    assert "--grid" in capsys.readouterr().out


MISTAKES = {
    "nothing to compare": (["effects"], "--roadmap t"),
    "models and a road": (["effects", "resnet18", "--roadmap", "t"], "--roadmap"),
    "a precision without a road": (["effects", "resnet18", "--precision", "bf16"], "--switches"),
    "a format without a road": (["effects", "resnet18", "--memory-format", "channels_last"], "--switches"),
    "switches of a road": (["effects", "--roadmap", "t", "--switches", "compile"], "leave it out"),
    "a grid of a road": (["effects", "--roadmap", "b", "--grid"], "leave it out"),
    "no such switch": (["effects", "resnet18", "--switches", "chanels_last"], "channels_last"),
    "comparisons are missing": (["report", "effects", "--comparisons", "missing.jsonl"], "effects"),
    "comparisons are records": (["report", "effects", "--comparisons", "net_of_effects.py"], "holds no comparisons"),
    "no document of that format": (["report", "--all", "--standalone"], "--format latex"),
    "nothing to export": (["export", "missing.jsonl"], "name another file"),
    "an ending that is no format": (["export", "some.jsonl", "--output", "page.xyz"], ".parquet"),
    "parquet to a terminal": (["export", "some.jsonl", "--format", "parquet"], "--output"),
    "a file of notes is not overwritten": (
        ["effects", "user:net_of_effects:tiny", *SMALL, "--keep", "net_of_effects.py"],
        "holds no comparisons",
    ),
}


@pytest.mark.parametrize(("words", "remedy"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_sentence(
    words: list[str], remedy: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "some.jsonl").write_text("")
    try:
        code = main(words)
    except SystemExit as exit_:
        code = exit_.code  # type: ignore[assignment]  # argparse's own way out
    out, err = capsys.readouterr()
    told = [line for line in err.splitlines() if line.startswith("visionbench: ")]
    assert (code, out, len(told)) == (2, "", 1), err
    assert remedy in told[0]


@pytest.mark.slow
def test_export_writes_what_the_name_says(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "user:net_of_effects:tiny", "--image-size", "32", "--device", "cpu", "--protocol", "smoke"]
    assert main([*words, "--json"]) == 0
    capsys.readouterr()
    assert main(["export"]) == 0
    printed = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert {line["model"] for line in printed} == {"user:net_of_effects:tiny"}
    assert main(["export", "visionbench.jsonl", "--output", "flat.json"]) == 0
    assert [line["metric"] for line in json.loads((here / "flat.json").read_text())] == [
        line["metric"] for line in printed
    ]


def test_a_standalone_document_is_asked_for_by_name(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["report", "convnext_table2", "--format", "latex", "--standalone"]
    assert main([*words, "--output", "table2.tex"]) == 0
    text = (here / "table2.tex").read_text()
    assert text.startswith("\\documentclass")
    assert text.rstrip().endswith("\\end{document}")
