"""Tables over nodes: what an interval is over is said, ratios are per card, and the odd card is named."""

from __future__ import annotations

import csv
import json
import random
import re
from collections.abc import Sequence
from dataclasses import replace

import pytest

from visionbench.record.record import Environment, Failure, Health, Measurement, Record
from visionbench.record.spec import SWIN, Spec
from visionbench.reports import FORMATS, REPORTS, render
from visionbench.reports.results import effects_grid, nodes, runs
from visionbench.reports.table import Cell, Table

TEXT = "terminal"


def launched(node: str | None, rate: float, model: str = "timm:resnet18", health: Health | None = None) -> Record:
    blocks = Measurement(metric="throughput", unit="s", better="lower", assume="nothing", values=(64 / rate,))
    environment = Environment(
        device_type="cuda",
        device_key="a100-sxm4-40gb",
        device_name="NVIDIA A100-SXM4-40GB",
        torch="2.14.1",
        node=node,
        gpu_uuid=node and f"uuid-{node}",
        health=health,
    )
    spec = Spec(model=model, batch_size=64, precision="tf32", memory_format="channels_last")
    return Record(spec=spec, protocol=SWIN, environment=environment, measurements=(blocks,), source="measured")


def on_nodes(count: int, launches: int = 1, rate: float = 1000.0, model: str = "timm:resnet18") -> list[Record]:
    chance = random.Random(7)
    speeds = [1 + chance.uniform(-0.01, 0.01) for _ in range(count)]
    return [launched(f"n{k}", rate * speed, model) for k, speed in enumerate(speeds) for _ in range(launches)]


def unfit(node: str, why: str, health: Health | None = None) -> Record:
    launch = launched(node, 1.0, health=health)
    return replace(launch, measurements=(), failure=Failure(kind="unfit", stage="cluster", message=why))


def cell(table: Table, key: str, row: int = 0) -> Cell:
    return table.rows[row].cells[[column.key for column in table.columns].index(key)]


def said(table: Table) -> str:
    return " ".join(render(table, TEXT, 200).split())


def test_seven_nodes_have_an_interval_over_nodes_and_the_table_says_so() -> None:
    table = runs.layout(on_nodes(7, launches=2))
    assert len(table.rows) == 1
    shown = cell(table, "throughput")
    assert shown.span.startswith("[")
    assert shown.level == 0.95
    assert "interval: 95 %, over 7 nodes, where a node's value is the median of its launches" in said(table)


@pytest.mark.parametrize("count", [2, 3, 6])
def test_fewer_have_a_centre_and_a_range(count: int) -> None:
    table = runs.layout(on_nodes(count, launches=4))
    shown = cell(table, "throughput")
    assert shown.span.startswith("(")
    assert " to " in shown.span
    assert (shown.low, shown.high, shown.level) == (None, None, None)
    assert f"entre and range over {count} nodes; an interval over nodes needs 7" in said(table)
    for form in FORMATS:
        assert render(table, form)


def test_one_node_speaks_of_its_card_alone() -> None:
    table = runs.layout(on_nodes(1, launches=8))
    assert "over launches, on one node: it is about this card" in said(table)


def test_a_papers_gains_are_per_card() -> None:
    report = REPORTS["convnext_table12"]
    rows = {row.model for row in report.rows}
    below, above = "timm:swin_tiny_patch4_window7_224", "paper:convnext_original_tiny"
    assert {below, above} <= rows
    chance = random.Random(5)
    cards = [(f"n{k}", 1 + chance.uniform(-0.2, 0.2)) for k in range(8)]
    records = [launched(node, 1000 * speed, below) for node, speed in cards]
    records += [launched(node, 1400 * speed, above) for node, speed in cards]
    table = report.layout(records, [])
    gains = next(row.cells for row in table.rows if row.subject == above)
    keys = [column.key for column in table.columns]
    gain = next(shown for key, shown in zip(keys, gains, strict=True) if key.startswith("gain_measured"))
    assert gain.text == "+40 %"
    assert gain.span == "[+40, +40 %]"  # the cards differ by a fifth, their ratios by nothing
    assert "each card against itself" in said(table)


@pytest.mark.parametrize(("factor", "word"), [(0.9, "slower"), (1.15, "faster")])
def test_the_odd_card_is_named(factor: float, word: str) -> None:
    records = [*on_nodes(8), *on_nodes(8, rate=300.0, model="timm:resnet50")]
    odd = [launched("lame", 1000 * factor), launched("lame", 300 * factor, "timm:resnet50")]
    table = nodes.layout([*records, *odd])
    odd_one = re.search(r"The odd one: lame, ([0-9.]+) % (\w+) than its likes\.", said(table))
    assert odd_one is not None
    assert float(odd_one[1]) == pytest.approx(abs(factor - 1) * 100, abs=1)
    assert odd_one[2] == word
    assert len(table.rows) == 9


def test_no_card_stands_out_where_all_are_alike() -> None:
    assert "No card stands out" in said(nodes.layout(on_nodes(8)))
    assert "The odd one" not in said(nodes.layout([*on_nodes(2), launched("far", 500.0)]))  # three cards say nothing


