"""Predicted columns: only where there are predictions, in their own source, and true to the code that made them."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.predict.predict import predict
from bench.record import store
from bench.record.devices import find
from reports import REPORTS
from reports import records as committed

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


@pytest.mark.parametrize("place", [0, -1])
def test_the_committed_predictions_are_those_of_the_shipped_calibrations(place):
    record = PREDICTED[place]
    device = find(record.environment.device_key)
    again = predict(record.spec, device)
    assert again.value("step_time") == pytest.approx(record.value("step_time"), rel=1e-3)
    assert again.value("step_time.high80") == pytest.approx(record.value("step_time.high80"), rel=1e-3)
