"""The findings of an audit as tables, and as the page that people of the field pass on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from visionbench.record.spec import ImageSize
from visionbench.record.units import GIGA, MEGA, plural
from visionbench.reports import cells
from visionbench.reports.audit.figures import KINDS, Finding, Kind
from visionbench.reports.column import Column, label, lay_out
from visionbench.reports.table import Cell, Table

if TYPE_CHECKING:
    from visionbench.reports.audit.copied import Earlier
    from visionbench.reports.printed import Number, PaperRow

SCALES = {"params": MEGA, "macs": GIGA}
WORDS = {"params": "params (M)", "macs": "FLOPs (G)"}

REMARK = (
    "reproduced: the exact count rounds to the print. Everything else was found by trying it on the row: it fits the "
    "digits, and how they came about only their authors know. Where nothing explains a print, the mistake may be ours: "
    "the network that is built here may not be the one that the authors counted."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """One paper with its findings: the `stem` of its file, its title, where it is printed."""

    stem: str
    title: str
    cite: str
    findings: tuple[Finding, ...]

    def count(self, kind: Kind) -> int:
        """How many printed figures are of that kind."""
        return sum(finding.kind == kind for finding in self.findings)


Elsewhere = Mapping[tuple[str, ImageSize, str, float], tuple[str, ...]]
"""Which papers print a figure: by model, size, metric and value."""


def elsewhere(audited: Sequence[Audited]) -> Elsewhere:
    """Who prints what, of all papers."""
    printed: dict[tuple[str, ImageSize, str, float], dict[str, None]] = {}
    for paper in audited:
        for finding in paper.findings:
            printed.setdefault(_figure(finding), {})[paper.title] = None
    return {key: tuple(papers) for key, papers in printed.items()}


def _figure(finding: Finding) -> tuple[str, ImageSize, str, float]:
    figure = finding.figure
    return (*figure.row.network, figure.metric, figure.printed.value)


def summary(audited: Sequence[Audited]) -> Table:
    """One row per paper: how many of its figures are what."""

    def counted(key: str, head: str, count: Callable[[Audited], int]) -> Column[Audited]:
        return Column(key=key, head=(head,), unit="count", fill=lambda p: cells.word(str(count(p)), count(p)))

    columns = [
        label("paper", "paper", lambda paper: paper.stem),
        counted("figures", "figures", lambda paper: len(paper.findings)),
        *(counted(k.replace(" ", "_"), KINDS[k], partial(Audited.count, kind=k)) for k in KINDS),
        label("mostly", "its most frequent convention", _mostly),
    ]
    total = Audited(stem="all", title="", cite="", findings=tuple(f for paper in audited for f in paper.findings))
    rows = [*audited, *([total] if len(audited) > 1 else [])]
    return lay_out(
        "audit",
        "Printed params and FLOPs against exact counts",
        rows,
        columns,
        gap=lambda paper: paper is total,
        remarks=(REMARK,),
    )


def _mostly(paper: Audited) -> str:
    names = Counter(finding.text for finding in paper.findings if finding.kind in ("convention", "network"))
    return "; ".join(f"{name} ({count})" for name, count in names.most_common(1))


def details(paper: Audited, others: Elsewhere, *, every: bool = False) -> Table:
    """The printed figures of one paper that are not reproduced, or `every` one, each with what it is."""
    shown = [finding for finding in paper.findings if every or finding.kind not in ("reproduced", "not built")]
    columns: list[Column[Finding]] = [
        label("row", "row", lambda finding: finding.figure.row.label),
        label("image_size", "size", lambda finding: str(finding.figure.row.image_size), align="right"),
        label("figure", "figure", lambda finding: WORDS[finding.figure.metric]),
        Column(
            key="printed", head=("paper",), unit="count", source="published",
            fill=lambda finding: cells.published(finding.figure.printed),
        ),
        Column(
            key="exact", head=("exact",), unit="count", source="computed",
            fill=lambda finding: _exact(finding.figure.printed, finding.figure.metric, finding.exact),
        ),
        label("difference", "paper - exact", lambda f: _percent(f.figure.printed, f.exact), align="right"),
        label("finding", "finding", lambda finding: KINDS[finding.kind]),
        label("explanation", "explanation", lambda finding: said(finding, paper, others)),
    ]  # fmt: skip
    absent = paper.count("not built")
    left_out = f"{plural(absent, 'figure')} of networks that are not built here are left out." if absent else ""
    return lay_out(
        f"audit_{paper.stem}",
        f"{paper.title}: printed counts that are not the exact ones" if not every else paper.title,
        shown,
        columns,
        section=lambda finding: finding.figure.row.table,
        subject=lambda finding: finding.figure.row.model,
        remarks=(REMARK, *([left_out] if left_out and not every else [])),
    )


def _exact(printed: Number, metric: str, exact: float | None) -> Cell:
    return cells.computed(exact, SCALES[metric], min(printed.decimals + 2, 9))


def _percent(printed: Number, exact: float | None) -> str:
    """By how much the print differs from the exact count."""
    return f"{(printed.value / exact - 1) * 100:+.1f} %" if exact else ""


def said(finding: Finding, paper: Audited, others: Elsewhere) -> str:
    """The explanation; of what is unexplained, who prints the same."""
    if finding.kind != "unexplained":
        return finding.text
    names = [title for title in others.get(_figure(finding), ()) if title != paper.title]
    return f"the same figure: {', '.join(names)}" if names else ""


def errata(audited: Sequence[Audited], counted_by: str, firsts: Sequence[First]) -> str:
    """The page `docs/errata.md`: every paper's figures that are not its networks' exact counts, and the first prints of
    papers whose tables don't come along.
    """
    from visionbench.reports.render.markdown import markdown

    others = elsewhere(audited)
    total = sum(len(paper.findings) for paper in audited)
    built = total - sum(paper.count("not built") for paper in audited)
    unexplained = sum(paper.count("unexplained") for paper in audited)
    share = 100 * unexplained / max(built, 1)
    lines = [
        f"""\