def test_what_the_driver_counts_stands_beside() -> None:
    health = Health(ecc_uncorrected=2, rows_remapped=5, pcie_width=8, pcie_width_max=16, power_limit_default=400.0)
    table = nodes.layout([launched("a", 1000.0, health=health), launched("b", 1000.0)])
    assert [cell(table, key).text for key in ("ecc_uncorrected", "rows_remapped", "pcie_width")] == [
        "2",
        "5",
        "8 of 16",
    ]
    assert cell(table, "ecc_uncorrected", 1).text == "–"


@pytest.mark.parametrize("records", [[], [launched(None, 5.0)]])
def test_without_nodes_it_says_so(records: Sequence[Record]) -> None:
    table = nodes.layout(records)
    assert table.rows == ()
    assert "No record names a node" in said(table)


# --- every format ---


def in_words(table: Table, form: str) -> str:
    """A format's text with one space between words, without LaTeX's marks and a page's tags and signs."""
    text = re.sub(r"\\\\[,;]|[\\\\{}~$]|<[^>]*>", " ", render(table, form, 200))
    for sign, word in (("&#x27;", "'"), ("&nbsp;", " "), ("’", "'"), ("\N{NO-BREAK SPACE}", " ")):
        text = text.replace(sign, word)
    return " ".join(text.split())


@pytest.mark.parametrize("form", [form for form in FORMATS if form != "csv"])
def test_every_format_says_what_an_interval_is_over_and_which_node_is_left_out(form: str) -> None:
    records = [*on_nodes(9, launches=2), unfit("ill", "its GPU's memory had 3 uncorrectable errors")]
    said = in_words(runs.layout(records), form)
    assert "over 9 nodes, where a node's value is the median of its launches" in said
    assert "Node ill is left out: its GPU's memory had 3 uncorrectable errors." in said
    few = in_words(runs.layout(on_nodes(3)), form)
    assert "entre and range over 3 nodes; an interval over nodes needs 7" in few
    assert "on one node: it is about this card" in in_words(runs.layout(on_nodes(1, launches=8)), form)


@pytest.mark.parametrize(("count", "ends"), [(9, ("low", "high")), (3, ("least", "most"))])
def test_machines_get_the_number_of_nodes_and_both_ends(count: int, ends: tuple[str, str]) -> None:
    table = runs.layout(on_nodes(count))
    [row] = csv.DictReader(render(table, "csv").splitlines())
    [cells] = [each["cells"] for each in json.loads(render(table, "json"))["rows"]]
    assert (row["nodes"], cells["nodes"]["text"]) == (str(count), str(count))
    assert f"{count} nodes" in row["throughput_origin"]
    shown = cells["throughput"]
    low, high = (float(row[f"throughput_{end}"]) for end in ends)
    assert (low, high) == (shown[ends[0]], shown[ends[1]])
    assert 980 < low < float(row["throughput_per_s"]) < high < 1020
    other = {"low", "high", "least", "most"} - set(ends)
    assert not any(f"throughput_{end}" in row or end in shown for end in other)


@pytest.mark.parametrize("form", FORMATS)
def test_the_table_of_nodes_names_the_odd_and_the_ill_in_every_format(form: str) -> None:
    health = Health(ecc_uncorrected=3, pcie_width=8, pcie_width_max=16)
    ill = unfit("ill", "its GPU's memory had 3 uncorrectable errors", health)
    table = nodes.layout([*on_nodes(8), launched("lame", 900.0), ill])
    said = in_words(table, form)
    assert "unfit node" in said
    assert "eft out: its GPU's memory had 3 uncorrectable errors." in said
    assert "8 of 16" in said
    assert ("The odd one: lame" if form != "csv" else "Outside of one and a half interquartile ranges") in said


def test_a_node_that_is_left_out_is_no_launch_and_no_row() -> None:
    records = on_nodes(7)
    table = runs.layout([*records, *(unfit(f"ill{k}", "MIG") for k in range(9))])
    assert len(table.rows) == 1
    assert "failed" not in said(table)
    assert said(table).count("is left out: MIG") == 9
    assert len(runs.layout([unfit("ill", "MIG")]).rows) == 0
    row = unfit("ill", "MIG")
    other = replace(row, spec=replace(row.spec, precision="bf16"))  # what the job would have measured first
    assert effects_grid.layout([*records, other]).rows == effects_grid.layout(records).rows == ()
    paper = REPORTS["convnext_table12"].layout([*records, row], [])
    assert "Node ill is left out: MIG." in paper.remarks


@pytest.mark.parametrize(
    ("count", "sentence"),
    [
        (9, "± is half of the 95 % interval, which is over nodes: its wider half."),
        (3, "In round brackets is the range over nodes, which are too few for an interval."),
    ],
)
def test_short_spans_say_what_they_are_and_latex_names_the_ill_without_notes(count: int, sentence: str) -> None:
    table = runs.layout([*on_nodes(count), unfit("ill", "MIG")])
    narrow = " ".join(render(table, TEXT, 60).split())
    latex = render(table, "latex", notes=False).replace("\\%", "%").replace("$\\pm$", "±")
    for text in (narrow, latex):
        assert sentence in text
        assert "Node ill is left out: MIG." in text
    assert "± is" not in narrow or count == 9


def test_every_power_limit_of_several_nodes_is_said() -> None:
    lowered = [
        replace(record, environment=replace(record.environment, power_limit=watts))
        for record, watts in zip(on_nodes(3), (400.0, 300.0, 400.0), strict=True)
    ]
    text = said(runs.layout(lowered))
    assert "power limit 400 W" in text
    assert "power limit 300 W" in text
