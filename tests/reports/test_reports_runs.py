"""The table of runs: one row per key, columns where somebody has a value, doubts and failures in words."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest

from visionbench.record.record import Environment, Failure, Measurement, Record
from visionbench.record.spec import STEADY, SWIN, Spec
from visionbench.reports import FORMATS, render
from visionbench.reports.results.runs import LABELS, METRICS, layout
from visionbench.reports.table import Cell, Table, footnotes

GPU = Environment(
    device_type="cuda",
    device_key="a100-sxm4-80gb",
    device_name="NVIDIA A100-SXM4-80GB",
    device_memory=80 * 2**30,
    driver="580.95",
    torch="2.15.0",
    cuda="13.0",
    power_limit=400.0,
    started="2026-01-02T03:04:05Z",
)
CPU = Environment(device_type="cpu", device_name="Fixture CPU", threads=2, torch="2.15.0")
ALWAYS = ["model", "image_size", "task", "batch_size", "launches"]


def one(metric: str, *values: float, unit: str = "s", flags: tuple[str, ...] = (), iterations: int = 1) -> Measurement:
    return Measurement(
        metric=metric,
        unit=unit,
        better="lower",
        assume="nothing",
        values=values,
        flags=flags,
        iterations=iterations,
    )


def run(*measurements: Measurement, environment: Environment = GPU, protocol: Any = STEADY, **spec: Any) -> Record:
    what = Spec(**{"model": "timm:convnext_tiny", "batch_size": 64} | spec)
    return Record(spec=what, protocol=protocol, environment=environment, measurements=measurements, source="measured")


def rate(images_per_second: float, *others: Measurement, flags: tuple[str, ...] = (), **rest: Any) -> Record:
    seconds = rest.get("batch_size", 64) * 10 / images_per_second
    return run(one("throughput", seconds, iterations=10, flags=flags), *others, **rest)


def failed(kind: Any = "out_of_memory", **rest: Any) -> Record:
    failure = Failure(kind=kind, stage="warm-up", message="tried to allocate 3 GiB")
    return replace(run(**rest), failure=failure)


def keys(table: Table) -> list[str]:
    return [column.key for column in table.columns]


def cell(table: Table, key: str, row: int = 0) -> Cell:
    return table.rows[row].cells[keys(table).index(key)]


def test_nothing_is_a_table_too() -> None:
    table = layout([])
    assert table.rows == ()
    assert "python bench.py run" in table.remarks[0]
    for name in FORMATS:
        assert render(table, name)


def test_one_row_per_key_in_the_order_of_the_file() -> None:
    records = [rate(100), rate(50, batch_size=1), rate(102), rate(70, model="paper:convnext_iso_small"), rate(101)]
    table = layout(records)
    assert keys(table) == [*ALWAYS, "throughput"]
    assert [cell(table, "model", row).text for row in range(3)] == [
        "convnext_tiny",
        "convnext_tiny",
        "paper:convnext_iso_small",
    ]
    assert [cell(table, "batch_size", row).text for row in range(3)] == ["64", "1", "64"]
    assert [cell(table, "launches", row).text for row in range(3)] == ["3", "1", "1"]
    assert cell(table, "throughput").value == pytest.approx(101, rel=1e-4)
    assert table.rows[2].subject == "paper:convnext_iso_small"


@pytest.mark.parametrize(
    ("change", "key", "text"),
    [
        ({"precision": "bf16"}, "precision", "bf16"),
        ({"memory_format": "channels_last"}, "memory_format", "channels_last"),
        ({"compile_mode": "max-autotune"}, "compile_mode", "max-autotune"),
        ({"attention": "math"}, "attention", "math attention"),
        ({"protocol": SWIN}, "protocol", "swin"),
        ({"environment": CPU}, "device", "CPU, 2 threads"),
        ({"environment": replace(GPU, torch="2.6.0")}, "torch", "2.6.0"),
    ],
    ids=str,
)
def test_what_tells_two_rows_apart_is_a_column_and_only_then(change: dict[str, Any], key: str, text: str) -> None:
    assert key not in keys(layout([rate(100), rate(100)]))
    table = layout([rate(100), rate(100, **change)])
    assert cell(table, key, 1).text == text
    assert cell(table, key, 0).text != text
    assert set(keys(table)) == {*ALWAYS, key, "throughput"}
    assert not any(text in remark for remark in table.remarks if remark.startswith("Every row"))


def test_every_field_of_a_key_is_a_column() -> None:
    fields = {*Spec.__dataclass_fields__, "protocol", "device", "torch"} - {"image_width"}
    assert fields <= {label.key for label in LABELS}
    assert {label.key for label in LABELS if label.rank} == {"task", "nodes", "launches"}


OTHER: dict[str, Any] = {"precision": "tf32", "memory_format": "channels_last", "protocol": SWIN, "environment": CPU}


@pytest.mark.parametrize("pair", list(combinations(OTHER, 2)), ids="+".join)
def test_a_label_is_folded_away_only_where_others_tell_the_rows_apart(pair: tuple[str, str]) -> None:
    first, second = ({name: OTHER[name]} for name in pair)
    both = {"environment": "device"}.get(pair[0], pair[0]), {"environment": "device"}.get(pair[1], pair[1])

    def kept(*records: Record) -> int:
        return sum(column.key in both and not column.rank for column in layout(records).columns)

    assert kept(rate(100), rate(100, **first, **second)) == 1  # either tells them apart
    assert kept(rate(100), rate(100, **first), rate(100, **second)) == 2


def test_a_wide_table_of_two_machines_fits_a_terminal_and_says_their_settings() -> None:
    table = layout([rate(100), rate(100, **OTHER)])
    printed = render(table, "terminal", width=60)
    assert max(map(len, printed.splitlines())) <= 60
    assert "rows: tf32, channels_last." in " ".join(printed.split())
    assert "Every row: eager" in printed


def test_seven_launches_have_an_interval_and_fewer_say_so_once() -> None:
    table = layout([rate(100 + k) for k in range(7)])
    shown = cell(table, "throughput")
    assert (shown.text, shown.span, shown.short_span) == ("103.0", "[101.0, 105.0]", "±2.0 %")  # W(3), W(26) of 28
    assert shown.notes == ()
    few = layout([rate(100), rate(50, batch_size=1)])
    assert cell(few, "throughput").notes == ()
    assert any("fewer than 7 launches, so no interval." in remark for remark in few.remarks)
    mixed = layout([*(rate(100 + k) for k in range(7)), rate(50, batch_size=1)])
    assert cell(mixed, "throughput", 1).notes == ("Fewer than 7 launches, so no interval.",)
    assert not any("fewer than" in remark for remark in mixed.remarks)


def test_a_percentile_is_shown_where_it_is_honest() -> None:
    short = layout([rate(100, one("latency", *[0.004] * 35))])
    assert keys(short) == [*ALWAYS, "throughput", "latency_p50"]
    assert cell(short, "latency_p50").text == "4.00"
    assert short.columns[-1].name == "latency, p50, ms"
    longer = layout([rate(100, one("latency", *(k / 1000 for k in range(1, 41))))])
    assert keys(longer)[-2:] == ["latency_p50", "latency_p90"]
    assert (cell(longer, "latency_p50").text, cell(longer, "latency_p90").text) == ("20.0", "36.0")
    assert cell(longer, "latency_p90").value == pytest.approx(0.036)


@pytest.mark.parametrize(
    ("metric", "unit", "values", "head", "texts"),
    [
        ("peak_memory_allocated", "B", (3 * 2**30, 1.5 * 2**30), "memory, allocated, GiB", ("3.00", "1.50")),
        ("peak_memory_reserved", "B", (3 * 2**30, 512 * 2**20), "memory, reserved, MiB", ("3,072.0", "512.0")),
        ("process_memory", "B", (2**20, 2**21), "memory, process, MiB", ("1.00", "2.00")),
        ("first_call", "s", (12.5, 3.0), "first call, s", ("12.50", "3.00")),
        ("first_call", "s", (12.5, 0.5), "first call, ms", ("12,500.0", "500.0")),
        ("compile_seconds", "s", (12.5, 3.0), "compiler, cold, s", ("12.50", "3.00")),
        ("graph_breaks", "count", (3, 0), "compiler, breaks", ("3", "0")),
        ("recompiles", "count", (0, 0), "compiler, recompiles", ("0", "0")),
        ("backward", "s", (0.002, 0.001), "phases of a step, backward, ms", ("2.00", "1.00")),
    ],
)
def test_a_metric_is_a_column_in_a_unit_that_fits_its_smallest_value(
    metric: str, unit: str, values: tuple[float, float], head: str, texts: tuple[str, str]
) -> None:
    records = [rate(100, one(metric, values[0], unit=unit)), rate(100, one(metric, values[1], unit=unit), batch_size=1)]
    table = layout([*records, rate(100, batch_size=2)])
    assert keys(table) == [*ALWAYS, "throughput", metric]
    assert table.columns[-1].name == head
    assert tuple(cell(table, metric, row).text for row in range(3)) == (*texts, "–")
    assert cell(table, metric).value == pytest.approx(values[0])
    assert table.legend[0].term == "–"


def test_a_peak_is_the_largest_of_the_launches_and_a_time_their_centre() -> None:
    quick, slow = ((one("first_call", s), one("recompiles", n, unit="count")) for s, n in ((2.0, 0), (8.0, 3)))
    table = layout([rate(100, *quick), rate(100, *slow)])
    assert cell(table, "first_call").value == pytest.approx(4.0)
    assert cell(table, "recompiles").value == 3


def traced(**spec: Any) -> Record:
    counted = run(one("macs", 4e9, unit="count"), environment=Environment(device_type="meta"), protocol=None, **spec)
    return replace(counted, source="computed")


def test_mfu_where_the_device_and_the_macs_are_known() -> None:
    table = layout([traced(batch_size=1), rate(1950), rate(1950, task="train"), rate(1950, environment=CPU)])
    shown = [cell(table, "mfu", row) for row in range(3)]
    assert [its.text for its in shown] == ["80.0", "–", "–"]  # 2 x 4e9 x 1950 / 19.5e12
    assert shown[0].value == pytest.approx(0.8)
    assert table.columns[-1].name == "MFU, %"
    assert "mfu" not in keys(layout([rate(1950)]))


def test_energy_per_image() -> None:
    table = layout([rate(100, one("energy", 640.0, unit="J", iterations=20))])
    assert cell(table, "joules_per_image").text == "500.0"
    assert table.columns[-1].name == "energy/img, mJ"


def test_flags_are_footnotes_and_are_not_said_twice_in_a_row() -> None:
    record = rate(
        100,
        one("latency", *[1.0] * 6, flags=("throttled", "no_steady_state")),
        flags=("throttled",),
    )
    table = layout([record, rate(50, batch_size=1)])
    (note,) = cell(table, "throughput").notes
    assert note == "The device slowed its clock meanwhile, and those blocks were discarded."
    assert cell(table, "latency_p50").notes == ("The blocks had not settled when the time was up.",)
    assert cell(table, "throughput", 1).notes == ()
    both = layout([rate(100, flags=("throttled",)), rate(50, flags=("throttled",), batch_size=1)])
    assert footnotes(both) == {}
    assert any("the device slowed its clock" in remark for remark in both.remarks)


def test_a_warning_is_a_footnote() -> None:
    record = rate(100)
    warned = replace(record.measurements[0], warnings=("2 of 12 blocks discarded",))
    table = layout([replace(record, measurements=(warned,)), rate(50, batch_size=1)])
    assert cell(table, "throughput").notes == ("2 of 12 blocks discarded.",)


@pytest.mark.parametrize("kind", ["out_of_memory", "unsupported", "timeout", "crashed", "error"])
def test_a_failure_is_a_word_with_its_cause_below(kind: str) -> None:
    table = layout([failed(kind), rate(100, batch_size=1)])
    shown = cell(table, "throughput")
    assert (shown.text, shown.value, shown.source) == (kind.replace("_", " "), None, "measured")
    assert shown.notes[0].endswith("in stage 'warm-up': tried to allocate 3 GiB.")
    assert cell(table, "launches").text == "0"


def test_nothing_but_failures_is_a_table_with_words() -> None:
    table = layout([failed()])
    assert keys(table) == [*ALWAYS, "throughput"]
    assert "out of memory" in render(table, "terminal")


def test_a_number_is_not_lost_to_a_launch_that_failed() -> None:
    table = layout([rate(100), failed("timeout"), rate(50, batch_size=1)])
    assert cell(table, "throughput").text == "100.0"
    assert cell(table, "throughput").notes == ("1 of 2 launches failed (timeout).",)
    assert cell(table, "launches").text == "1"


def test_latency_alone_is_a_table_too() -> None:
    table = layout([run(one("latency", *[0.5] * 6))])
    assert cell(table, "throughput").text == "–"
    assert cell(table, "latency_p50").text == "500.0"


def test_an_interval_is_spoken_of_only_where_there_is_one() -> None:
    few, enough = ([rate(100 + at) for at in range(number)] for number in (3, 7))
    assert not any("interval: 95 %" in remark for remark in layout(few).remarks)
    assert any("interval: 95 %, over launches (n), within this session" in remark for remark in layout(enough).remarks)


def test_two_states_of_a_users_code_are_told_apart_where_nothing_else_does() -> None:
    mine = [replace(rate(speed), network=code * 8) for speed, code in ((100, "0123abcd"), (50, "9876fedc"))]
    table = layout(mine)
    place = [column.key for column in table.columns].index("network")
    assert [row.cells[place].text for row in table.rows] == ["0123abc", "9876fed"]
    assert "network" not in [column.key for column in layout([mine[0], rate(3, batch_size=1)]).columns]
    assert not any("0123abc" in remark for remark in layout(mine[:1]).remarks)


def test_what_all_rows_share_and_the_machine_are_said_below() -> None:
    table = layout([rate(100), rate(50, batch_size=1), rate(3, environment=CPU)])
    every, gpu, cpu, protocol = table.remarks
    assert every == "Every row: fp32; contiguous; eager; fused attention; fewer than 7 launches, so no interval."
    assert gpu == (
        "A100-SXM4-80GB: NVIDIA A100-SXM4-80GB; 80.0 GiB; driver 580.95; CUDA 13.0; torch 2.15.0; power limit 400 W."
    )
    assert cpu == "CPU, 2 threads: Fixture CPU; torch 2.15.0; 2 threads."
    assert protocol.startswith("Protocol steady: 10 warm-up iterations and at least 1 s, then 10 blocks of 0.25 s.")
    (swin,) = (remark for remark in layout([rate(1, protocol=SWIN)]).remarks if remark.startswith("Protocol"))
    assert swin.startswith("Protocol swin: 50 warm-up iterations, then 3 blocks of 30 iterations.")


def full() -> list[Record]:
    """Rows with everything: a GPU with intervals, a CPU without, a failure, both tasks."""
    everything = [one(metric.flagged, *[0.01] * 50, unit=metric.unit) for metric in METRICS[1:] if metric.flagged]
    named = {measurement.metric: measurement for measurement in everything}
    gpu = [rate(1000 + k, *named.values()) for k in range(7)]
    return [traced(batch_size=1), *gpu, rate(4.5, environment=CPU, batch_size=1), failed(task="train")]


def test_every_format_shows_the_same_table() -> None:
    table = layout(full())
    alone = [metric.key for metric in METRICS if metric.group != "processes"]  # those have tests of their own
    assert keys(table)[-len(alone) :] == alone
    for name in FORMATS:
        text = render(table, name)
        assert "convnext" in text
        assert "out of memory" in text
    for width in (60, 80, 100, 120):
        assert max(map(len, render(table, "terminal", width=width).splitlines())) <= width


def test_machines_read_base_units_and_their_names() -> None:
    table = layout([rate(100, one("latency", *[0.004] * 6), one("energy", 640.0, unit="J", iterations=20))])
    (line,) = csv.DictReader(io.StringIO(render(table, "csv")))
    assert float(line["throughput_per_s"]) == pytest.approx(100)
    assert float(line["latency_p50_s"]) == pytest.approx(0.004)
    assert float(line["joules_per_image_J"]) == pytest.approx(0.5)
    assert (line["model"], line["spec_model"], line["batch_size"]) == ("convnext_tiny", "timm:convnext_tiny", "64")
    (row,) = json.loads(render(table, "json"))["rows"]
    assert row["cells"]["latency_p50"]["value"] == pytest.approx(0.004)
