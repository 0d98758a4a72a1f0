"""The verbs of prediction, as a user types them."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from perf.prediction import memory_check
from perf.prediction.__main__ import main as workshop
from tests import anchors
from tests.cards import TOML
from visionbench.command.main import main
from visionbench.predicting.calibration import known, shipped, write
from visionbench.predicting.memory import capacity
from visionbench.record import store
from visionbench.record.devices import find
from visionbench.record.errors import BenchError
from visionbench.record.prediction import prediction
from visionbench.record.record import Record, from_json
from visionbench.record.spec import Spec


def test_a_prediction_stands_beside_the_print_with_its_tier(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "--gpu", "v100-sxm2-16gb", "convnext_original_tiny", "--format", "json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert table["name"] == "predictions"
    text = json.dumps(table)
    assert "774.7" in text  # arXiv 2201.03545v2, Table 1
    assert "anchored" in text


def test_what_a_card_cannot_do_is_refused_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "--gpu", "v100-sxm2-16gb", "resnet18", "--precision", "tf32"]) == 4
    assert "has no tf32" in capsys.readouterr().out.lower()


def test_training_has_memory_and_records_say_predicted(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["predict", "--gpu", "rtx-3090", "resnet18", "--task", "train", "--precision", "amp_fp16", "--json"]
    assert main(words) == 0
    record = from_json(capsys.readouterr().out)
    assert record.source == "predicted"
    assert record.protocol is None
    step = record.get("step_time")
    assert step is not None
    assert 0 < (step.low or 0) < step.values[0] < (step.high or 0)
    # Live tensors of ResNet-18's step at batch 64: at least its weights, gradients and moments, 4 x 46.8 MB.
    assert (record.value("peak_memory_allocated") or 0) > 4 * 46.8e6


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "--gpu", "gtx-9999", "resnet18"],
        ["predict", "--gpu", "missing.toml", "resnet18"],
        ["predict", "--gpu", "v100", "no_such_network"],
        ["calibrate", "missing.jsonl"],
    ],
)
def test_a_mistake_is_one_sentence(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    told = capsys.readouterr().err
    assert told.startswith("visionbench: ")
    assert told.count("\n") == 1


def test_the_held_out_errors_meet_what_is_promised(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate-predictions", "--format", "csv"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) > 5
    assert any("rtx-3090" in row for row in rows)


def test_the_publications_stand_apart(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate-predictions", "--json"]) == 0
    _, by_publication = json.loads(capsys.readouterr().out)
    assert by_publication["name"] == "validation_publications"
    assert "arXiv 2201.03545v2, Tables 1 and 2" in json.dumps(by_publication)


def test_calibrations_of_ones_own_are_validated_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = replace(shipped()[0], id="mine", device="h200")
    write(mine, tmp_path)
    assert main(["validate-predictions", "--calibrations", str(tmp_path), "--format", "csv"]) == 0
    assert "h200" in capsys.readouterr().out
    assert main(["validate-predictions", "--calibrations", str(tmp_path / "nothing")]) == 2
    assert "calibrate FILE" in capsys.readouterr().err


# --- a card of one's own: measured, calibrated, predicted ---


def _predicted(capsys: pytest.CaptureFixture[str], *words: str) -> Record:
    asked = ["predict", "--gpu", anchors.CARD, "resnet50", "--precision", "amp_fp16", "--batch-size", "256", "--json"]
    assert main([*asked, *words]) == 0
    return from_json(capsys.readouterr().out)


@pytest.mark.slow
def test_anchors_of_ones_own_are_fitted_kept_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    anchors.write(Path("own.jsonl"))
    store.append(Path("own.jsonl"), anchors.measured(Spec(model="timm:resnet18", task="train", batch_size=256)))
    before = prediction(_predicted(capsys))
    assert before is not None
    assert before.tier == "data sheet"

    assert main(["calibrate", "own.jsonl"]) == 0
    [line] = capsys.readouterr().out.splitlines()  # one training row is too few, and spoils nothing
    assert line.startswith("visionbench-calibrations/")
    assert "10 rows" in line
    after = prediction(_predicted(capsys))
    assert after is not None
    assert (after.tier, after.calibration) == ("calibrated", Path(line.split(":")[0]).stem)
    assert before.centre / after.centre == pytest.approx(anchors.SLOWER, rel=0.05)
    assert after.high / after.low < before.high / before.low
    Path("visionbench-calibrations").rename("elsewhere")
    assert prediction(_predicted(capsys)) == before
    assert prediction(_predicted(capsys, "--calibrations", "elsewhere")) == after


def test_one_s_own_calibration_replaces_a_shipped_one_of_its_name(tmp_path: Path) -> None:
    first, *others = shipped()
    write(replace(first, torch="9.9"), tmp_path)
    found = known(tmp_path, Path("nowhere"))
    assert [one.id for one in found] == [one.id for one in (first, *others)]
    assert [one.torch for one in found if one.id == first.id] == ["9.9"]
    assert known(None, tmp_path) == found
    assert known(None, tmp_path / "nowhere") == shipped()
    with pytest.raises(BenchError, match="calibrate FILE"):
        known(tmp_path / "nowhere", tmp_path)


def test_the_largest_batch_of_a_card_that_is_not_here(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["predict", "--gpu", "t4", "resnet18", "--precision", "fp16", "--batch-size", "max"]
    assert main([*words, "--task", "train", "--json"]) == 0
    record = from_json(capsys.readouterr().out)
    room = capacity(find("t4"))
    assert room * 0.93 < (record.value("process_memory") or 0) <= room
    assert main([*words, "--task", "inference"]) == 2
    assert "--task train" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (["calibrate"], "run anchors"),
        (["calibrate", "few.jsonl"], "run anchors"),
        (["calibrate", "few.jsonl", "--output", "few.jsonl/folder"], "run anchors"),
    ],
)
def test_a_calibration_of_nothing_says_what_to_measure(
    words: list[str],
    remedy: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    store.append(Path("few.jsonl"), anchors.measured(anchors.spec("resnet18")))
    assert main(words) == 2
    told = capsys.readouterr().err
    assert told.count("visionbench: ") == 1
    assert remedy in told


def test_a_file_of_records_imports_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "somebodys_code.py").write_text("raise SystemExit('it ran')\n")
    row = anchors.measured(anchors.spec("resnet18"))
    for size in range(8):
        spec = replace(row.spec, model="user:somebodys_code:net", image_size=64 + size)
        store.append(Path("strange.jsonl"), replace(row, spec=spec))
    assert main(["calibrate", "strange.jsonl"]) == 2
    assert "8 rows of user: models left out" in capsys.readouterr().err
    assert "somebodys_code" not in sys.modules


def test_printed_memory_is_validated_row_by_row(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = next(row for row in memory_check.printed_memory() if row.spec.model == "timm:resnet18" and row.fit)
    monkeypatch.setattr(memory_check, "printed_memory", lambda: (row,))
    assert workshop(["check", "memory", "--format", "json"]) == 0
    table = json.loads(capsys.readouterr().out)
    [cells] = [found["cells"] for found in table["rows"]]
    assert cells["printed"]["value"] == pytest.approx(row.printed)
    assert cells["predicted"]["value"] == pytest.approx(row.printed, rel=0.05)


# --- what is refused ---


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("names", "5"), ("names", '"x"'), ("key", "5"), ("key", '""'), ("key", '"v100-sxm2-16gb"'),
        ("fp32", "37"), ("fp32", "1e-300"), ("bandwidth", "nan"), ("bandwidth", "inf"), ("bandwidth", "true"),
        ("memory", "16"), ("multiprocessors", "60.5"), ("architecture", "5"), ("source", "3"),
        ("capability", '"new"'), ("capability", "8.9"),
    ],
)  # fmt: skip
def test_a_slip_in_one_s_own_data_sheet_is_one_sentence(
    field: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "card.toml"
    lines = [line for line in TOML.splitlines() if not line.startswith(f"{field} =")]
    file.write_text("\n".join([*lines, f"{field} = {value}"]))
    assert main(["predict", "--gpu", str(file), "resnet18"]) == 2
    [told] = capsys.readouterr().err.splitlines()
    assert told.startswith("visionbench: ")
    assert f"{field} = " in told


NETWORKS = """
import torch
from torch import nn