# Printed counts and exact ones

Made by `python bench.py audit --errata`: {plural(len(audited), "paper")}, {total} printed figures, {counted_by}.

A printed count is checked against a trace of the network that the row names. Where the two differ, what a count can be
instead was tried on the row: other conventions, roundings, sizes, networks and rows. What none of them gives may stand
in an earlier paper: then that is said, and so it is where the network's own paper prints the same. What it is there
stands there, or below under "First prints of other papers". No explanation was typed in. One fits the
digits of a print; how these came about only their authors know, and of a print of few digits another explanation may
fit as well. This page is about numbers and not about people: most differences are conventions that a
paper is free to choose. What is *unexplained* may be our mistake. The network that is built here may not be the one
that was counted, or our file may have its size or its name wrong. Corrections are welcome: each paper is a file in
`reports/papers`.

Of {built:,} figures of networks that are built here, {unexplained} ({share:.1f} %) are unexplained.
""",
        markdown(summary(audited)),
    ]
    for paper in audited:
        table = details(paper, others)
        if not table.rows:
            continue
        lines += [f"## {paper.title}", "", f"Source: {paper.cite}. Show it: `python bench.py audit {paper.stem}`.", ""]
        lines += [_errata_rows(paper, others), ""]
    if firsts:
        lines += [_FIRSTS, _first_rows(firsts)]
    return "\n".join(lines).rstrip() + "\n"


First = tuple["PaperRow", str, "Earlier", float | None]
"""A row of `copied.ORIGINS`, the metric, what is printed, and the exact count, where the row says the size."""

_FIRSTS = """\
## First prints of other papers

What is copied above stands first in tables that don't come along. These figures are not audited, and no figure above
counts them. Here they are beside the exact counts.
"""


def _first_rows(firsts: Sequence[First]) -> str:
    lines = []
    for row, metric, earlier, exact in firsts:
        number = earlier.number
        at = f", {row.image_size} px" if row.image_size else ""
        lines.append((
            f"{earlier.title}, {earlier.table}", f"{row.model}{at}", WORDS[metric], number.text,
            _exact(number, metric, exact).text if exact else "", _percent(number, exact), number.source,
        ))  # fmt: skip
    return _table("| paper | network | figure | paper | exact | difference | source |", lines)


def _errata_rows(paper: Audited, others: Elsewhere) -> str:
    """One line per figure; equal ones of one table share a line."""
    lines: dict[tuple[str, ...], None] = {}
    for finding in paper.findings:
        if finding.kind in ("reproduced", "not built"):
            continue
        row, printed, metric = finding.figure.row, finding.figure.printed, finding.figure.metric
        lines[
            row.table, f"{row.label} ({row.model}, {row.image_size} px)", WORDS[metric], printed.text,
            _exact(printed, metric, finding.exact).text, _percent(printed, finding.exact), KINDS[finding.kind],
            said(finding, paper, others),
        ] = None  # fmt: skip
    return _table("| table | row | figure | paper | exact | difference | finding | explanation |", lines)


def _table(head: str, lines: Iterable[tuple[str, ...]]) -> str:
    """A table in Markdown: three columns of words, three of numbers, and words."""
    rows = ("| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |" for texts in lines)
    align = "|:---|:---|:---|---:|---:|---:|" + ":---|" * (head.count("|") - 7)
    return "\n".join([head, align, *rows])
