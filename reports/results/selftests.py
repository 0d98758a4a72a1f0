"""What self-tests of the gate found, machine by machine: its error rates where the truth was known.

A rate that was counted is shown as what was counted, `0 of 60`, and beside it the bound that so many tries allow:
"never in 60" and "at most 4.9 %" are the same finding, and only the second can be compared with a demand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from visionbench.comparison.noise_profile import Findings, Profile
from visionbench.record.record import Source
from visionbench.record.units import duration, plural
from visionbench.reports import cells
from visionbench.reports.results import verdict_text as words
from visionbench.reports.table import DASH, Cell, Column, Note, Row, Table

NAME = "selftests"

CONDITIONS = {"idle": "idle", "busy": "one core busy"}


def layout(profiles: Sequence[Profile]) -> Table:
    """The table of noise profiles, a section per machine and a row per condition. Pure."""
    rows = tuple(_row(profile, found) for profile in profiles for found in profile.findings)
    dash = any(cell.text == DASH for row in rows for cell in row.cells)
    return Table(
        name=NAME,
        title="The gate tested on rows whose truth is known",
        columns=_columns(),
        rows=rows,
        legend=(Note(term=DASH, text="not tested"),) if dash else (),
        remarks=tuple(dict.fromkeys(_remarks(profiles))),
    )


def _columns() -> tuple[Column, ...]:
    bound = Note(term="≤, ≥", text="one-sided 95 % bound of the rate (Clopper-Pearson).")
    same = Note(
        term="equal sides",
        text="rows whose two sides are the same code, in two work trees: called regressed or improved, wrongly, or "
        "left open; runs: suites of such rows that would have failed a build.",
    )
    slower = Note(
        term="exact cost",
        text="rows whose candidate has some of its equal blocks more: called regressed, rightly; measured: the median "
        "of the rows' ratios.",
    )
    holds = Note(term="interval holds the truth", text="of the 95 % intervals of the ratio, in both kinds of rows.")
    return (
        _column("condition", "", "machine is", 0),
        _column("date", "", "date", 1),
        _column("regressed", "equal sides", "regressed", 0, (same, bound)),
        _column("improved", "equal sides", "improved", 4),
        _column("inconclusive", "equal sides", "open", 5),
        _column("failed_suites", "equal sides", "runs", 6),
        _column("share", "exact cost", "cost", 0, (slower,)),
        _column("slower_ratio", "exact cost", "measured", 3),
        _column("found", "exact cost", "regressed", 0),
        _column("covered", "interval holds", "the truth", 2, (holds,)),
        _column("detectable", "smallest", "detectable", 7),
        _column("launch_seconds", "one", "launch", 8),
    )


def _column(key: str, group: str, head: str, rank: int, notes: tuple[Note, ...] = ()) -> Column:
    align: Literal["left", "right"] = "left" if key in ("condition", "date") else "right"
    source: Source | None = None if key in ("condition", "date", "share") else "measured"
    return Column(key=key, group=group, head=(head,), align=align, source=source, rank=rank, notes=notes)


def _row(profile: Profile, found: Findings) -> Row:
    suites = _rate(found.failed_suites, found.suites, "≤", found.failed_suites_at_most)
    return Row(
        cells=(
            cells.word(CONDITIONS[found.condition], found.condition),
            cells.word(profile.date),
            _rate(found.regressed, found.same, "≤", found.regressed_at_most),
            _rate(found.improved, found.same),
            _rate(found.inconclusive, found.same),
            suites,
            cells.word(f"+{words.share(found.share)}", found.share) if found.slower else Cell(),
            _measured(f"{words.signed(found.slower_ratio)} %", found.slower_ratio) if found.slower_ratio else Cell(),
            _rate(found.found, found.slower, "≥", found.found_at_least),
            _rate(found.covered, found.intervals),
            _measured(words.share(round(found.detectable, 3)), found.detectable) if found.detectable else Cell(),
            _measured(duration(found.launch_seconds), found.launch_seconds) if found.launch_seconds else Cell(),
        ),
        section=words.clean(_machine(profile)),
        subject=profile.fingerprint,
    )


def _machine(profile: Profile) -> str:
    return profile.device + (f", torch {profile.torch}" if profile.torch else "")


def _rate(hits: int, tries: int, side: str = "", bound: float | None = None) -> Cell:
    """`0 of 60 (≤ 4.9 %)`; a dash where nothing was tried."""
    if tries == 0:
        return Cell()
    told = f" ({side} {bound * 100:.1f} %)" if bound is not None else ""
    return _measured(f"{hits} of {tries}{told}", hits / tries)


def _measured(text: str, value: float) -> Cell:
    return Cell(text=text, value=value, source="measured")


def _remarks(profiles: Sequence[Profile]) -> Iterator[str]:
    for profile in profiles:
        lost = sum(found.lost for found in profile.findings)
        if lost:
            yield f"{words.clean(_machine(profile))}: {plural(lost, 'row')} could not be measured and count nowhere."
        rounds = f" of {plural(profile.rounds, 'round')}" if profile.rounds else ""
        yield f"A look is {plural(profile.launches, 'launch', 'launches')}{rounds}."
        yield from words.rule(profile.rule)
