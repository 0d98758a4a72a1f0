"""What a gate found out, as tables: one row per comparison with its verdict, and the exact changes of structure.

The worst rows stand first. A ratio is of time, candidate over baseline, and is shown as percent of the baseline's time;
`inconclusive` is shown as such and never among the rows that are ok. Reasons and doubts are footnotes of the ratio.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from visionbench.comparison.comparison import TIMER_WORDS, First, Timer
from visionbench.comparison.verdict import Change, Judgement, Verdict
from visionbench.record.statistics import Estimate
from visionbench.record.units import KILO, plural
from visionbench.reports import cells
from visionbench.reports.cells import CAUSES
from visionbench.reports.column import Column, label, lay_out, number
from visionbench.reports.results import verdict_text as words
from visionbench.reports.table import Cell, Note, Table

T = TypeVar("T", int, float)

NAME, CHANGES = "verdicts", "changes"

NAME_WIDTH = 40
"""Characters of a row's name in a narrow terminal: a longer one is cut in its middle, and a footnote has all of it."""

PLACES = 8
"""Places of a structural change that a footnote names before it counts the rest."""

_SHORT: dict[Timer, str] = {"cpu": "CPU", "wall": "wall", "device": "device"}


def layout(judgement: Judgement) -> Table:
    """The table of verdicts, the worst first. Pure."""
    verdicts, headline = words.ranked(judgement), words.headline(judgement)
    first_ok = next((verdict for verdict in verdicts[1:] if verdict.word == "ok"), None)
    gap = first_ok if verdicts and verdicts[0].word != "ok" else None
    timed = f"{plural(len(verdicts), 'row')}: {words.tally(judgement)}." if verdicts else "No row was timed."
    return lay_out(
        NAME,
        f"{words.clean(judgement.title)}: {headline[:1].lower()}{headline[1:]}",
        verdicts,
        tuple(_columns(judgement, verdicts)),
        subject=lambda verdict: verdict.comparison.candidate.spec.model,
        gap=lambda verdict: verdict is gap,
        remarks=(
            f"{timed} {words.structure(judgement)}".rstrip(),
            *words.facts(judgement),
            *(words.rule(judgement.rule) if verdicts else ()),
        ),
        when_empty=2,
    )


def _columns(judgement: Judgement, verdicts: Sequence[Verdict]) -> Iterator[Column[Verdict]]:
    timers = tuple(dict.fromkeys(verdict.comparison.timer for verdict in verdicts))
    yield Column(key="row", head=("row",), align="left", fill=lambda verdict: _name(verdict.comparison.name))
    yield label("verdict", "verdict", lambda verdict: verdict.word)
    clock = f", by {TIMER_WORDS[timers[0]]}" if len(timers) == 1 else ""
    text = (
        f"the candidate's time of one iteration against the baseline's{clock}: + is slower, − is faster (−10 %: a "
        "tenth less time); [ ] is the 95 % interval over launches."
    )
    yield _number("time_ratio", "time", 0, text, _ratio)
    if len(timers) > 1:

        def timer(verdict: Verdict) -> Cell:
            return cells.word(_SHORT[verdict.comparison.timer], verdict.comparison.timer)

        yield Column(key="clock", head=("clock",), align="left", rank=1, fill=timer)
    times = [words.seconds(verdict, side) for verdict in verdicts for side in words.SIDES]
    digits = cells.rate_digits(time.centre * KILO for time in times if time is not None)
    yield from (_seconds(side, digits) for side in words.SIDES)
    if any(verdict.wall for verdict in judgement.verdicts) and set(timers) != {"wall"}:
        note = "the same ratio by the wall clock; where the two part, the verdict is not ok."
        yield _number("wall_ratio", "wall", 5, note, lambda v: _percent(v.wall, v, spans=False) if v.wall else Cell())
    note = "the smallest slow-down that launches which scatter like these would have shown."
    yield _number("detectable", "detectable", 4, note, lambda v: _plain(v.detectable, lambda d: f"{d * 100:.1f} %", v))
    yield number("launches", "launches", "count", lambda v: _plain(len(v.comparison.launches), str, v), rank=3)
    margin = words.share(judgement.rule.margin)
    test = f"how often launches look this slow where the candidate is {margin} slower; in improved rows, faster."
    yield _number("p", "p", 6, test, lambda verdict: _plain(words.p_of(verdict), words.p_text, verdict))


def _number(key: str, head: str, rank: int, note: str, fill: Callable[[Verdict], Cell]) -> Column[Verdict]:
    return number(key, head, "1", fill, Note(term=head, text=note), rank=rank)


