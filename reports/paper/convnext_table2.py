"""Table 2 of the ConvNeXt paper: isotropic ConvNeXt against ViT, with the memory that training needs."""

from __future__ import annotations

from collections.abc import Sequence

from visionbench.comparison.comparison import Comparison
from visionbench.record.record import Record
from visionbench.record.spec import Spec
from visionbench.reports.paper import columns, counts, predicted_rates, rates, training_memory
from visionbench.reports.paper.columns import Plan
from visionbench.reports.paper.report import Report, assemble, counts_of
from visionbench.reports.printed import PaperRow, rows
from visionbench.reports.settings import groups
from visionbench.reports.table import HEADS, Column, Table

NAME, TITLE, PAPER_TABLE = "convnext_table2", "Isotropic ConvNeXt and ViT (Table 2 of the ConvNeXt paper)", "2"


def specs_of(row: PaperRow) -> tuple[Spec, ...]:
    """The counts of one image, and the traces of a training step as in 2022 and as today."""
    return (*counts_of(row), *training_memory.specs_of(row))


def layout(records: Sequence[Record], _comparisons: Sequence[Comparison] = (), /) -> Table:
    """Published, computed and measured numbers side by side. Pure; one pass for inference, one for training."""
    printed = rows(PAPER_TABLE)
    exact = counts.index(records)
    measured = rates.inference_groups(records, printed)
    trained = groups(records, (row.network for row in printed), "train")
    plans = (
        columns.model(),
        _architecture("depth", 9),
        _architecture("width", 10),
        *columns.counted(exact, "params"),
        *columns.counted(exact, "macs"),
        columns.printed(columns.TOP1, "top1"),
        columns.published_rate("V100", "throughput-v100"),
        *predicted_rates.plans(records, "V100"),
        *rates.plans(rates.shown(measured)),
        *training_memory.plans(exact, trained[: training_memory.GROUPS]),
    )
    remarks = (*rates.left_out(measured, NAME), *training_memory.left_out(trained))
    return assemble(NAME, TITLE, printed, plans, remarks=remarks, gap=lambda row: row.number % 2 == 1)


def _architecture(metric: str, rank: int) -> Plan:
    return columns.printed(Column(key=metric, head=(HEADS["published"], metric), unit="count", rank=rank), metric)


REPORT = Report(name=NAME, title=TITLE, paper_table=PAPER_TABLE, layout=layout, specs_of=specs_of)
