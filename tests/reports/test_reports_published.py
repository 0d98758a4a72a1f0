"""The copied numbers: complete, consistent with each other, and mapped to models."""

import csv
from collections import Counter
from pathlib import Path

import pytest

from tests.roadmap_rows import ROWS as RUNGS
from visionbench.reports import REPORTS
from visionbench.reports import printed as paper

PUBLISHED = Path(paper.__file__).parent / "published"


def lines(name: str) -> list[dict[str, str]]:
    with (PUBLISHED / name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_printed_row_is_there():
    printed = Counter(line["table"] for line in lines("rows.csv"))
    assert printed == {"1": 35, "2": 6, "3": 16, "4": 11, "10": 18, "11": 18, "12": 14}


def test_rows_are_numbered_as_printed():
    for table in ("1", "2", "10", "11", "12"):
        assert [row.number for row in paper.rows(table)] == list(range(1, len(paper.rows(table)) + 1))


def test_a_number_is_there_once_and_belongs_to_a_row():
    places = Counter((line["table"], line["row"], line["metric"]) for line in lines("numbers.csv"))
    assert max(places.values()) == 1
    assert {place[:2] for place in places} == {(line["table"], line["row"]) for line in lines("rows.csv")}


def test_every_number_says_its_source_and_a_known_protocol():
    assert all(line["source"] for line in lines("numbers.csv"))
    assert {line["protocol"] for line in lines("numbers.csv")} - {""} == set(paper.convnext().protocols)


@pytest.mark.parametrize(
    ("table", "metric", "count"), [("1", "throughput", 33), ("12", "throughput", 14), ("2", "train_memory", 6)]
)
def test_throughputs_and_memory_are_complete(table, metric, count):
    """Two rows of Table 1 (BiT) print no throughput."""
    assert sum(metric in row.printed for row in paper.rows(table)) == count


@pytest.mark.parametrize("row", [row for row in paper.rows("12") if "gain" in row.printed], ids=lambda row: row.label)
def test_printed_gains_are_the_quotients_of_the_printed_throughputs(row):
    above = paper.convnext().rival(row)
    ratio = row.printed["throughput"].value / above.printed["throughput"].value
    assert row.printed["gain"].value == round((ratio - 1) * 100)


def test_memory_ratios_of_table_2():
    ratios = [
        round(row.printed["train_memory"].value / above.printed["train_memory"].value, 3)
        for row in paper.rows("2")
        if (above := paper.convnext().rival(row))
    ]
    assert ratios == [0.857, 0.846, 0.907]


def test_the_roadmaps_rows_are_those_of_the_models():
    printed = [(int(row.table), row.label, row.model) for table in ("10", "11") for row in paper.rows(table)]
    assert printed == [(row.table, row.label, row.model) for row in RUNGS]


def test_digits_are_kept():
    number = paper.rows("1")[12].printed["macs"]
    assert (number.text, number.decimals, number.value, number.half_unit) == ("45.0", 1, 45_000_000_000, 5e7)


def test_no_column_slipped():
    """No classifier of ImageNet here is below 70 % or above 90 %, or has less than 1 or more than 1000 GMACs."""
    for row in paper.convnext().every_row:
        if row.table in ("3", "4"):  # no classifiers
            assert 40 < row.printed["ap_box" if row.table == "3" else "miou_ms"].value < 60
            continue
        assert 70 < row.printed["top1" if "top1" in row.printed else "top1_22k"].value < 90
        assert 1e9 < row.printed["macs"].value < 1e12
        assert "params" not in row.printed or 2e7 < row.printed["params"].value < 1e9


def test_a_report_declares_what_it_needs():
    table1 = REPORTS["convnext_table1"]
    sizes = {spec.image_size for spec in table1.computed_specs() if spec.model == "timm:tf_efficientnetv2_xl"}
    assert sizes == {480, 384, 512}
    assert len(table1.measured_rows()) == len(set(table1.measured_rows())) == 26
    train = [spec for spec in REPORTS["convnext_table2"].computed_specs() if spec.task == "train"]
    assert len(train) == 2 * 6
    settings = {(spec.batch_size, spec.attention, spec.precision) for spec in train}
    assert settings == {(32, "math", "fp32"), (32, "fused", "amp_bf16")}
