"""Numbers that an earlier paper prints for the same network: a table's comparisons are mostly copied.

Only of what nothing else explains, and only where two digits at least differ from the exact count in the same way. It
says where a number can be read first, and not how it came about there. That paper keeps its own finding, where its
tables come along; of others `papers/origins.csv` has what they print for their own networks, with its source.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from visionbench.record.files import text_of
from visionbench.record.spec import image_size
from visionbench.reports.audit.figures import METRICS, Counted, Figure, Finding, fits
from visionbench.reports.paper.profiles import qualified
from visionbench.reports.printed import Number, PaperRow, count_of

if TYPE_CHECKING:
    from visionbench.reports import Report

ORIGINS = Path(__file__).parents[1] / "papers" / "origins.csv"
"""What papers whose tables don't come along print first: one network a line, as printed."""

DIGITS = 2
"""A print with fewer digits is met by chance."""

SHORT = 5e-3
"""Half a unit of the last digit as a share of the print: one of two digits is near so many counts that its being in an
earlier paper says more.
"""


def appeared(cite: str) -> str:
    """A paper's number on arXiv, which orders papers by time; "" for none."""
    match = re.search(r"\b\d{4}\.\d{5}(?!\d)", cite)
    return match.group() if match else ""


@dataclass(frozen=True, slots=True)
class Earlier:
    """A figure of a paper: when that appeared, its title, the name of the table, the print; `first`: whether the
    network is its own, or it is one of `ORIGINS`.
    """

    date: str
    title: str
    table: str
    number: Number
    first: bool = False


Prints = dict[tuple[object, str], list[Earlier]]
"""Who prints what for a network, by the network and the metric."""


def first_prints(papers: Sequence[Sequence[Report]], counted: Counted) -> Prints:
    """What papers with a number on arXiv print for each network, the earliest first; and `ORIGINS`."""
    prints: Prints = {}
    for row, metric, earlier in [*_printed(papers), *origins()]:
        prints.setdefault((_network(row, metric, counted), metric), []).append(earlier)
    for listed in prints.values():
        listed.sort(key=lambda earlier: earlier.date)
    return prints


def _printed(papers: Sequence[Sequence[Report]]) -> Iterator[tuple[PaperRow, str, Earlier]]:
    for reports in papers:
        date = appeared(reports[0].cite)
        for report in reports if date else ():
            for row in report.rows:
                for metric in METRICS if row.model else ():
                    if metric in row.printed:
                        own = _is_own(row, report.name)
                        yield row, metric, Earlier(date, report.paper, report.name, row.printed[metric], first=own)


def _is_own(row: PaperRow, table: str) -> bool:
    """Whether a table is of the paper that a row's network is from: both have its name, as `swin_table1` and
    `timm:swin_tiny_patch4_window7_224`.
    """
    name = row.model.partition(":")[2].removeprefix("tf_").removeprefix("dm_")
    return name.startswith(table.partition("_")[0])


@lru_cache(maxsize=1)
def origins() -> tuple[tuple[PaperRow, str, Earlier], ...]:
    """The figures of `ORIGINS`; a row without a size has 0: its params hold at any."""
    figures: list[tuple[PaperRow, str, Earlier]] = []
    for number, line in enumerate(csv.DictReader(text_of(ORIGINS).splitlines()), 1):
        table = f"arXiv {line['arxiv']}, {line['table']}" if line["arxiv"] else line["table"]
        label, size = line["model"], image_size(line["size"]) if line["size"] else 0
        row = PaperRow(table=table, number=number, label=label, model=qualified(label), image_size=size)
        for metric, word, unit in (("params", "params", "M"), ("macs", "flops", "G")):
            if line[word]:
                printed = count_of(line[word], unit, line["source"])
                figures.append((row, metric, Earlier(line["arxiv"], line["title"], table, printed, first=True)))
    return tuple(figures)


def _network(row: PaperRow, metric: str, counted: Counted) -> object:
    """What a count depends on: two names of one network have the same module and counts."""
    if (profile := counted.of(row)) is None:
        return row.network
    return (profile.family, profile.parts["params"], profile.parts["macs"] if metric == "macs" else 0)


TODAY = "9999"
"""When a user's file without a number on arXiv appeared: after every paper."""


def copied(
    findings: Sequence[Finding], cite: str, first: Prints, counted: Counted, undated: str = ""
) -> tuple[Finding, ...]:
    """The findings of the paper with that `cite`; what is unexplained and stands in an earlier one is so called.

    A paper without a number on arXiv appeared `undated`: "" for no time that is known.
    """
    date = appeared(cite) or undated
    return tuple(
        _copy(finding, first, date, counted) if finding.kind == "unexplained" and date else finding
        for finding in findings
    )


def _copy(finding: Finding, first: Prints, date: str, counted: Counted) -> Finding:
    printed = finding.figure.printed
    for earlier in _earlier(finding.figure, first, date, counted):
        if _is_copy(printed, earlier):
            value = earlier.number.value
            rounded = "" if value == printed.value else ", rounded"
            text = f"the number that {earlier.title} prints ({earlier.table}){rounded}"
            return replace(finding, kind="copied", text=text, explained=value, settled=earlier.first)
    return finding


def _earlier(figure: Figure, first: Prints, date: str, counted: Counted) -> list[Earlier]:
    """What papers that appeared before that date print for a figure's network, the earliest first."""
    keys = (_network(figure.row, figure.metric, counted), (figure.row.model, 0))
    known = [earlier for key in keys for earlier in first.get((key, figure.metric), ()) if earlier.date < date]
    return sorted(known, key=lambda each: each.date)


def refuting(cite: str, first: Prints, counted: Counted, undated: str = "") -> Callable[[Figure, float], bool]:
    """Whether a count that is near a print is refuted by an earlier one. One that a network's own paper has is copied
    here, and so is any of few digits. One of more digits is rounded here, and may be another count.
    """
    date = appeared(cite) or undated

    def refuted(figure: Figure, value: float) -> bool:
        for earlier in _earlier(figure, first, date, counted):
            same = (earlier.first or figure.share > SHORT) and earlier.number.value == figure.printed.value
            longer = earlier.number.half_unit < figure.printed.half_unit and not fits(earlier.number, value)
            if (same or longer) and _is_copy(figure.printed, earlier):
                return True
        return False

    return refuted


def _is_copy(printed: Number, earlier: Earlier) -> bool:
    """Whether a print has the digits of an earlier one, or is that one rounded. A network's own paper means the zeros
    that it prints; those of others may be added.
    """
    if printed.value == earlier.number.value:
        digits = _digits(earlier.number.text) if earlier.first else printed.text.replace(".", "").strip("0")
        return len(digits) >= DIGITS
    shorter = printed.half_unit > earlier.number.half_unit
    return shorter and len(_digits(printed.text)) >= DIGITS and fits(printed, earlier.number.value)


def _digits(text: str) -> str:
    return text.replace(".", "").lstrip("0")
