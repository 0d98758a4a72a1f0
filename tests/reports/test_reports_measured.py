"""Measured columns: what shares one, what a cell says when there is no number or a doubt, and how many are shown."""

from dataclasses import replace

import pytest

from visionbench.record.memory_protocol import PAPER_2022
from visionbench.record.record import Environment, Measurement, Record
from visionbench.record.spec import SWIN
from visionbench.reports import REPORTS
from visionbench.reports.paper.counts import TRAIN_BATCH
from visionbench.reports.table import footnotes

TINY, SWIN_T = "paper:convnext_original_tiny", "timm:swin_tiny_patch4_window7_224"


def columns(table, start):
    return [column for column in table.columns if column.key.startswith(start)]


def cell(table, model, key, size="224"):
    at = [column.key for column in table.columns].index(key)
    sizes = [column.key for column in table.columns].index("image_size")
    return next(row.cells[at] for row in table.rows if row.subject == model and row.cells[sizes].text == size)


def layout(records, name="convnext_table1"):
    return REPORTS[name].layout(records)


def only_rate(table, model=TINY):
    (column,) = columns(table, "throughput_measured")
    return cell(table, model, column.key)


def test_nothing_measured_is_a_column_of_dashes_and_a_remark():
    table = layout([])
    (column,) = columns(table, "throughput_measured")
    assert {row.cells[-1].text for row in table.rows} == {"–"}
    assert column.name == "img/s, measured, here"
    assert "python bench.py run --table convnext_table1" in table.remarks[0]


def test_seven_launches_have_an_interval(launches):
    shown = only_rate(layout(launches(TINY, rate=774.7)))
    assert (shown.text, shown.source) == ("774.7", "measured")
    assert shown.span == "[773.2, 776.2]"
    assert shown.low < shown.value < shown.high


def test_fewer_launches_have_none_and_the_column_says_so_once(launches):
    table = layout(launches(TINY, number=3))
    assert only_rate(table).span == ""
    assert only_rate(table).notes == ()
    (column,) = columns(table, "throughput_measured")
    assert "3 launches a row" in column.notes[0].text
    assert "Every row: fewer than 7 launches, so no interval." in column.notes[0].text


def test_one_cell_without_an_interval_says_so_itself(launches):
    table = layout([*launches(TINY), *launches(SWIN_T, number=3)])
    assert only_rate(table, SWIN_T).notes == ("Fewer than 7 launches, so no interval.",)
    assert only_rate(table, TINY).notes == ()


def test_a_flag_is_a_footnote_or_said_once_for_the_column(launches):
    some = layout([*launches(TINY, flags=("throttled",)), *launches(SWIN_T)])
    assert only_rate(some).notes == ("The device slowed its clock meanwhile, and those blocks were discarded.",)
    every = layout([*launches(TINY, flags=("throttled",)), *launches(SWIN_T, flags=("throttled",))])
    assert only_rate(every).notes == ()
    assert "the device slowed its clock" in columns(every, "throughput_measured")[0].notes[0].text


def test_an_unknown_flag_is_shown_by_its_name(launches):
    table = layout([*launches(TINY, flags=("brand_new",)), *launches(SWIN_T)])
    assert only_rate(table).notes == ("Flagged brand new.",)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("out_of_memory", "out of memory"),
        ("timeout", "timeout"),
        ("crashed", "crashed"),
        ("unsupported", "unsupported"),
        ("error", "error"),
    ],
)
def test_a_failure_says_its_cause(launches, kind, text):
    shown = only_rate(layout(launches(TINY, number=1, failure=kind)))
    assert (shown.text, shown.value, shown.source) == (text, None, "measured")
    assert "warm-up: made up" in shown.origin


def test_a_number_is_not_lost_to_a_launch_that_failed(launches):
    shown = only_rate(layout([*launches(TINY), *launches(TINY, number=1, failure="timeout"), *launches(SWIN_T)]))
    assert shown.text == "100.0"
    assert shown.notes == ("1 of 8 launches failed (timeout).",)


@pytest.mark.parametrize(
    "change",
    [
        {"precision": "tf32"},
        {"memory_format": "channels_last"},
        {"batch_size": 32},
        {"compile_mode": "default"},
        {"attention": "math"},
        {"protocol": SWIN},
    ],
    ids=str,
)
def test_different_settings_never_share_a_column(launches, change):
    table = layout([*launches(TINY), *launches(TINY, **change)])
    found = columns(table, "throughput_measured")
    assert len({column.key for column in found}) == 2
    assert len({column.head for column in found}) == 2, "a reader must be able to tell them apart"


def test_the_newest_three_groups_are_shown_and_the_rest_counted(launches):
    records = [record for batch in (1, 2, 3, 4, 5) for record in launches(TINY, batch_size=batch)]
    table = layout(records)
    heads = [column.head[-1] for column in columns(table, "throughput_measured")]
    assert heads == ["fp32, batch 5", "fp32, batch 4", "fp32, batch 3"]
    assert table.remarks == ("2 older groups of measurements (other devices or settings) not shown.",)


