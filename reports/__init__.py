"""Tables of a paper, regenerated: records in, a table out, in any of five formats. No torch, no GPU.

    report = reports.REPORTS["convnext_table1"]
    print(visionbench.reports.render(report.layout(store.read(path).records), "markdown"))

Tables of effects are made of comparisons, `report.layout(records, comparison.read(path))`. A new report is one file
that declares the specs it needs and lays out a `Table`; add it to `REPORTS`.
"""

from __future__ import annotations

from visionbench.reports.paper import (
    convnext_table1,
    convnext_table2,
    convnext_table10,
    convnext_table11,
    convnext_table12,
)
from visionbench.reports.paper.report import Report
from visionbench.reports.render import FORMATS, render
from visionbench.reports.results import effects, effects_grid

REPORTS: dict[str, Report] = {
    module.REPORT.name: module.REPORT
    for module in (
        convnext_table1,
        convnext_table2,
        convnext_table12,
        convnext_table10,
        convnext_table11,
        effects,
        effects_grid,
    )
}

__all__ = ["FORMATS", "REPORTS", "Report", "render"]
