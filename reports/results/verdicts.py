"""What a gate found out, as tables: one row per comparison with its verdict, and the exact changes of structure.

The worst rows stand first. A ratio is of time, candidate over baseline, and is shown as percent of the baseline's time;
`inconclusive` is shown as such and never among the rows that are ok. Reasons and doubts are footnotes of the ratio.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from visionbench.comparison.comparison import First, Timer
from visionbench.comparison.verdict import Change, Judgement, Verdict
from visionbench.record.statistics import MIN_LAUNCHES, Estimate
from visionbench.record.units import KILO, plural
from visionbench.reports import cells
from visionbench.reports.results import verdict_text as words
from visionbench.reports.settings import CAUSES
from visionbench.reports.table import DASH, Cell, Column, Note, Row, Table

NAME, CHANGES = "verdicts", "changes"

NAME_WIDTH = 40
"""Characters of a row's name in a table; a longer one is cut in its middle, and a footnote has all of it."""

PLACES = 8
"""Places of a structural change that a footnote names before it counts the rest."""

SIDES: tuple[First, First] = ("baseline", "candidate")

_SHORT: dict[Timer, str] = {"cpu": "CPU", "wall": "wall", "device": "device"}


def layout(judgement: Judgement) -> Table:
    """The table of verdicts, the worst first. Pure."""
    verdicts = words.ranked(judgement)
    timers = tuple(dict.fromkeys(verdict.comparison.timer for verdict in verdicts))
    columns, headline = _columns(judgement, timers), words.headline(judgement)
    digits = _digits(verdicts)
    filled = [_fill(verdict, columns, digits) for verdict in verdicts]
    rows = tuple(
        Row(
            cells=row,
            gap=verdict.word == "ok" and place > 0 and verdicts[place - 1].word != "ok",
            subject=verdict.comparison.candidate.spec.model,
        )
        for place, (verdict, row) in enumerate(zip(verdicts, filled, strict=True))
    )
    dash = any(cell.text == DASH for row in rows for cell in row.cells)
    return Table(
        name=NAME,
        title=f"{words.clean(judgement.title)}: {headline[:1].lower()}{headline[1:]}",
        columns=columns if verdicts else columns[:2],
        rows=rows,
        legend=(Note(term=DASH, text="not measured or not known"),) if dash else (),
        remarks=(_counted(judgement), *words.facts(judgement), *(words.rule(judgement.rule) if verdicts else ())),
    )


def _counted(judgement: Judgement) -> str:
    """`12 rows: 1 regressed, 11 ok. Structure unchanged in 12 rows.`"""
    timed = f"{plural(len(judgement.verdicts), 'row')}: {words.tally(judgement)}." if judgement.verdicts else ""
    return " ".join(part for part in (timed or "No row was timed.", words.structure(judgement)) if part)


def _columns(judgement: Judgement, timers: Sequence[Timer]) -> tuple[Column, ...]:
    shown = [Column(key="row", head=("row",), align="left"), Column(key="verdict", head=("verdict",), align="left")]
    shown.append(_time(timers))
    if len(timers) > 1:
        shown.append(Column(key="clock", head=("clock",), align="left", rank=1))
    shown += [_seconds("baseline"), _seconds("candidate")]
    if any(verdict.wall for verdict in judgement.verdicts) and set(timers) != {"wall"}:
        note = "the same ratio by the wall clock, for information: no verdict depends on it."
        shown.append(_number("wall_ratio", "wall", 5, note))
    detectable = "the smallest slow-down that launches which scatter like these would have shown."
    shown.append(_number("detectable", "detectable", 4, detectable))
    shown.append(Column(key="launches", head=("launches",), unit="count", source="measured", rank=3))
    margin = words.share(judgement.rule.margin)
    test = f"one-sided, of a time at most {margin} slower; in improved rows, of one at most {margin} faster."
    return (*shown, _number("p", "p", 6, test))


def _time(timers: Sequence[Timer]) -> Column:
    clock = f", by {words.CLOCKS[timers[0]]}" if len(timers) == 1 else ""
    text = (
        f"the candidate's time of one iteration against the baseline's{clock}: + is slower, − is faster (−10 %: a "
        "tenth less time); [ ] is the 95 % interval over launches."
    )
    return _number("time_ratio", "time", 0, text)


def _number(key: str, head: str, rank: int, note: str) -> Column:
    return Column(key=key, head=(head,), unit="1", source="measured", rank=rank, notes=(Note(term=head, text=note),))


def _seconds(side: str) -> Column:
    return Column(key=f"{side}_time", group="ms per iteration", head=(side,), unit="s", source="measured", rank=2)


def _digits(verdicts: Sequence[Verdict]) -> int:
    times = [words.seconds(verdict, side) for verdict in verdicts for side in SIDES]
    return cells.rate_digits(found.centre * KILO for found in times if found is not None)


