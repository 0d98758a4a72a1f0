"""How wrong predictions are: held-out families, printed rows that nothing was fitted on, printed training memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from visionbench.record.units import GIB, plural
from visionbench.reports import cells
from visionbench.reports.table import Cell, Column, Row, Table

VALIDATION, PUBLICATIONS = "validation", "validation_publications"
PRINTED, MEMORY = "validation_printed", "validation_memory"
ERRORS = ("mean", "median", "p90")
RANKS = {"rows": 1, "median": 1, "rank": 2, "p90": 3, "families": 4, "flops": 5, "activations": 5}
"""How important a column is where the page is narrow (see `Column.rank`)."""

NEAR = 0.05
"""What counts as near a printed peak."""

SOURCE_WIDTH = 44
"""A publication's name that is longer is cut at its first comma, and whole in a footnote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """Held-out errors of some rows of one calibration, as shares of a step's time; rank correlation."""

    device: str
    how: str
    rows: int
    families: int
    mean: float
    median: float
    p90: float
    rank: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Line(Errors):
    """The errors of a whole calibration, and the mean ones of two baselines."""

    coverage: float | None
    flops: float
    activations: float


HEADS = {
    "device": "device", "how": "precision, format, task", "source": "publication", "rows": "rows",
    "families": "families", "mean": "mean", "median": "median", "p90": "90th", "rank": "rank",
    "coverage": "80 % holds", "flops": "FLOPs only", "activations": "acts only",
}  # fmt: skip
GROUPS = dict.fromkeys(ERRORS, "error") | dict.fromkeys(("flops", "activations"), "mean error of")
WORDS, COUNTS = ("device", "how", "source"), ("rows", "families")


def _columns(*keys: str) -> tuple[Column, ...]:
    return tuple(
        Column(
            key=key,
            group=GROUPS.get(key, ""),
            head=(HEADS[key],),
            unit="count" if key in COUNTS else "" if key in (*WORDS, "rank") else "%",
            align="left" if key in WORDS else "right",
            rank=RANKS.get(key, 0),
        )
        for key in keys
    )


def held_out(lines: Sequence[Line]) -> Table:
    """How wrong predictions were on families of networks that they were not fitted on. Pure."""
    columns = _columns(*(key for key in HEADS if key != "source"))
    rows = tuple(
        Row(cells=tuple(_cell(getattr(line, column.key), column.key) for column in columns), subject=line.device)
        for line in lines
    )
    remarks = (
        "Errors are |predicted / measured - 1| of a step's time on families (modules of networks) that were left out "
        "of the fit, one after the other; rank is Spearman's correlation; the 80 % interval is made of the others.",
    )
    return Table(name=VALIDATION, title="Predictions on families they were not fitted on", columns=columns, rows=rows,
                 remarks=remarks)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication(Errors):
    """The errors of one publication's rows within a calibration of several."""

    source: str


def by_publication(found: Sequence[Publication]) -> Table:
    """The held-out errors of printed rows, publication by publication. Pure."""
    columns = _columns("source", *COUNTS, *ERRORS, "rank")
    rows = tuple(
        Row(
            cells=(_named(one.source), *(_cell(getattr(one, column.key), column.key) for column in columns[1:])),
            section=f"{one.device}, {one.how}",
            subject=one.device,
        )
        for one in found
    )
    remarks = (
        "The same errors, of those rows alone; publications with fewer than 8 rows are left out. A network's family is "
        "held out with all its rows, whoever printed them.",
    )
    return Table(name=PUBLICATIONS, title="The same by publication", columns=columns, rows=rows, remarks=remarks)


def _named(source: str) -> Cell:
    if len(source) <= SOURCE_WIDTH:
        return cells.word(source)
    return Cell(text=source.partition(",")[0], value=source, notes=(source,))


