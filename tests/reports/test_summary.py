"""The answers on top of a page: who wins is said where intervals show it, and nowhere else."""

from dataclasses import replace

import pytest

from tests.reports import paired
from visionbench.reports import REPORTS
from visionbench.reports.paper.report import OWN
from visionbench.reports.results import summary

T, S, SWIN = "paper:convnext_original_tiny", "paper:convnext_original_small", "timm:swin_tiny_patch4_window7_224"


def said(records, comparisons=(), *, own=True):
    return summary.sentences(records, comparisons, own=own)


def findings(records):
    return {(one.floor, summary.name(one.best.row)): one.finding for one in summary.winners(records)}


def test_a_winner_is_one_whose_interval_is_above_all_others(launches):
    records = [*launches(T, rate=100.0), *launches(SWIN, rate=90.0), *launches(S, rate=60.0)]
    assert findings(records) == {
        (83, "ConvNeXt-S"): "the only one",
        (82, "ConvNeXt-T"): "wins: intervals apart",
    }
    [sentence, *_] = said(records)["Fastest"]
    assert "ConvNeXt-T at 82 % and more (100.0 img/s). The intervals show it." in sentence


@pytest.mark.parametrize(
    ("rates", "number", "finding"),
    [
        ((100.0, 99.9), 7, "tied with Swin-T"),
        ((100.0, 99.8), 7, "tied with Swin-T"),
        ((100.0, 50.0), 3, "ahead, without an interval"),
        ((100.0, 99.0), 1, "ahead, without an interval"),
    ],
)
def test_no_order_is_claimed_that_intervals_do_not_show(launches, rates, number, finding):
    records = [
        r for model, rate in zip((T, SWIN), rates, strict=True) for r in launches(model, rate=rate, number=number)
    ]
    assert findings(records) == {(82, "ConvNeXt-T"): "the only one", (81, "ConvNeXt-T"): finding}
    assert not any("The intervals show it" in one for one in said(records).get("Fastest", ()))


def test_two_ways_of_measuring_are_never_one_contest(launches):
    records = [*launches(T, rate=10.0), *launches(SWIN, rate=100.0, precision="tf32")]
    assert summary.winners(records) == ()
    assert "Fastest" not in said(records)


def test_whose_measurements_they_are_and_what_is_doubtful(launches):
    few = launches(T, number=2, flags=("throttled",))
    none = launches(S, number=1, failure="out_of_memory")
    theirs, mine = said([*few, *none], own=False), said([*few, *none])
    assert theirs["Measured"][0].startswith("These measurements came with visionbench")
    assert mine["Measured"] == (
        "1 network in 1 row (2 launches) on NVIDIA A100-SXM4-80GB, torch 2.15.0, newest of 2026-01-02.",
    )
    assert mine["Doubtful"] == (
        "1 row could not be measured: paper:convnext_original_small.",
        "1 of 1 row has fewer than 7 launches, so no interval.",
        "1 of 1 row: the device slowed its clock meanwhile, and those blocks were discarded "
        "(paper:convnext_original_tiny).",
    )
    assert said(launches(T))["Doubtful"] == ("Every row has an interval and no flag.",)
    assert said([]) == {
        "Measured": ("Nothing was measured here: what follows is copied from papers, counted or predicted.",)
    }


@pytest.mark.parametrize("model", ["user:my.nets:make", "timm:resnet18", "torchvision:swin_t"])
def test_a_network_without_a_printed_accuracy_is_named_and_not_ranked(launches, model):
    [sentence] = said(launches(model, rate=123.0))["Fastest"]
    assert "in no order because no table here prints their accuracy" in sentence
    assert f"{model.removeprefix('timm:')} 123.0 img/s [" in sentence
    [_, other] = said([*launches(T, rate=100.0), *launches(SWIN, rate=50.0), *launches(model, number=2)])["Fastest"]
    assert other.count("img/s") == 1
    assert "[" not in other


def test_settings_are_counted_by_what_their_intervals_show():
    comparisons = paired.effects()
    counted, *_ = said([], comparisons)["Settings"]
    assert counted.endswith(".")
    assert f"compared in turns on {comparisons[0].environment.device_name}" in counted
    failed = [replace(one, launches=()) for one in comparisons[:1]]
    assert "faster" not in " ".join(said([], failed).get("Settings", ()))


@pytest.mark.parametrize("model", ["user:my.nets:make", "timm:resnet18", "hf-hub:timm/resnet50.a1_in1k"])
def test_what_the_user_measured_has_a_row_in_every_table_that_can_hold_it(launches, model):
    records = launches(model, rate=123.0)
    held = {}
    for name in ("convnext_table1", "convnext_table2", "convnext_table3", "convnext_table10", "convnext_table12"):
        report = REPORTS[name].beside([(model, 224), (T, 224)])
        rows = [row for row in report.layout(records).rows if row.section == OWN]
        held[name] = [(row.subject, any(cell.text == "123.0" for cell in row.cells)) for row in rows]
        assert len(report.layout(records).rows) == len(REPORTS[name].rows) + len(rows)
    assert held == {
        "convnext_table1": [(model, True)],
        "convnext_table2": [(model, True)],
        "convnext_table3": [],
        "convnext_table10": [],
        "convnext_table12": [(model, True)],
    }
    assert [row.subject for row in REPORTS["runs"].layout(records).rows] == [model]