def _seconds(side: First, digits: int) -> Column[Verdict]:
    def fill(verdict: Verdict) -> Cell:
        seconds = words.seconds(verdict, side)
        if seconds is None:
            return Cell()
        comparison, origin = verdict.comparison, _origin(verdict)
        return cells.measured(seconds, digits, (), comparison, scale=1 / KILO, spans=False, origin=origin)

    return number(f"{side}_time", side, "s", fill, group="ms per iteration", rank=2)


def _name(name: str) -> Cell:
    whole = words.clean(name)
    if len(whole) <= NAME_WIDTH:
        return cells.word(whole)
    half = (NAME_WIDTH - 1) // 2
    return Cell(text=whole, short=f"{whole[: NAME_WIDTH - 1 - half]}…{whole[-half:]}", value=whole)


def _ratio(verdict: Verdict) -> Cell:
    """The ratio with its doubts; without one, the cause of its failure."""
    ratio, failure = verdict.ratio, verdict.comparison.failure
    said = cells.few(ratio) if ratio is not None and not verdict.reason else ()
    notes = tuple(cells.sentence(text) for text in (*words.why(verdict), *said, *words.doubts(verdict)))
    if ratio is not None:
        return _percent(ratio, verdict, notes=notes)
    text, origin = CAUSES[failure.kind] if failure else "none", _origin(verdict)
    return Cell(text=text, source="measured", notes=notes, origin=origin, evidence=verdict.comparison)


def _percent(ratio: Estimate, verdict: Verdict, *, spans: bool = True, notes: tuple[str, ...] = ()) -> Cell:
    """A ratio as percent of the baseline's time, with its interval in percent too."""
    cell = cells.measured(ratio, 1, notes, verdict.comparison, spans=False, origin=_origin(verdict))
    text, low, high = f"{words.signed(ratio.centre)} %", ratio.low, ratio.high
    if not spans or low is None or high is None:
        return replace(cell, text=text)
    span = f"[{words.signed(low)}, {words.signed(high)}]"
    return replace(cell, text=text, span=span, short_span=f"±{words.half_width(ratio)}")


def _plain(value: T | None, text: Callable[[T], str], verdict: Verdict) -> Cell:
    if value is None:
        return Cell()
    return cells.plain(text(value), value, verdict.comparison, origin=_origin(verdict))


def _origin(verdict: Verdict) -> str:
    """Which comparison this is, exactly, and the p-values adjusted for the number of rows."""
    comparison = verdict.comparison
    baseline, candidate = comparison.baseline.spec, comparison.candidate.spec
    specs = str(baseline) if baseline == candidate else f"{baseline} against {candidate}"
    parts = [comparison.environment.device, specs, f"seed {comparison.seed}", plural(verdict.looks, "look")]
    q = ((name, value) for name, value in (("slower", verdict.q_slower), ("faster", verdict.q_faster)))
    return "; ".join((*parts, *(f"q {name} {value:.4f}" for name, value in q if value is not None)))


# --- structure -------------------------------------------------------------------------------------------------------


def changes(judgement: Judgement) -> Table | None:
    """The exact differences of structure, row by row, with the layers behind them; None without any."""
    rows = words.changed_rows(judgement)
    if not rows:
        return None
    grouped = [change for its in rows.values() for change in its]
    compared = f" of {judgement.structures}" if judgement.structures >= len(rows) else ""
    where = f"{len(rows)}{compared} {'row' if (judgement.structures or len(rows)) == 1 else 'rows'}"
    columns: tuple[Column[Change], ...] = (
        label("what", "what changed", lambda change: words.clean(change.what)),
        Column(key="before", head=("baseline",), source="computed", fill=lambda change: _exact(change.before)),
        Column(
            key="after",
            head=("candidate",),
            source="computed",
            fill=lambda change: _exact(change.after, tuple(_places(change))),
        ),
    )
    return lay_out(
        CHANGES,
        f"{plural(len(grouped), 'structural change')} in {where}",
        grouped,
        columns,
        section=lambda change: words.clean(change.row),
        remarks=(
            "Structure is counted, not timed, so every difference is exact. One that is meant belongs in the baseline "
            "file, whose diff is then reviewed like code.",
            "MACs and activations are of one image; bytes, operators and memory of a step of the whole batch (b).",
        ),
    )


def _places(change: Change) -> Iterator[str]:
    """The layers and operators behind a change, as one footnote."""
    named = [words.clean(place).rstrip(".") for place in change.where[:PLACES]]
    named += [f"{len(change.where) - PLACES} more"] if len(change.where) > PLACES else []
    if named:
        yield f"{'; '.join(named)}."


def _exact(text: str, notes: tuple[str, ...] = ()) -> Cell:
    shown = words.clean(text)
    # Markdown sets what is computed as code, in which a bar cannot be escaped.
    return Cell(text=shown, value=shown, source=None if set(shown) & {"|", "`"} else "computed", notes=notes)