class Reads(nn.Module):
    def forward(self, x):
        return x * x.sum().item()

def nothing():
    return nn.Identity()

def reads():
    return Reads()

def exits():
    raise SystemExit(7)

def talks():
    print("HELLO")
    return nn.Conv2d(3, 8, 16, 16)
"""


@pytest.fixture
def networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "odd_networks.py").write_text(NETWORKS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["user:odd_networks:nothing"], "nothing that takes time"),
        (["user:odd_networks:reads"], "reads tensor values"),
        (["convnext_xlarge", "--batch-size", "1000000000"], "choose a smaller batch"),
        (["resnet18", "--image-size", "20000"], "choose a smaller batch"),
    ],
)
@pytest.mark.usefixtures("networks")
def test_what_cannot_be_predicted_says_why(words: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "--gpu", "v100-sxm2-16gb", *words]) == 4
    out = capsys.readouterr().out
    assert "refused" in out
    assert reason in " ".join(out.split())


@pytest.mark.usefixtures("networks")
def test_one_refusal_does_not_take_the_others_along(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["user:odd_networks:reads", "resnet18", "--json"]
    assert main(["predict", "--gpu", "v100-sxm2-16gb", *words]) == 0
    refused, found = (from_json(line) for line in capsys.readouterr().out.splitlines())
    assert refused.failure is not None
    assert prediction(found) is not None


@pytest.mark.usefixtures("networks")
def test_a_factory_that_exits_is_one_sentence_and_one_that_prints_spoils_no_output(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for verb in (["trace"], ["predict", "--gpu", "v100-sxm2-16gb"]):
        assert main([*verb, "user:odd_networks:exits"]) == 2
        assert "raised SystemExit" in capsys.readouterr().err
    assert main(["predict", "--gpu", "v100-sxm2-16gb", "user:odd_networks:talks", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "predictions"


def test_a_print_of_another_way_of_running_does_not_stand_beside(capsys: pytest.CaptureFixture[str]) -> None:
    card = ["predict", "--gpu", "a100-sxm4-40gb", "convnext_original_tiny"]
    for words, there in (([], True), (["--precision", "amp_fp16"], False), (["--batch-size", "128"], False)):
        assert main([*card, *words]) == 0
        assert ("1,943.5" in capsys.readouterr().out) == there  # arXiv 2201.03545v2, Table 12


def test_a_file_s_name_says_its_format(tmp_path: Path) -> None:
    for name, start in (("page.html", "<!"), ("table.md", "**"), ("table.json", "{"), ("table.txt", "Isotropic")):
        assert main(["report", "convnext_table2", "--output", str(tmp_path / name)]) == 0
        assert (tmp_path / name).read_text().lstrip().startswith(start)
