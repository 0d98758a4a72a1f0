"""How wrong predictions are on families that were held out, as each calibration carries it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from visionbench.record.prediction import Figures
from visionbench.reports import cells
from visionbench.reports.table import Cell, Heading, Row, Table

RANKS = {"rows": 1, "median": 1, "rank": 2, "p90": 3, "families": 4, "flops": 5, "activations": 5}
"""How important a column is where the page is narrow (see `Heading.rank`)."""

SOURCE_WIDTH = 44
"""A publication's name that is longer is cut at its first comma, and whole in a footnote."""


class Calibration(Protocol):
    """A calibration as far as these tables read it."""

    @property
    def device(self) -> str: ...  # noqa: D102
    @property
    def how(self) -> str: ...  # noqa: D102
    @property
    def held_out(self) -> Mapping[str, Figures]: ...  # noqa: D102
    @property
    def by_source(self) -> Mapping[str, Figures]: ...  # noqa: D102


def layouts(calibrations: Sequence[Calibration]) -> list[Table]:
    """The held-out errors of each calibration, and of each publication that it was fitted on."""
    tables = [held_out(calibrations)]
    return [*tables, by_publication(calibrations)] if any(known.by_source for known in calibrations) else tables


HEADS = {
    "device": "device", "how": "precision, format, task", "source": "publication", "rows": "rows",
    "families": "families", "mean": "mean", "median": "median", "p90": "90th", "rank": "rank",
    "coverage": "80 % holds", "flops": "FLOPs only", "activations": "acts only",
}  # fmt: skip
ERRORS = ("mean", "median", "p90")
GROUPS = dict.fromkeys(ERRORS, "error") | dict.fromkeys(("flops", "activations"), "mean error of")
WORDS, COUNTS = ("device", "how", "source"), ("rows", "families")


def _columns(*keys: str) -> tuple[Heading, ...]:
    return tuple(
        Heading(
            key=key,
            group=GROUPS.get(key, ""),
            head=(HEADS[key],),
            unit="count" if key in COUNTS else "" if key in (*WORDS, "rank") else "%",
            align="left" if key in WORDS else "right",
            rank=RANKS.get(key, 0),
        )
        for key in keys
    )


def held_out(calibrations: Sequence[Calibration]) -> Table:
    """How wrong predictions were on families of networks that they were not fitted on."""
    figures, baselines = ("rows", "families", "mean", "median", "p90", "rank", "coverage"), ("flops", "activations")
    rows = []
    for known in calibrations:
        errors = [_cell(getattr(known.held_out["model"], key), key) for key in figures]
        others = [_cell(known.held_out[baseline].mean, baseline) for baseline in baselines]
        rows.append(
            Row(cells=(cells.word(known.device), cells.word(known.how), *errors, *others), subject=known.device)
        )
    remark = (
        "Errors are |predicted / measured - 1| of a step's time. Each family (module of networks) was left out of the "
        "fit in turn, and the 80 % interval comes from the other families. Rank is Spearman's correlation."
    )
    columns = _columns("device", "how", *figures, *baselines)
    title = "Predictions on families they were not fitted on"
    return Table(name="validation", title=title, columns=columns, rows=tuple(rows), remarks=(remark,))


def by_publication(calibrations: Sequence[Calibration]) -> Table:
    """The held-out errors of printed rows, publication by publication."""
    figures = (*COUNTS, *ERRORS, "rank")
    rows = []
    for known in calibrations:
        for source, errors in known.by_source.items():
            found = (_named(source), *(_cell(getattr(errors, key), key) for key in figures))
            rows.append(Row(cells=found, section=f"{known.device}, {known.how}", subject=known.device))
    remark = (
        "The same errors, of those rows alone; publications with fewer than 8 rows are left out. A network's family is "
        "held out with all its rows, no matter who printed them."
    )
    name, title, columns = "validation_publications", "The same by publication", _columns("source", *figures)
    return Table(name=name, title=title, columns=columns, rows=tuple(rows), remarks=(remark,))


def _named(source: str) -> Cell:
    if len(source) <= SOURCE_WIDTH:
        return cells.word(source)
    return Cell(text=source.partition(",")[0], value=source, notes=(source,))


def _cell(value: float | None, key: str) -> Cell:
    if value is None:
        return Cell()
    if key in COUNTS:
        return cells.word(f"{value:,}", value)
    if key == "rank":
        return Cell(text=f"{value:.3f}", value=value, digits=3)
    text = cells.decimals(value * 100, 0 if key == "coverage" else 1)
    return Cell(text=f"{text} %", value=value * 100, digits=1)