def _cell(value: str | float | None, key: str) -> Cell:
    if value is None:
        return Cell()
    if isinstance(value, str) or key in ("rows", "families"):
        return cells.word(f"{value:,}" if not isinstance(value, str) else value, value)
    if key == "rank":
        return Cell(text=f"{value:.3f}", value=value, digits=3)
    text = cells.decimals(value * 100, 0 if key == "coverage" else 1)
    return Cell(text=f"{text} %", value=value * 100, digits=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Printed:
    """One printed row that nothing was fitted on; img/s. The prediction is None where it was refused."""

    device: str
    how: str
    task: str
    tier: str
    source: str
    printed: float
    predicted: float | None
    low: float | None
    high: float | None

    @property
    def ratio(self) -> float | None:
        """Predicted / printed."""
        return self.predicted / self.printed if self.predicted else None

    @property
    def inside(self) -> bool:
        """Whether the interval holds the printed number."""
        return self.low is not None and self.high is not None and self.low <= self.printed <= self.high


def printed(found: Sequence[Printed]) -> Table:
    """Printed rows that nothing was fitted on, by card and way of running. Pure."""
    groups: dict[tuple[str, ...], list[Printed]] = {}
    for one in sorted(found, key=lambda one: (one.task, one.device, one.how)):
        groups.setdefault((one.device, one.how, one.task, one.tier), []).append(one)
    columns = (
        Column(key="device", head=("device",), align="left"),
        Column(key="how", head=("precision, format",), align="left"),
        Column(key="tier", head=("tier",), align="left"),
        Column(key="rows", head=("rows",), unit="count"),
        Column(key="sources", head=("sources",), unit="count", rank=1),
        Column(key="mean", group="error", head=("mean",), unit="%"),
        Column(key="median", group="error", head=("median",), unit="%"),
        Column(key="factor", group="predicted / printed", head=("in the middle",)),
        Column(key="inside", head=("80 % holds",)),
    )
    tasks = dict.fromkeys(one.task for members in groups.values() for one in members)
    remarks = (
        "Errors are |predicted / printed - 1| of images per second on rows that no multiplier was fitted on. A "
        "publication's protocol may move all its rows by one factor. That of V100, T4 and A100 in the data-sheet tier "
        "is a median over these very rows, so they show its scatter alone; H100's is A100's.",
        *(_all([one for one in found if one.task == task], task) for task in tasks),
    )
    return Table(name=PRINTED, title="Predictions of printed throughput that nothing was fitted on", columns=columns,
                 rows=tuple(_group(members) for members in groups.values()), remarks=remarks)  # fmt: skip


def _all(found: Sequence[Printed], task: str) -> str:
    errors = [abs(one.ratio - 1) for one in found if one.ratio]
    held = sum(one.inside for one in found)
    if not errors:
        return f"{task}: all rows were refused."
    return (
        f"{task}: {plural(len(errors), 'row')} of {len({one.source for one in found})} sources, "
        f"{fmean(errors):.1%} off on average, {median(errors):.1%} in the middle; the 80 % interval holds {held}."
    )


def _group(members: Sequence[Printed]) -> Row:
    first = members[0]
    ratios = [one.ratio for one in members if one.ratio]
    errors = [abs(ratio - 1) for ratio in ratios]
    held = sum(one.inside for one in members)
    found = (
        (
            _percent(fmean(errors)),
            _percent(median(errors)),
            _factor(math.exp(median(map(math.log, ratios)))),
            cells.word(f"{held} of {len(ratios)}", held / len(ratios)),
        )
        if ratios
        else (Cell(), Cell(), Cell(), cells.word("refused"))
    )
    counts = (len(members), len({one.source for one in members}))
    words = (first.device, first.how, first.tier)
    return Row(
        cells=(*map(cells.word, words), *(cells.word(f"{count:,}", count) for count in counts), *found),
        section=first.task,
        subject=first.device,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PrintedMemory:
    """One printed peak of training memory and its prediction; bytes. `known`: the whole configuration is."""

    model: str
    batch_size: int
    how: str
    printed: float
    predicted: float
    low: float
    high: float
    known: bool
    source: str


def memory(found: Sequence[PrintedMemory]) -> Table:
    """Printed training memory beside the predicted, the well described rows first. Pure."""
    columns = (
        Column(key="model", head=("model",), align="left"),
        Column(key="batch_size", head=("batch",), unit="count"),
        Column(key="how", head=("how",), align="left", rank=2),
        Column(key="printed", head=("printed", "GiB"), unit="B", source="published"),
        Column(key="predicted", head=("predicted", "GiB"), unit="B", source="predicted"),
        Column(key="ratio", head=("printed /", "predicted")),
    )
    sections = {True: "configuration known", False: "configuration partly guessed; nothing is made of these rows"}
    ordered = sorted(found, key=lambda one: not one.known)
    rows = tuple(_memory_row(one, sections[one.known]) for one in ordered)
    known = [one for one in found if one.known]
    remarks = (
        *(_near([one for one in found if one.how == how], how) for how in dict.fromkeys(one.how for one in ordered)),
        _held("rows whose configuration is known", [one.low <= one.printed <= one.high for one in known]),
    )
    return Table(name=MEMORY, title="Predictions of printed training memory", columns=columns, rows=rows,
                 remarks=remarks)  # fmt: skip


def _near(found: Sequence[PrintedMemory], how: str) -> str:
    """How many models are near the print in every row of that counter."""
    models = {one.model for one in found}
    far = {one.model for one in found if abs(one.printed / one.predicted - 1) > NEAR}
    count = f"{len(models - far)} of {plural(len(models), 'model')}"
    return f"{how}: {count} within {NEAR:.0%} in every row, guessed ones included."


def _memory_row(one: PrintedMemory, section: str) -> Row:
    predicted = Cell(
        text=f"{one.predicted / GIB:.2f}", value=one.predicted, digits=2, source="predicted", low=one.low,
        high=one.high, span=f"[{one.low / GIB:.2f}, {one.high / GIB:.2f}]",
    )  # fmt: skip
    shown = Cell(text=f"{one.printed / GIB:.2f}", value=one.printed, digits=2, source="published", origin=one.source,
                 notes=(f"Printed by {one.source}.",))  # fmt: skip
    row = (
        cells.word(one.model.partition(":")[2], one.model),
        cells.word(str(one.batch_size), one.batch_size),
        cells.word(one.how),
        shown,
        predicted,
        _factor(one.printed / one.predicted),
    )
    return Row(cells=row, section=section, subject=one.model)


def _held(what: str, inside: Iterable[bool]) -> str:
    found = list(inside)
    return f"The 80 % interval holds {sum(found)} of {len(found)} {what}."


def _percent(share: float) -> Cell:
    return Cell(text=f"{share * 100:.1f} %", value=share * 100, digits=1)


def _factor(value: float) -> Cell:
    return Cell(text=f"{value:.3f}", value=value, digits=3)