def _fill(verdict: Verdict, columns: Sequence[Column], digits: int) -> tuple[Cell, ...]:
    origin = _origin(verdict)
    launches, p = len(verdict.comparison.launches), words.p_of(verdict)
    wall, least = verdict.wall, verdict.detectable
    made = {
        "row": _name(verdict.comparison.name),
        "verdict": cells.word(verdict.word),
        "time_ratio": _ratio(verdict, origin),
        "clock": cells.word(_SHORT[verdict.comparison.timer], verdict.comparison.timer),
        "wall_ratio": _percent(wall, origin, spans=False) if wall else Cell(),
        "detectable": _plain(f"{least * 100:.1f} %", least, origin) if least is not None else Cell(),
        "launches": _plain(str(launches), launches, origin),
        "p": _plain(words.p_text(p), p, origin) if p is not None else Cell(),
    }
    for side in SIDES:
        found = words.seconds(verdict, side)
        made[f"{side}_time"] = (
            cells.measured(found, digits, (), origin, scale=1 / KILO, spans=False) if found else Cell()
        )
    return tuple(made[column.key] for column in columns)


def _name(name: str) -> Cell:
    whole = words.clean(name)
    if len(whole) <= NAME_WIDTH:
        return cells.word(whole)
    half = (NAME_WIDTH - 1) // 2
    return Cell(text=f"{whole[: NAME_WIDTH - 1 - half]}…{whole[-half:]}", value=whole, notes=(whole,))


def _ratio(verdict: Verdict, origin: str) -> Cell:
    """The ratio with its doubts; where there is none, its failure's cause stands in its place."""
    few = verdict.ratio is not None and verdict.ratio.low is None and not verdict.reason
    said = (f"fewer than {MIN_LAUNCHES} launches, so no interval",) if few else ()
    notes = tuple(cells.sentence(text) for text in (*words.why(verdict), *said, *words.doubts(verdict)))
    if verdict.ratio is None:
        failure = verdict.comparison.failure
        return Cell(text=CAUSES[failure.kind] if failure else "none", source="measured", notes=notes, origin=origin)
    return _percent(verdict.ratio, origin, notes=notes)


def _percent(ratio: Estimate, origin: str, *, spans: bool = True, notes: tuple[str, ...] = ()) -> Cell:
    low, high = ratio.low, ratio.high
    bounded = spans and low is not None and high is not None
    return Cell(
        text=f"{words.signed(ratio.centre)} %",
        value=ratio.centre,
        digits=1,
        source="measured",
        low=low,
        high=high,
        span=f"[{words.signed(low)}, {words.signed(high)}]" if bounded and low and high else "",
        short_span=f"±{words.half_width(ratio)}" if bounded else "",
        notes=notes,
        origin=origin,
    )


def _plain(text: str, value: float, origin: str) -> Cell:
    return Cell(text=text, value=value, source="measured", origin=origin)


def _origin(verdict: Verdict) -> str:
    """Which comparison this is, exactly, and the p-values adjusted for the number of rows."""
    its = verdict.comparison
    one, other = its.baseline.spec, its.candidate.spec
    q = ((name, value) for name, value in (("slower", verdict.q_slower), ("faster", verdict.q_faster)))
    parts = [its.environment.device, str(one) if one == other else f"{one} against {other}", f"seed {its.seed}"]
    parts += [plural(verdict.looks, "look")]
    return "; ".join((*parts, *(f"q {name} {value:.4f}" for name, value in q if value is not None)))


# --- structure -------------------------------------------------------------------------------------------------------


def changes(judgement: Judgement) -> Table | None:
    """The exact differences of structure, row by row, with the layers behind them; None if there are none."""
    if not judgement.changes:
        return None
    places = list(dict.fromkeys(one.row for one in judgement.changes))
    grouped = sorted(judgement.changes, key=lambda one: places.index(one.row))
    compared = f" of {judgement.structures}" if judgement.structures >= len(places) else ""
    where = f"{len(places)}{compared} {'row' if (judgement.structures or len(places)) == 1 else 'rows'}"
    return Table(
        name=CHANGES,
        title=f"{plural(len(grouped), 'structural change')} in {where}",
        columns=(
            Column(key="what", head=("what changed",), align="left"),
            Column(key="before", head=("baseline",), source="computed"),
            Column(key="after", head=("candidate",), source="computed"),
        ),
        rows=tuple(_changed(one) for one in grouped),
        remarks=(
            "Structure is counted, not timed, so every difference is exact. One that is meant belongs in the baseline "
            "file, whose diff is then reviewed like code.",
        ),
    )


def _changed(one: Change) -> Row:
    return Row(
        cells=(
            cells.word(words.clean(one.what)),
            _exact(one.before),
            _exact(one.after, tuple(_places(one))),
        ),
        section=words.clean(one.row),
    )


def _places(one: Change) -> Iterator[str]:
    """The layers and operators behind a change, as one footnote."""
    named = [words.clean(place).rstrip(".") for place in one.where[:PLACES]]
    named += [f"{len(one.where) - PLACES} more"] if len(one.where) > PLACES else []
    if named:
        yield f"{'; '.join(named)}."


def _exact(text: str, notes: tuple[str, ...] = ()) -> Cell:
    shown = words.clean(text)
    # Markdown sets what is computed as code, in which a bar cannot be escaped.
    return Cell(text=shown, value=shown, source=None if set(shown) & {"|", "`"} else "computed", notes=notes)
