"""Tables of a paper, regenerated: records in, a table out, in any of five formats. No torch, no GPU.

    report = reports.REPORTS["convnext_table1"]
    print(reports.render(report.layout(store.read(path).records), "markdown"))

Tables of effects are made of comparisons, `report.layout(records, comparison.read(path))`. A new report is one file
that declares the specs it needs and lays out a `Table`; add it to `REPORTS`.
"""

from __future__ import annotations

from reports import (
    convnext_table1,
    convnext_table2,
    convnext_table10,
    convnext_table11,
    convnext_table12,
    effects,
    effects_grid,
)
from reports.render import FORMATS, render
from reports.report import Report

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
