"""Tables of how wrong predictions are: what is counted, and what is not."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from perf.prediction.memory_check import MemoryCheck
from perf.prediction.memory_check import table_of as memory
from perf.prediction.printed import Check
from perf.prediction.printed import table_of as printed
from visionbench.record.prediction import Figures
from visionbench.record.spec import Spec
from visionbench.reports.render.terminal import terminal
from visionbench.reports.results.validations import by_publication

GIB = 2**30


def row(ratio: float | None, task: str = "inference", **changes: str) -> Check:
    """A printed row of 100 images per second, predicted `ratio` times as fast, give or take a tenth; None: refused."""
    at = {"predicted": None, "low": None, "high": None}
    if ratio:
        at = {"predicted": 100 * ratio, "low": 90 * ratio, "high": 110 * ratio}
    words = {"device": "v100", "tier": "anchored", "source": "a", "reason": ""}
    return Check(**words | changes, spec=Spec(model="timm:a", task=task), printed=100.0, **at)  # type: ignore[arg-type]


def test_a_long_source_is_cut_and_whole_in_a_footnote_and_the_table_fits_80_columns():
    sources = ("arXiv 2201.03545v2, Tables 1 and 2", "github.com/somebody/some-benchmark, results/of_a_card.csv (2026)")
    figures = Figures(rows=28, families=5, mean=0.048, median=0.043, p90=0.1, rank=0.99)
    table = by_publication([SimpleNamespace(device="v100", how="fp32", by_source=dict.fromkeys(sources, figures))])
    assert [row.cells[0].text for row in table.rows] == [sources[0], "github.com/somebody/some-benchmark"]
    assert [row.cells[0].value for row in table.rows] == list(sources)
    text = terminal(table, 80, colour=False)
    assert max(map(len, text.splitlines())) <= 80
    assert "results/of_a_card.csv" in text
    assert "4.8 %" in text


def values(table, row_index: int) -> dict[str, object]:
    return dict(
        zip(
            [column.key for column in table.columns],
            [cell.value for cell in table.rows[row_index].cells],
            strict=True,
        )
    )


def test_rows_are_counted_by_card_and_way_of_running():
    table = printed(
        [row(1.05), row(1.25, source="b"), row(0.5, task="train"), row(1.0, device="t4", tier="data sheet")]
    )
    assert [one.section for one in table.rows] == ["inference", "inference", "train"]
    found = values(table, 1)
    assert (found["device"], found["rows"], found["sources"]) == ("v100", 2, 2)
    assert found["mean"] == pytest.approx(15.0)
    assert found["factor"] == pytest.approx((1.05 * 1.25) ** 0.5)
    assert found["inside"] == 0.5
    assert values(table, 2)["mean"] == pytest.approx(50.0)
    summed = " ".join(table.remarks)
    assert "inference: 3 rows of 2 sources, 10.0% off on average, 5.0% in the middle" in summed
    assert "interval holds 2." in summed


def test_a_refusal_is_no_error_and_no_hit():
    table = printed([row(1.1), row(None)])
    found = values(table, 0)
    assert found["rows"] == 2
    assert found["mean"] == pytest.approx(10.0)
    assert "1 row of 1 sources" in " ".join(table.remarks)
    only = printed([row(None)])
    assert only.rows[0].cells[-1].text == "refused"
    assert "all rows were refused" in " ".join(only.remarks)


def peak(ratio: float, *, known: bool = True, model: str = "timm:a", how: str = "allocated") -> MemoryCheck:
    return MemoryCheck(
        model=model, batch_size=8, counter=how, printed=ratio * GIB, predicted=GIB, low=0.99 * GIB, high=1.02 * GIB,
        fit=known, source="somewhere",
    )  # fmt: skip


def test_memory_is_near_only_if_every_row_of_a_model_is():
    table = memory([peak(1.01), peak(1.06), peak(1.04, model="timm:b"), peak(0.9, model="timm:c", how="reserved")])
    summed = " ".join(table.remarks)
    assert "allocated: 1 of 2 models within 5%" in summed
    assert "reserved: 0 of 1 model within 5%" in summed
    assert "holds 1 of 4 rows" in summed


def test_what_is_guessed_stands_last_and_is_not_in_the_interval_s_count():
    table = memory([peak(1.5, known=False, model="timm:b"), peak(1.01)])
    assert [one.subject for one in table.rows] == ["timm:a", "timm:b"]
    assert "guessed" in table.rows[1].section
    assert "holds 1 of 1 rows" in " ".join(table.remarks)
    assert values(table, 0)["ratio"] == pytest.approx(1.01)
