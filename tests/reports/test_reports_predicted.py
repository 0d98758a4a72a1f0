"""Predicted columns: only where there are predictions, in their own source, and true to the code that made them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from visionbench.predicting.step_time import predict
from visionbench.record import store
from visionbench.record.devices import find
from visionbench.record.spec import Spec
from visionbench.reports import REPORTS, render
from visionbench.reports import records as committed
from visionbench.reports.paper.predicted_rates import by_card
from visionbench.reports.results import predictions
from visionbench.reports.table import Cell, Table

PREDICTED = store.read(Path(committed.__file__).parent / "predicted.jsonl").records


@pytest.mark.parametrize(("name", "gpus"), [("convnext_table1", 2), ("convnext_table2", 1), ("convnext_table12", 1)])
def test_a_column_per_card_and_none_without_predictions(name, gpus):
    def columns(records):
        table = REPORTS[name].layout(records)
        return [(i, column) for i, column in enumerate(table.columns) if column.source == "predicted"], table

    found, table = columns(PREDICTED)
    assert len(found) == gpus
    for i, _ in found:
        shown = [row.cells[i] for row in table.rows if row.cells[i].value is not None]
        assert shown
        assert all(cell.source == "predicted" and cell.low < cell.value < cell.high and cell.span for cell in shown)
    assert columns([])[0] == []


def test_a_column_never_mixes_two_ways_of_running():
    """Of a card's predictions those count that were run as the last one: its note says how."""
    record = next(one for one in PREDICTED if one.environment.device_key == "v100-sxm2-16gb")
    half = replace(record, spec=replace(record.spec, precision="amp_fp16"))
    assert by_card([record, half])["v100-sxm2-16gb"] == {(record.spec.model, record.spec.image_size): half}
    table = REPORTS["convnext_table1"].layout([half, *PREDICTED])
    assert table == REPORTS["convnext_table1"].layout(PREDICTED)


@pytest.mark.parametrize("place", [0, -1])
def test_the_committed_predictions_are_those_of_the_shipped_calibrations(place):
    record = PREDICTED[place]
    device = find(record.environment.device_key)
    again = predict(record.spec, device)
    assert again.value("step_time") == pytest.approx(record.value("step_time"), rel=1e-3)
    assert again.get("step_time").high == pytest.approx(record.get("step_time").high, rel=1e-3)


def predictions_of(*words: str) -> Table:
    card = find("v100-sxm2-16gb")
    specs = [Spec(model=f"timm:{word}", task="train", batch_size=16) for word in words]
    return predictions.layout([predict(spec, card) for spec in specs], "Predicted")


def column(table: Table, key: str) -> list[Cell]:
    index = [one.key for one in table.columns].index(key)
    return [row.cells[index] for row in table.rows]


def test_memory_is_said_three_times_and_grows_from_one_to_the_next():
    table = predictions_of("resnet18", "resnet50")
    found = [column(table, f"train_memory_{name}_predicted") for name in ("allocated", "reserved", "process")]
    for allocated, reserved, process in zip(*found, strict=True):
        assert 0 < allocated.value < reserved.value < process.value
        assert all(cell.low < cell.value < cell.high for cell in (allocated, reserved, process))
    assert [cell.text for cell in column(table, "rank")] == ["1", "2"]


def test_what_has_no_print_and_no_rival_has_no_column_for_it():
    keys = {one.key for one in predictions_of("resnet18").columns}
    assert not keys & {"throughput_published", "rank"}


@pytest.mark.parametrize("form", ["terminal", "latex"])
def test_a_narrow_place_keeps_the_interval_and_says_which(form):
    table = predictions_of("resnet18", "resnet50")
    text = render(table, form, 70 if form == "terminal" else None, colour=False)
    slow, fast = (re.escape(f"{end:+.0f}".replace("-", "−" if form == "terminal" else "$-$")) for end in ends(table))
    assert re.search(rf"{slow}{fast} \\?%", text)
    assert "the ends of the 80" in " ".join(text.split())
    assert "half of the 95" not in text


def ends(table: Table) -> tuple[float, float]:
    cell = column(table, "throughput_predicted")[0]
    return (cell.low / cell.value - 1) * 100, (cell.high / cell.value - 1) * 100
