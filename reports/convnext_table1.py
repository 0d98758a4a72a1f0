"""Table 1 of the ConvNeXt paper: classification on ImageNet-1K, 35 printed rows in two sections."""

from __future__ import annotations

from collections.abc import Sequence

from bench.record.comparison import Comparison
from bench.record.record import Record
from reports import columns, counts, predicted, rates
from reports.paper import rows
from reports.report import Report, assemble
from reports.table import Table

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
        *predicted.plans(records, "V100", "A100"),
        *rates.plans(rates.shown(measured)),
    )
    return assemble(NAME, TITLE, printed, plans, remarks=rates.left_out(measured, NAME))


REPORT = Report(name=NAME, title=TITLE, paper_table=PAPER_TABLE, layout=layout)
