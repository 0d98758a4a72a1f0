"""Scaling over processes, from recorded blocks: the quotients, the columns of the table of runs, and the figure."""

from __future__ import annotations

from dataclasses import replace

import pytest

from visionbench.record.efficiency import (
    communication_efficiency,
    exposed_seconds,
    images_per_second_of_all,
    scaling_efficiency,
    slowest_rank,
)
from visionbench.record.metrics import measurement
from visionbench.record.record import Environment, Record
from visionbench.record.spec import STEADY, Spec
from visionbench.record.statistics import images_per_second
from visionbench.reports import render
from visionbench.reports.figures import Evidence, MissingError, draw
from visionbench.reports.figures.scaling import data
from visionbench.reports.results.runs import layout

H100 = Environment(device_type="cuda", device_key="h100-sxm5-80gb", torch="2.15.0", communication="nccl", nccl="2.28.3")


def launch(processes=4, alone=0.9, together=1.0, without=0.95, ranks=(0.9, 0.91, 0.89, 0.93), **spec) -> Record:
    """Three rounds of blocks of ten steps; the machine gets slower, and the quotients stay."""
    drift = (1.0, 1.1, 1.3)
    blocks = {"throughput": together, "unsynchronised_time": without, "alone_time": alone}
    own = {f"rank_time.{rank}": seconds for rank, seconds in enumerate(ranks[:processes])}
    what = Spec(**{"model": "timm:resnet50", "task": "train", "batch_size": 64, "processes": processes,
                   "parallel": "ddp"} | spec)  # fmt: skip
    return Record(
        spec=what,
        protocol=STEADY,
        environment=H100,
        measurements=tuple(
            measurement(name, tuple(seconds * slow for slow in drift), iterations=10)
            for name, seconds in (blocks | own).items()
        ),
        source="measured",
    )


def test_quotients_are_taken_within_rounds_so_drift_cancels():
    record = launch()
    assert scaling_efficiency(record) == pytest.approx(0.9)
    assert communication_efficiency(record) == pytest.approx(0.95)
    assert exposed_seconds(record) == pytest.approx(0.05 * 1.1 / 10)
    assert slowest_rank(record) == (3, pytest.approx(0.93 / 0.905))


def test_the_rate_of_all_is_that_of_each_times_the_processes():
    record = launch()
    assert images_per_second(record) == pytest.approx(64 * 10 / 1.1)
    assert images_per_second_of_all(record) == pytest.approx(4 * 64 * 10 / 1.1)
    alone = replace(record, spec=replace(record.spec, processes=None, parallel=None))
    assert images_per_second_of_all(alone) is None


@pytest.mark.parametrize("missing", ["throughput", "unsynchronised_time", "alone_time"])
def test_what_lacks_a_kind_of_block_has_no_quotient_of_it(missing):
    record = launch()
    record = replace(record, measurements=tuple(m for m in record.measurements if m.metric != missing))
    values = (scaling_efficiency(record), communication_efficiency(record), exposed_seconds(record))
    assert values[0] is None or missing == "unsynchronised_time"
    assert values[1:] == (None, None) or missing == "alone_time"


def test_one_rank_is_nobodys_slowest():
    assert slowest_rank(launch(processes=1)) is None


LAUNCHES = [launch(together=1.0 + i / 100) for i in range(7)]


def test_the_table_says_weak_scaling_and_has_a_column_of_each_with_its_interval():
    table = layout(LAUNCHES)
    assert "weak scaling" in table.title
    assert "each process's" in table.title
    [row] = table.rows
    cell = dict(zip((column.key for column in table.columns), row.cells, strict=True))
    assert (cell["processes"].text, cell["batch_size"].text) == ("4", "64")
    assert cell["scaling_efficiency"].value == pytest.approx(0.9 / 1.03, rel=1e-3)
    assert cell["scaling_efficiency"].low < cell["scaling_efficiency"].value < cell["scaling_efficiency"].high
    assert cell["scaling_efficiency"].span
    assert cell["communication_efficiency"].span
    assert cell["images_per_second_of_all"].value == pytest.approx(4 * cell["throughput"].value)
    assert cell["slowest_rank"].text == "102.8"
    text = render(table, "markdown")
    assert "gradients by nccl 2.28.3" in text
    assert "eager; fused attention; ddp" in text, "what all rows share is said below"
    both = layout([*LAUNCHES, launch(parallel="ddp_views")])
    assert "parallel" in {column.key for column in both.columns}


def test_exposed_time_below_zero_is_shown_as_it_is():
    table = layout([launch(without=1.02)])
    cell = dict(zip((column.key for column in table.columns), table.rows[0].cells, strict=True))["exposed"]
    assert cell.value == pytest.approx(-0.02 * 1.1 / 10)
    assert float(cell.text) == -2.2, "in ms, as its column"


def test_a_table_without_processes_is_as_it_was():
    record = launch()
    alone = replace(
        record, spec=replace(record.spec, processes=None, parallel=None), measurements=record.measurements[:1]
    )
    table = layout([alone])
    assert table.title == "Measured"
    assert not {"processes", "parallel", "scaling_efficiency"} & {column.key for column in table.columns}


def test_the_figure_has_a_line_per_network_over_the_numbers_of_processes():
    records = [
        *LAUNCHES,
        launch(processes=2, alone=0.95),
        launch(processes=8, alone=0.8, ranks=(1.0,) * 8),
        launch(model="timm:vit_base_patch16_224"),
        launch(parallel="ddp_views"),
    ]
    lines = data(Evidence(records=records))
    assert [(line.spec.model, line.spec.parallel) for line in lines] == [
        ("timm:resnet50", "ddp"), ("timm:vit_base_patch16_224", "ddp"), ("timm:resnet50", "ddp_views"),
    ]  # fmt: skip
    assert [point.processes for point in lines[0].points] == [4, 2, 8]
    assert lines[0].points[0].scaling.low is not None
    svg = draw("scaling", Evidence(records=records)).decode()
    for words in (
        "Scaling efficiency",
        "Communication efficiency",
        "resnet50 b64 ddp",
        "Weak scaling",
        "h100-sxm5-80gb",
    ):
        assert words in svg


def test_the_figure_says_what_to_run_where_nothing_was_measured():
    alone = replace(launch(), spec=Spec(model="timm:resnet50", task="train"))
    with pytest.raises(MissingError, match="run resnet50 --task train --processes 2"):
        data(Evidence(records=[alone]))
