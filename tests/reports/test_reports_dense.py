"""Tables 3 and 4: the printed FLOPs counted by their own rule, footnotes where none prints them, gains and phases."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests import dense_networks
from visionbench.record.metrics import DENSE_PHASES, POST_PHASES, measurement
from visionbench.record.record import Environment, Record
from visionbench.record.spec import STEADY, Spec
from visionbench.reports import REPORTS, render
from visionbench.reports.table import Cell, Table

TABLES = ("convnext_table3", "convnext_table4")
SUFFIXES = {"terminal": "txt", "markdown": "md", "latex": "tex", "csv": "csv", "json": "json"}
GPU = Environment(
    device_type="cuda", device_key="a100-sxm4-40gb", device_name="NVIDIA A100-SXM4-40GB", torch="2.15.0", cuda="13.0",
    started="2026-01-02T03:04:05Z",
)  # fmt: skip


def column(table: Table, key: str) -> dict[str, Cell]:
    """The cells of a column by the row's section and label; keys may begin with `key`."""
    place = next(i for i, heading in enumerate(table.columns) if heading.key.startswith(key))
    return {f"{row.section.split()[0]} {row.cells[0].value}": row.cells[place] for row in table.rows}


def launch(model: str, rate: float) -> Record:
    """One launch of a detector that nobody measured: post-processing takes a tenth of what the dense part takes."""
    seconds = dict.fromkeys(DENSE_PHASES, 1 / rate / len(DENSE_PHASES))
    seconds |= dict.fromkeys(POST_PHASES, 0.1 / rate / len(POST_PHASES))
    measurements = (
        measurement("throughput", (10 / rate,), iterations=10),
        *(measurement(name, (value,)) for name, value in seconds.items()),
    )
    spec = Spec(model=model, image_size=(800, 1280), precision="tf32")
    return Record(spec=spec, protocol=STEADY, environment=GPU, measurements=measurements, source="measured")


@pytest.fixture(scope="module")
def detectors() -> Table:
    rates = {"mask_rcnn_swin_tiny": 20.0, "mask_rcnn_convnext_tiny": 25.0, "cascade_mask_rcnn_swin_tiny": 8.0}
    measured = [launch(f"paper:{name}", rate * (1 + i / 1e3)) for name, rate in rates.items() for i in range(7)]
    return REPORTS["convnext_table3"].layout([*dense_networks.records(), *measured])


@pytest.mark.parametrize("form", SUFFIXES)
@pytest.mark.parametrize("name", TABLES)
def test_golden(name: str, form: str, golden: Callable[[str, str], None], detectors: Table) -> None:
    table = detectors if name == TABLES[0] else REPORTS[name].layout(dense_networks.records())
    golden(f"{name.removeprefix('convnext_')}.{SUFFIXES[form]}", render(table, form, 200))


@pytest.mark.parametrize(("name", "rows", "missed"), [(TABLES[0], 16, []), (TABLES[1], 11, ["Swin-B", "ConvNeXt-B"])])
def test_the_rule_of_each_row_prints_its_digits(name: str, rows: int, missed: list[str]) -> None:
    table = REPORTS[name].layout(dense_networks.records())
    printed, again, rules = (column(table, key) for key in ("macs_published", "macs_by_rule", "rule"))
    assert len(printed) == rows
    off = [row for row in printed if round(float(again[row].value or 0) / 1e9) != float(printed[row].value or 0) / 1e9]
    assert off == [f"ImageNet-22K {label}" for label in missed]
    assert set(map(str, (cell.value for cell in rules.values()))) == {"hooks", "hooks + attention"}


def test_what_no_rule_prints_says_what_was_tried_and_swin_l_what_it_lacks() -> None:
    table = REPORTS[TABLES[1]].layout(dense_networks.records())
    notes = {row: " ".join(cell.notes) for row, cell in column(table, "macs_published").items() if cell.notes}
    said = list(notes.values())
    assert len(said) == 3
    assert "0.06 %" in said[0]
    assert "hooks + attention 1,839.93" in said[0]
    assert said[0].endswith("hooks + attention + heads' norms + GELU would.")
    assert "hooks 1,827.48" in said[1]
    assert "without attention's two products (15.63 G)" in said[2]
    detection = column(REPORTS[TABLES[0]].layout(dense_networks.records()), "macs_published")
    assert [row for row, cell in detection.items() if cell.notes] == ["Cascade Swin-L (22K)"]


def test_gains_are_of_the_swin_above_printed_and_measured(detectors: Table) -> None:
    printed, measured = column(detectors, "gain_published"), column(detectors, "gain_measured")
    assert {row: cell.text for row, cell in printed.items() if cell.value} == {
        "Mask-RCNN ConvNeXt-T": "+11 %",
        "Cascade ConvNeXt-T": "+11 %",
        "Cascade ConvNeXt-S": "+5 %",
        "Cascade ConvNeXt-B": "+7 %",
        "Cascade ConvNeXt-B (22K)": "+7 %",
        "Cascade ConvNeXt-L (22K)": "+9 %",
    }
    assert {row: cell.text for row, cell in measured.items() if cell.value} == {"Mask-RCNN ConvNeXt-T": "+25 %"}


def test_post_processing_and_the_sum_have_columns_of_their_own(detectors: Table) -> None:
    post, whole = column(detectors, "post_processing_measured"), column(detectors, "end_to_end_measured")
    assert post["Mask-RCNN Swin-T"].value == pytest.approx(0.1 / 20.0, rel=0.01)
    assert post["Mask-RCNN Swin-T"].text == "4.99"
    assert whole["Mask-RCNN Swin-T"].value == pytest.approx(20.0 / 1.1, rel=0.01)
    assert post["Cascade Swin-S"].value is None
    headings = [heading for heading in detectors.columns if heading.key.startswith(("post_", "end_"))]
    assert all("FPS" not in heading.name for heading in headings)


def test_without_records_the_tables_are_the_papers() -> None:
    for name in TABLES:
        table = REPORTS[name].layout([])
        assert all(cell.text for cell in column(table, "macs_published").values())
        assert not [heading for heading in table.columns if heading.key.startswith("post_processing")]
        assert render(table, "html")
