"""Tables of a paper, regenerated: records in, a table out, in any of five formats. No torch, no GPU.

    report = reports.REPORTS["convnext_table1"]
    print(reports.render(report.layout(store.read(path).records), "markdown"))

A new report is one file that declares the specs it needs and lays out a `Table`; add it to `REPORTS`.
"""

from __future__ import annotations

from reports import convnext_table1, convnext_table2, convnext_table12
from reports.render import FORMATS, render
from reports.report import Report

REPORTS: dict[str, Report] = {
    module.REPORT.name: module.REPORT for module in (convnext_table1, convnext_table2, convnext_table12)
}

__all__ = ["FORMATS", "REPORTS", "Report", "render"]
