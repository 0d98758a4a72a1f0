"""Table 10 of the ConvNeXt paper (Appendix C): the road from ResNet-50 to ConvNeXt-T, 17 rungs and Swin."""

from __future__ import annotations

from collections.abc import Sequence

from visionbench.comparison.comparison import Comparison
from visionbench.record.record import Record
from visionbench.reports.paper import roadmap
from visionbench.reports.paper.report import Report
from visionbench.reports.table import Table

NAME, TITLE, PAPER_TABLE = "convnext_table10", "From ResNet-50 to ConvNeXt-T (Table 10 of the ConvNeXt paper)", "10"


def layout(records: Sequence[Record], comparisons: Sequence[Comparison] = (), /) -> Table:
    """Each rung's numbers and each step's effect. Pure."""
    return roadmap.layout(NAME, TITLE, PAPER_TABLE, records, comparisons)


REPORT = Report(name=NAME, title=TITLE, paper_table=PAPER_TABLE, layout=layout, specs_of=roadmap.specs_of)
