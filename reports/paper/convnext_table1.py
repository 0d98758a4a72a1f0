"""Table 1 of the ConvNeXt paper: classification on ImageNet-1K, 35 printed rows in two sections."""

from __future__ import annotations

from collections.abc import Sequence

from visionbench.comparison.comparison import Comparison
from visionbench.record.record import Record
from visionbench.reports.paper import columns, counts, predicted_rates, rates
from visionbench.reports.paper.report import Report, assemble
from visionbench.reports.printed import rows
from visionbench.reports.table import Table

NAME, TITLE, PAPER_TABLE = "convnext_table1", "Classification on ImageNet-1K (Table 1 of the ConvNeXt paper)", "1"


def layout(records: Sequence[Record], _comparisons: Sequence[Comparison] = (), /) -> Table:
    """Published, computed and measured numbers side by side. Pure, one pass over the records."""
    printed = rows(PAPER_TABLE)
    exact = counts.index(records)
    measured = rates.inference_groups(records, printed)
    plans = (
        columns.model(columns.AUTHORS),
        columns.image_size(),
        *columns.counted(exact, "params"),
        *columns.counted(exact, "macs"),
        columns.printed(columns.TOP1, "top1"),
        columns.published_rate("V100", "throughput-v100"),
        columns.published_rate("A100", "throughput-a100", table="12", rank=7),
        *predicted_rates.plans(records, "V100", "A100"),
        *rates.plans(rates.shown(measured)),
    )
    return assemble(NAME, TITLE, printed, plans, remarks=rates.left_out(measured, NAME))


REPORT = Report(name=NAME, title=TITLE, paper_table=PAPER_TABLE, layout=layout)
