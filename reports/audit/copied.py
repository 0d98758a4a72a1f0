"""Numbers that an earlier paper prints for the same network: a table's comparisons are mostly copied.

Only of what nothing else explains, and only where two digits at least differ from the exact count in the same way. It
says where a number can be read first, and not how it came about there: the first print keeps its own finding.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from visionbench.reports.audit.figures import METRICS, Finding
from visionbench.reports.printed import PaperRow

if TYPE_CHECKING:
    from visionbench.reports import Report

DIGITS = 2
"""A print with fewer digits is met by chance."""


def appeared(cite: str) -> str:
    """A paper's number on arXiv, which orders papers by time; "" for none."""
    match = re.search(r"\b\d{4}\.\d{5}(?!\d)", cite)
    return match.group() if match else ""


@dataclass(frozen=True, slots=True)
class Earlier:
    """The first paper that prints a figure: when it appeared, its title, and the name of the table."""

    date: str
    title: str
    table: str


Key = tuple[str, object, str, float]
"""A network, a metric and a value: what two prints have in common."""


def first_prints(papers: Sequence[Sequence[Report]]) -> dict[Key, Earlier]:
    """Who printed each figure first, of the papers that have a number on arXiv."""
    first: dict[Key, Earlier] = {}
    for reports in papers:
        if not (date := appeared(reports[0].cite)):
            continue
        for report in reports:
            for key in (key for row in report.rows for key in _keys(row)):
                if key not in first or date < first[key].date:
                    first[key] = Earlier(date=date, title=report.paper, table=report.name)
    return first


def _keys(row: PaperRow) -> Iterator[Key]:
    if row.model:
        yield from ((*row.network, metric, row.printed[metric].value) for metric in METRICS if metric in row.printed)


def copied(findings: Sequence[Finding], cite: str, first: dict[Key, Earlier]) -> tuple[Finding, ...]:
    """The findings of the paper with that `cite`; what is unexplained and stands in an earlier one is so called."""
    date = appeared(cite)
    return tuple(_copy(finding, first, date) if finding.kind == "unexplained" else finding for finding in findings)


def _copy(finding: Finding, first: dict[Key, Earlier], date: str) -> Finding:
    figure = finding.figure
    earlier = first.get((*figure.row.network, figure.metric, figure.printed.value))
    digits = figure.printed.text.replace(".", "").strip("0")
    if earlier is None or not date or earlier.date >= date or len(digits) < DIGITS:
        return finding
    text = f"the number that {earlier.title} prints ({earlier.table})"
    return replace(finding, kind="copied", text=text, explained=figure.printed.value)
