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


def _columns() -> tuple[Column[Tested], ...]:
    bound = Note(term="≤, ≥", text="one-sided 95 % bound of the rate (Clopper-Pearson).")
    same = Note(
        term="equal sides",
        text="rows whose two sides are the same code, in two work trees. Called regressed or improved is wrong; open "
        "is left undecided. runs: suites of such rows that would have failed a build.",
    )
    slower = Note(
        term="exact cost",
        text="rows whose candidate has a few more of its equal blocks. Called regressed is right. measured: the "
        "median of the rows' ratios.",
    )
    holds = Note(term="interval holds the truth", text="of the 95 % intervals of the ratio, in both kinds of rows.")
    equal, cost = "equal sides", "exact cost"
    return (
        Column(key="condition", head=("machine is",), align="left", fill=_condition),
        label("date", "date", lambda row: row[0].date, rank=1),
        _column(
            "regressed",
            equal,
            "regressed",
            0,
            lambda f: _rate(f.regressed, f.same, "≤", f.regressed_at_most),
            same,
            bound,
        ),
        _column("improved", equal, "improved", 4, lambda f: _rate(f.improved, f.same)),
        _column("inconclusive", equal, "open", 5, lambda f: _rate(f.inconclusive, f.same)),
        _column(
            "failed_suites", equal, "runs", 6, lambda f: _rate(f.failed_suites, f.suites, "≤", f.failed_suites_at_most)
        ),
        Column(key="share", group=cost, head=("cost",), notes=(slower,), fill=_share),
        _column(
            "slower_ratio", cost, "measured", 3, lambda f: _number(f.slower_ratio, lambda v: f"{words.signed(v)} %")
        ),
        _column("found", cost, "regressed", 0, lambda f: _rate(f.found, f.slower, "≥", f.found_at_least)),
        _column("covered", "interval holds", "the truth", 2, lambda f: _rate(f.covered, f.intervals), holds),
        _column(
            "detectable",
            "smallest",
            "detectable",
            7,
            lambda f: _number(f.detectable, lambda v: words.share(round(v, 3))),
        ),
        _column("launch_seconds", "one", "launch", 8, lambda f: _number(f.launch_seconds, duration)),
    )


def _column(
    key: str, group: str, head: str, rank: int, fill: Callable[[Findings], Cell], *notes: Note
) -> Column[Tested]:
    return Column(
        key=key, group=group, head=(head,), source="measured", rank=rank, notes=notes, fill=lambda row: fill(row[1])
    )


def _condition(row: Tested) -> Cell:
    return cells.word(CONDITION_WORDS[row[1].condition], row[1].condition)


def _share(row: Tested) -> Cell:
    findings = row[1]
    return cells.word(f"+{words.share(findings.share)}", findings.share) if findings.slower else Cell()


def _machine(profile: Profile) -> str:
    return profile.device + (f", torch {profile.torch}" if profile.torch else "")


def _rate(hits: int, tries: int, side: str = "", bound: float | None = None) -> Cell:
    """`0 of 60 (≤ 4.9 %)`; a dash where nothing was tried."""
    if tries == 0:
        return Cell()
    limit = f" ({side} {bound * 100:.1f} %)" if bound is not None else ""
    return cells.plain(f"{hits} of {tries}{limit}", hits / tries)


def _number(value: float | None, text: Callable[[float], str]) -> Cell:
    """A number that was measured; a dash for none."""
    return cells.plain(text(value), value) if value else Cell()


def _remarks(profiles: Sequence[Profile]) -> Iterator[str]:
    for profile in profiles:
        lost = sum(found.lost for found in profile.findings)
        if lost:
            yield f"{words.clean(_machine(profile))}: {plural(lost, 'row')} could not be measured and count nowhere."
        rounds = f" of {plural(profile.rounds, 'round')}" if profile.rounds else ""
        yield f"A look is {plural(profile.launches, 'launch', 'launches')}{rounds}."
        yield from words.rule(profile.rule)
