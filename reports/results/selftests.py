"""What self-tests of the gate found, machine by machine: its error rates where the truth was known.

A rate that was counted is shown as what was counted, `0 of 60`, and beside it the bound that so many tries allow:
"never in 60" and "at most 4.9 %" are the same finding, and only the second can be compared with a demand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from visionbench.comparison.noise_profile import CONDITION_WORDS, Findings, Profile
from visionbench.record.units import duration, plural
from visionbench.reports import cells
from visionbench.reports.column import Column, label, lay_out
from visionbench.reports.results import verdict_text as words
from visionbench.reports.table import Cell, Note, Table

NAME = "selftests"

Tested = tuple[Profile, Findings]
"""One row: a machine's profile and what was found in one condition."""


def layout(profiles: Sequence[Profile]) -> Table:
    """The table of noise profiles, a section per machine and a row per condition. Pure."""
    rows: list[Tested] = [(profile, findings) for profile in profiles for findings in profile.findings]
    return lay_out(
        NAME,
        "The gate tested on rows whose truth is known",
        rows,
        _columns(),
        section=lambda row: words.clean(_machine(row[0])),
        subject=lambda row: row[0].fingerprint,
        dash="not tested",
        remarks=dict.fromkeys(_remarks(profiles)),
    )


BOUND = Note(term="≤, ≥", text="one-sided 95 % bound of the rate (Clopper-Pearson).")
SAME = Note(
    term="equal sides",
    text="rows whose two sides are the same code, in two work trees. Called regressed or improved is wrong; open "
    "is left undecided. runs: suites of such rows that would have failed a build.",
)
SLOWER = Note(
    term="exact cost",
    text="rows whose candidate has a few more of its equal blocks. Called regressed is right. measured: the "
    "median of the rows' ratios.",
)
HOLDS = Note(term="interval holds the truth", text="of the 95 % intervals of the ratio, in both kinds of rows.")


def _columns() -> tuple[Column[Tested], ...]:
    equal, cost = "equal sides", "exact cost"
    return (
        Column(
            key="condition",
            head=("machine is",),
            align="left",
            fill=lambda row: cells.word(CONDITION_WORDS[row[1].condition], row[1].condition),
        ),
        label("date", "date", lambda row: row[0].date, rank=1),
        _rate("regressed", "same", equal, "regressed", 0, "regressed_at_most", SAME, BOUND),
        _rate("improved", "same", equal, "improved", 4),
        _rate("inconclusive", "same", equal, "open", 5),
        _rate("failed_suites", "suites", equal, "runs", 6, "failed_suites_at_most"),
        Column(key="share", group=cost, head=("cost",), notes=(SLOWER,), fill=lambda row: _share(row[1])),
        _number("slower_ratio", cost, "measured", 3, lambda ratio: f"{words.signed(ratio)} %"),
        _rate("found", "slower", cost, "regressed", 0, "found_at_least"),
        _rate("covered", "intervals", "interval holds", "the truth", 2, "", HOLDS),
        _number("detectable", "smallest", "detectable", 7, lambda loss: words.share(round(loss, 3))),
        _number("launch_seconds", "one", "launch", 8, duration),
    )


def _share(findings: Findings) -> Cell:
    return cells.word(f"+{words.share(findings.share)}", findings.share) if findings.slower else Cell()


def _machine(profile: Profile) -> str:
    return profile.device + (f", torch {profile.torch}" if profile.torch else "")


def _rate(hits: str, tries: str, group: str, head: str, rank: int, bound: str = "", *notes: Note) -> Column[Tested]:
    """`0 of 60 (≤ 4.9 %)`, by the names of the findings' fields; a dash where nothing was tried."""

    def fill(row: Tested) -> Cell:
        hit, tried = getattr(row[1], hits), getattr(row[1], tries)
        if tried == 0:
            return Cell()
        limit = getattr(row[1], bound) if bound else None
        side = "≤" if bound.endswith("at_most") else "≥"
        said = f" ({side} {limit * 100:.1f} %)" if limit is not None else ""
        return cells.plain(f"{hit} of {tried}{said}", hit / tried)

    return Column(key=hits, group=group, head=(head,), source="measured", rank=rank, notes=notes, fill=fill)


def _number(key: str, group: str, head: str, rank: int, text: Callable[[float], str]) -> Column[Tested]:
    """A number that was measured, by its field's name; a dash for none."""

    def fill(row: Tested) -> Cell:
        value = getattr(row[1], key)
        return cells.plain(text(value), value) if value else Cell()

    return Column(key=key, group=group, head=(head,), source="measured", rank=rank, fill=fill)


def _remarks(profiles: Sequence[Profile]) -> Iterator[str]:
    for profile in profiles:
        lost = sum(found.lost for found in profile.findings)
        if lost:
            yield f"{words.clean(_machine(profile))}: {plural(lost, 'row')} could not be measured and count nowhere."
        rounds = f" of {plural(profile.rounds, 'round')}" if profile.rounds else ""
        yield f"A look is {plural(profile.launches, 'launch', 'launches')}{rounds}."
        yield from words.rule(profile.rule)
