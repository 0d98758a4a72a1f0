"""Tables of a paper, regenerated: records in, a table out, in any of five formats. No torch, no GPU.

    report = reports.REPORTS["convnext_table1"]
    print(visionbench.reports.render(report.layout(store.read(path).records), "markdown"))

Tables of effects are made of comparisons, `report.layout(records, comparison.read(path))`. A paper's tables
are data (`papers/*.toml`); `load_paper(path)` reads those of any such file.
"""

from __future__ import annotations

from visionbench.reports.paper.report import Catalogue, Report, load_paper
from visionbench.reports.render import FORMATS, render
from visionbench.reports.results import effects, effects_grid, nodes, runs, summary

REPORTS = Catalogue({module.REPORT.name: module.REPORT for module in (effects, effects_grid, summary, runs, nodes)})
"""Every table by its name: of the papers that come with visionbench, and our own."""

__all__ = ["FORMATS", "REPORTS", "Report", "load_paper", "render"]
