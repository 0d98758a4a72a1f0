"""Tables and traces say nothing false: no part exceeds its total, no exact count is 0.00, levels go with intervals."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from visionbench.command.main import main
from visionbench.command.verbs import gate
from visionbench.comparison.comparison import Comparison, Side
from visionbench.comparison.structure import Layer, Structure, Structures
from visionbench.judging.structure import compare
from visionbench.record.metrics import measurement
from visionbench.record.record import Environment, Failure, Record
from visionbench.record.spec import SMOKE, Spec
from visionbench.reports import cells, export
from visionbench.reports.results import predictions, runs

CPU = Environment(device_type="cpu")

NETS = """
import torch
from torch import nn

def small():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
"""


@pytest.mark.parametrize("batch", [2, 4, 64])
@pytest.mark.parametrize("what", ["macs", "activations"])
def test_a_layers_part_of_a_change_does_not_exceed_the_total(batch: int, what: str) -> None:
    def side(whole: int) -> Structures:
        layers = {"(backward)": Layer(operators={"matmul": 1}, **{what: whole})}
        totals = {"params": 0, "buffers": 0, "bytes": 0, "operators": 1, what: whole // batch}
        row = Structure(row=f"user:a:b@32 train b{batch} fp32", totals=totals, layers=layers)
        return Structures(torch="2.14", timm="1.0.31", rows={row.row: row})

    [change] = [change for change in compare(side(1000 * batch), side(3000 * batch)) if change.where]
    assert change.before == "1,000"
    assert change.where == (f"(backward): {change.what} 1,000 -> 3,000",)


@pytest.mark.parametrize("task", ["inference", "train"])
def test_the_parts_of_a_trace_add_up_to_a_total_that_it_prints(task: str, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets_of_truth.py").write_text(NETS)
    monkeypatch.setenv("COLUMNS", "200")
    words = ["trace", "user:nets_of_truth:small", "--image-size", "16", "--batch-size", "4", "--task", task]
    assert main([*words, "--depth", "1"]) == 0
    facts, *parts = capsys.readouterr().out.split("\n\n")
    totals = {row.split("  ")[0]: row for row in facts.splitlines()}
    step = int(re.search(r"([\d,]+)  all 4 images", totals["MACs, step"])[1].replace(",", ""))
    image = int(re.search(r"([\d,]+)  one image of 4", totals["MACs"])[1].replace(",", ""))
    assert step == 4 * image
    assert any("one step of all 4 images" in part for part in parts)


def test_a_gate_says_how_a_new_model_passes() -> None:
    spec = Spec(model="user:a:large")
    failure = Failure(kind="error", stage="build", message="'a' has no factory 'large'")
    row = Comparison(
        name=str(spec),
        baseline=Side(label="base", spec=spec),
        candidate=Side(label="head", spec=spec),
        environment=Environment(device_type="cpu"),
        timer="cpu",
        seed=1,
        launches=(),
        failure=failure,
        failed="baseline",
    )
    [remark] = gate._perhaps_new([row], [])
    assert remark.endswith("if it is new, --allow-new user:a:large lets it pass.")
    assert not list(gate._perhaps_new([row], [row.name]))
    assert not list(gate._perhaps_new([replace(row, failed="candidate")], []))


@pytest.mark.parametrize(
    ("value", "text"),
    [(314, "0.00031"), (1, "0.0000010"), (4_999, "0.0050"), (5_000, "0.01"), (0, "0.00"), (2e7, "20.00")],
)
def test_an_exact_count_is_not_shown_as_nothing(value: float, text: str) -> None:
    assert cells.computed(value, 1e6, 2).text == text


def test_a_table_has_an_image_size_only_where_images_are_given() -> None:
    ids, grey = ("ids=12:int64:0..99",), ("1x48x64",)
    records = [
        Record(spec=Spec(model="user:a:b", inputs=inputs), protocol=SMOKE, environment=CPU, source="measured",
               measurements=(measurement("throughput", (1.0,), iterations=10),))
        for inputs in (ids, grey, None)
    ]  # fmt: skip
    table = runs.layout(records)
    place = [column.key for column in table.columns].index("image_size")
    assert [row.cells[place].text for row in table.rows] == ["", "48x64", "224"]
    exported = [line["image_size"] for line in export.lines(records)]
    assert exported == [None, "48x64", 224]


def test_a_users_network_has_one_name_in_predictions_and_measurements() -> None:
    refused = Record(spec=Spec(model="user:a:b", batch_size=64), protocol=None, environment=CPU, source="predicted")
    assert predictions.layout([refused], "").rows[0].cells[0].text == "user:a:b"