def test_newest_is_by_start_not_by_place_in_the_file(launches):
    old, new = launches(TINY, batch_size=1), launches(TINY, batch_size=2)
    late = [replace(r, environment=replace(r.environment, started="2026-06-01T00:00:00Z")) for r in new]
    heads = [column.head[-1] for column in columns(layout([*late, *old]), "throughput_measured")]
    assert heads == ["fp32, batch 2", "fp32, batch 1"]


def test_other_models_other_sizes_and_training_are_not_this_table(launches):
    other = [*launches("timm:resnet18"), *launches(TINY, image_size=160), *launches(TINY, task="train")]
    assert columns(layout(other), "throughput_measured")[0].key == "throughput_measured"


def test_two_versions_of_torch_never_share_a_column(launches):
    old = [replace(r, environment=replace(r.environment, torch="2.6.0")) for r in launches(TINY)]
    found = columns(layout([*old, *launches(TINY)]), "throughput_measured")
    assert sorted(column.head[-1] for column in found) == ["torch 2.15.0", "torch 2.6.0"]


def test_gain_is_a_quotient_within_one_group(launches):
    records = [*launches(SWIN_T, rate=100.0), *launches(TINY, rate=150.0), *launches(SWIN_T, rate=300.0, batch_size=1)]
    table = layout(records, "convnext_table12")
    gains = [cell(table, TINY, column.key) for column in columns(table, "gain_measured")]
    assert [gain.text for gain in gains] == ["–", "+50 %"]
    assert cell(table, SWIN_T, columns(table, "gain_measured")[1].key).text == "–"


def test_measured_training_memory_and_its_ratio():
    networks = {"timm:deit_small_patch16_224": 4.0, "paper:convnext_iso_small": 3.0}
    records = [_trained(model, gib) for model, gib in networks.items()]
    table = layout(records, "convnext_table2")
    at = {column.key: place for place, column in enumerate(table.columns)}
    iso = next(row for row in table.rows if row.subject == "paper:convnext_iso_small")
    texts = {key: iso.cells[place].text for key, place in at.items() if "cpu" in key}
    assert sorted(texts.values()) == ["0.750", "3.00", "6.00"]


def _trained(model, gib):
    counters = [
        Measurement(
            metric=f"peak_memory_{name}", unit="B", better="lower", assume="nothing", values=(factor * gib * 2**30,)
        )
        for name, factor in (("allocated", 1), ("reserved", 2))
    ]
    return Record(
        spec=PAPER_2022.spec(model, 224, TRAIN_BATCH),
        protocol=SWIN,
        environment=Environment(device_type="cpu"),
        measurements=tuple(counters),
        source="measured",
    )


def _card(key: str) -> Environment:
    return Environment(device_type="cuda", device_key=key, device_name=key, torch="2.14.1")


CARDS = ("v100-sxm2-16gb", "a100-sxm4-40gb", "h100-sxm5-80gb", "l40s", "t4")


@pytest.mark.parametrize("number", [2, 4, 5])
def test_every_card_has_a_column(launches, number):
    """However many cards a cluster has; the newest groups are not one card's alone."""
    cards = CARDS[:number]
    records = [record for key in cards for record in launches(TINY, environment=_card(key))]
    records += launches(TINY, environment=_card(cards[0]), batch_size=2)
    table = layout(records)
    found = [column.head[1] for column in columns(table, "throughput_measured")]
    assert set(found) == {key.upper() for key in cards}


@pytest.mark.parametrize("number", [1, 2, 3])
def test_training_memory_has_columns_for_every_card(number):
    """Two ways of training each: as in 2022, and as today."""
    tiny = _trained("paper:convnext_iso_small", 2.0)
    ways = (tiny.spec, replace(tiny.spec, precision="amp_bf16"))
    records = [replace(tiny, spec=spec, environment=_card(key)) for key in CARDS[:number] for spec in ways]
    table = layout(records, "convnext_table2")
    allocated = columns(table, "train_memory_allocated")
    assert [column.head[1] for column in allocated] == [key.upper() for key in reversed(CARDS[:number]) for _ in ways]
    assert not any("older" in remark for remark in table.remarks)


def test_a_cell_never_mixes_sources(measured):
    """What is in a column is of the column's source, or says nothing."""
    for name in REPORTS:
        table = layout(measured, name)
        for i, column in enumerate(table.columns):
            assert {row.cells[i].source for row in table.rows} <= {column.source, None}


def test_every_number_says_where_it_comes_from(measured):
    for name in REPORTS:
        table = layout(measured, name)
        numbers = [
            cell for row in table.rows for cell, column in zip(row.cells, table.columns, strict=True) if column.source
        ]
        assert all(cell.origin and cell.source for cell in numbers if cell.text != "–")


def test_marks_go_on_after_z(measured):
    table = layout(measured)
    rows = tuple(
        replace(row, cells=(replace(row.cells[0], notes=(f"note {i}",)), *row.cells[1:]))
        for i, row in enumerate(table.rows)
    )
    marks = list(footnotes(replace(table, rows=rows)).values())
    assert marks[:2] == ["a", "b"]
    assert marks[25:28] == ["z", "aa", "ab"]
