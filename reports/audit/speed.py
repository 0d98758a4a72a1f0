"""Printed images per second beside predicted ones: which stand in an earlier paper, and which pairs are in doubt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from visionbench.record.prediction import distinguishable, prediction
from visionbench.record.record import Record
from visionbench.record.units import plural
from visionbench.reports import cells
from visionbench.reports.audit.copied import appeared
from visionbench.reports.column import Column, label, lay_out
from visionbench.reports.paper.rates import predicted_rate
from visionbench.reports.printed import Network, Number, PaperRow
from visionbench.reports.table import Table

DIGITS = 3
"""A print with fewer digits is met by chance and is no copy."""

RATE = "throughput"


@dataclass(frozen=True, slots=True, kw_only=True)
class Paper:
    """A paper's rows with printed images per second, by the `stem` of its file, with its title and its source;
    `protocols` are the words for how they came about.
    """

    stem: str
    title: str
    cite: str
    rows: tuple[PaperRow, ...]
    protocols: tuple[str, ...] = ()

    @property
    def appeared(self) -> str:
        """Its number on arXiv, which orders papers by time; "" for none."""
        return appeared(self.cite)


Predictions = Mapping[tuple[str, Network], Record]
"""By the paper's word for the card, and network."""


def copies(paper: Paper, row: PaperRow, papers: Sequence[Paper]) -> list[Paper]:
    """The earlier papers that print the same digits for the same network, the earliest first."""
    number = row.printed[RATE]
    if len(number.text.replace(".", "").lstrip("0")) < DIGITS or not (row.model and paper.appeared):
        return []
    earlier = [other for other in papers if other.appeared and other.appeared < paper.appeared]
    holding = [p for p in earlier if any(_prints(other, row, number) for other in p.rows)]
    return sorted(holding, key=lambda other: other.appeared)


def _prints(row: PaperRow, copy: PaperRow, number: Number) -> bool:
    """Whether a row prints that number for the network of the `copy`: another program of it may have another name."""
    theirs = row.printed.get(RATE)
    is_same = row.network == copy.network or (row.label == copy.label and row.image_size == copy.image_size)
    return theirs is not None and is_same and theirs.value == number.value


def rates(paper: Paper, papers: Sequence[Paper], predictions: Predictions) -> Table:
    """One line per printed rate: the card, the print, the prediction, and the papers that have it already."""
    copied = {(row.table, row.number): copies(paper, row, papers) for row in paper.rows}
    first = [found[0].title for found in copied.values() if found]

    def source(row: PaperRow) -> str:
        found = copied[row.table, row.number]
        return f"the same digits: {', '.join(other.title for other in found)}" if found else ""

    columns: list[Column[PaperRow]] = [
        label("row", "row", lambda row: row.label),
        label("image_size", "size", lambda row: str(row.image_size), align="right"),
        label("card", "card", lambda row: row.printed[RATE].gpu or "not stated"),
        Column(
            key="printed", head=("paper",), unit="1/s", source="published",
            fill=lambda row: cells.published(row.printed[RATE]),
        ),
        Column(
            key="predicted", head=("predicted",), unit="1/s", source="predicted",
            fill=lambda row: predicted_rate(predictions.get((row.printed[RATE].gpu, row.network)), 1),
        ),
        label("copied", "in an earlier paper", source),
    ]  # fmt: skip
    said = f"{len(first)} of {plural(len(paper.rows), 'figure')} can be read in an earlier paper with the same digits."
    # What a card's predictions are of: the paper may have run another program.
    programs = dict.fromkeys(
        f"Predicted for {card}: {record.environment.device_key}, {spec.precision}, {spec.memory_format}, "
        f"batch {spec.batch_size}; the paper's program may be another."
        for (card, _), record in predictions.items()
        for spec in (record.spec,)
    )
    return lay_out(
        f"speed_{paper.stem}",
        f"{paper.title}: printed images per second",
        paper.rows,
        columns,
        section=lambda row: row.table,
        subject=lambda row: row.model,
        remarks=(said, *(f"Protocol: {protocol.rstrip('.')}." for protocol in paper.protocols), *programs),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two rows of a table on one card: `faster` in print, and slower by prediction, by `ratio`."""

    faster: PaperRow
    slower: PaperRow
    ratio: float


def doubtful(paper: Paper, predictions: Predictions) -> list[Pair]:
    """The pairs that a table orders one way and a prediction, where it can tell them apart, the other."""
    pairs = []
    for first, second in combinations(paper.rows, 2):
        one, other = first.printed[RATE], second.printed[RATE]
        alike = (first.table, one.gpu, one.protocol) == (second.table, other.gpu, other.protocol)
        if not alike or one.value == other.value:
            continue
        faster, slower = (first, second) if one.value > other.value else (second, first)
        records = [predictions.get((one.gpu, row.network)) for row in (faster, slower)]
        estimates = [prediction(record) if record else None for record in records]
        if estimates[0] is None or estimates[1] is None:
            continue
        ratio = estimates[1].centre / estimates[0].centre
        resolution = max(estimates[0].resolution, estimates[1].resolution)
        if ratio > 1 and distinguishable(estimates[1].centre, estimates[0].centre, resolution):
            pairs.append(Pair(faster=faster, slower=slower, ratio=ratio))
    return sorted(pairs, key=lambda pair: -pair.ratio)


def pairs(paper: Paper, papers: Sequence[Paper], predictions: Predictions) -> Table:
    """The pairs that are ordered differently, the plainest first, and which of the two an earlier paper prints."""

    def copied(pair: Pair) -> str:
        rows = [row.label for row in (pair.faster, pair.slower) if copies(paper, row, papers)]
        return "both" if len(rows) == 2 else "".join(rows)

    def named(row: PaperRow) -> str:
        return f"{row.label} ({row.image_size} px, {row.printed[RATE].text})"

    def quotient(pair: Pair) -> str:
        return f"x {pair.faster.printed[RATE].value / pair.slower.printed[RATE].value:.2f}"

    columns: list[Column[Pair]] = [
        label("faster", "faster in print", lambda pair: named(pair.faster)),
        label("slower", "slower in print", lambda pair: named(pair.slower)),
        label("printed", "paper", quotient, align="right"),
        label("predicted", "predicted", lambda pair: f"x {1 / pair.ratio:.2f}", align="right"),
        label("copied", "in an earlier paper", copied),
    ]
    return lay_out(
        f"order_{paper.stem}",
        f"{paper.title}: pairs that a prediction orders the other way",
        doubtful(paper, predictions),
        columns,
        section=lambda pair: pair.faster.table,
        remarks=(
            "The first over the second. A pair is here only where the two predictions differ by more than their "
            "resolution. Then print or prediction is wrong, or the two were not measured alike, as a figure from an "
            "earlier paper may be. A measurement can tell.",
        ),
    )
