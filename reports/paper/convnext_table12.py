"""Table 12 of the ConvNeXt paper (Appendix E): the same networks on an A100, and by how much ConvNeXt is faster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from visionbench.comparison.comparison import Comparison
from visionbench.record.record import Record
from visionbench.reports import cells
from visionbench.reports.paper import columns, counts, predicted_rates, rates
from visionbench.reports.paper.columns import RATE, Plan
from visionbench.reports.paper.rates import Rates
from visionbench.reports.paper.report import Report, assemble
from visionbench.reports.printed import PaperRow, rival, rows
from visionbench.reports.table import HEADS, Cell, Column, Note, Table

NAME, TITLE, PAPER_TABLE = "convnext_table12", "Inference on an A100 (Table 12 of the ConvNeXt paper)", "12"

PAPER_GROUP = f"{HEADS['published']}, A100"

GAIN = Note(
    term="gain",
    text="throughput over that of the Swin in the row above, same size. Measured: the quotient of two centres, "
    "without an interval, because the two were not measured in turns.",
)
ACCURACY = Note(
    term="1K, 22K", text="top-1 accuracy on ImageNet-1K, trained on it alone or pre-trained on ImageNet-22K."
)


def layout(records: Sequence[Record], _comparisons: Sequence[Comparison] = (), /) -> Table:
    """Published, computed and measured numbers side by side, each throughput with its gain. Pure."""
    printed = rows(PAPER_TABLE)
    exact = counts.index(records)
    measured = rates.inference_groups(records, printed)
    shown = rates.shown(measured)
    plans = (
        columns.model(columns.AUTHORS),
        columns.image_size(),
        *columns.counted(exact, "macs"),
        _accuracy("top1", "1K", 7),
        _accuracy("top1_22k", "22K", 6),
        *_published(),
        *predicted_rates.plans(records, "A100"),
        *(plan for its in shown for plan in _measured(its)),
        *(() if shown else (rates.nothing(),)),
    )
    remarks = rates.left_out(measured, NAME)
    return assemble(NAME, TITLE, printed, plans, remarks=remarks, gap=lambda row: row.number % 2 == 1)


def _accuracy(metric: str, words: str, rank: int) -> Plan:
    head = (HEADS["published"], f"{words}, %")
    column = Column(key=f"{metric}_published", group="top-1", head=head, unit="%", rank=rank, notes=(ACCURACY,))
    return columns.printed(column, metric)


def _published() -> tuple[Plan, Plan]:
    """The paper's throughput and gain, under one header."""
    rate = columns.published_rate("A100", "throughput-a100")
    gain = Column(
        key="gain_published",
        group=PAPER_GROUP,
        head=("gain",),
        unit="1",
        source="published",
        rank=2,
        notes=(GAIN,),
    )
    head = replace(rate.column, group=PAPER_GROUP, head=(RATE,))
    return replace(rate, column=head), Plan(column=gain, fill=_printed_gain)


def _printed_gain(row: PaperRow) -> Cell:
    number = row.printed.get("gain")
    if number is None:
        return Cell()
    plain = cells.published(number)
    return replace(plain, text=f"+{number.text} %", value=1 + number.value / 100)


def _measured(its: Rates) -> tuple[Plan, Plan]:
    """A group's throughput and gain, under one header."""
    device, *settings = its.head
    group = f"{HEADS['measured']}, {device}"
    rate = rates.plan(its)
    head = replace(rate.column, group=group, head=(*settings, RATE))
    gain = Column(
        key=f"gain_measured_{its.group.setting.slug}",
        group=group,
        head=("gain",),
        unit="1",
        source="measured",
        rank=its.rank,
        notes=(GAIN,),
    )
    return replace(rate, column=head), Plan(column=gain, fill=lambda row: _gain(row, its))


def _gain(row: PaperRow, its: Rates) -> Cell:
    """The quotient of two rows of one group, where both have a number."""
    above = rival(row)
    mine, other = its.estimates.get(row.network), its.estimates.get(above.network) if above else None
    if above is None or mine is None or other is None:
        return Cell()
    ratio = mine.centre / other.centre
    origin = f"{row.model} over {above.model} at {row.image_size} px; {its.group.setting.device}"
    return Cell(text=f"{(ratio - 1) * 100:+.0f} %", value=ratio, source="measured", origin=origin)


REPORT = Report(name=NAME, title=TITLE, paper_table=PAPER_TABLE, layout=layout)
