"""The noise profile of a machine: what the gate was seen to do on it when the truth was known.

A false-alarm rate belongs to a rule on a machine. `selftest` measures it there, and the profile keeps what came out,
under the machine's fingerprint: a new version of torch or another number of threads is another machine. After a month
it is no longer believed, because neighbours and clouds change without a version number. One JSON file holds one profile
per fingerprint, so that several machines can share it in git.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Literal, get_args

from visionbench.comparison.verdict import Rule
from visionbench.record.errors import choose
from visionbench.record.files import locked, read_typed, write_whole
from visionbench.record.fingerprint import Fact, differing, fingerprint, fingerprint_id
from visionbench.record.program import program_name
from visionbench.record.record import Environment
from visionbench.record.units import plural

PROFILE_SCHEMA = 1
"""Version of the file. 1 (2026-11): first."""

DEFAULT_FILE = Path("noise_profile.json")

CURRENT_DAYS = 30
"""A profile of that age is no longer current."""

USUAL_MINUTES = 75
"""What `selftest` takes as it comes, on two cores: 30 + 30 rows, idle and beside a busy core, ten launches a look."""

Condition = Literal["idle", "busy"]
"""What else the machine did: nothing that we started, or a loop that kept one core busy."""

CONDITION_WORDS: dict[Condition, str] = {"idle": "no load added", "busy": "one core kept busy"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What the gate said under one condition about rows whose truth was known.

    Of `same` rows with equal sides `regressed` and `improved` were called so, wrongly, and `inconclusive` were left
    open; of `suites` such runs `failed_suites` would have failed a build. Of `slower` rows whose candidate costs
    `share` more, exactly, `found` were called regressed. `*_at_most` and `*_at_least` are one-sided 95 % bounds
    (Clopper and Pearson 1934) of the rates, None where nothing was tried. `covered` of `intervals` 95 % intervals held
    the true ratio. `*_ratio` are the medians of the rows' ratios, `detectable` the median of the smallest detectable
    slow-downs, `launch_seconds` that of what a launch of a whole suite took. `lost` rows could not be measured and
    count nowhere.
    """

    condition: Condition
    share: float
    same: int
    regressed: int
    improved: int
    inconclusive: int
    regressed_at_most: float | None
    suites: int
    failed_suites: int
    failed_suites_at_most: float | None
    slower: int
    found: int
    found_at_least: float | None
    intervals: int
    covered: int
    same_ratio: float | None = None
    slower_ratio: float | None = None
    detectable: float | None = None
    launch_seconds: float | None = None
    lost: int = 0

    def __post_init__(self) -> None:
        choose("condition", self.condition, get_args(Condition))
        parts = (
            (self.same, self.regressed + self.improved + self.inconclusive),
            (self.suites, self.failed_suites),
            (self.slower, self.found),
            (self.intervals, self.covered),
        )
        counts = (self.regressed, self.improved, self.inconclusive, *(part for _, part in parts))
        if min(counts) < 0 or any(part > whole for whole, part in parts):
            raise ValueError("it counts fewer than no rows, or more than there were")


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One self-test: on which machine (`facts` is its fingerprint, field by field), when, how, and what was found.

    `date` is ISO 8601. `launches` is how many a look took at most, `rounds` how many turns of each side a launch had
    (None: as many as there was time for, by the duet's own rule).
    """

    fingerprint: str
    facts: dict[str, Fact]
    date: str
    device: str
    torch: str | None
    launches: int
    rounds: int | None
    rule: Rule
    findings: tuple[Findings, ...]

    def __post_init__(self) -> None:
        date.fromisoformat(self.date)


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    schema: int
    profiles: tuple[Profile, ...]

    def __post_init__(self) -> None:
        if self.schema != PROFILE_SCHEMA:
            raise ValueError(f"it is not of schema {PROFILE_SCHEMA}")


def read(path: Path, *, asked: bool = False) -> tuple[Profile, ...]:
    """The profiles of a file, none where there is no file. Raises `BenchError` for a file that holds something else.

    `asked`: for a missing one, too, unless it is the one that is looked for unasked.
    """
    if not os.path.lexists(path) and not (asked and path != DEFAULT_FILE):
        return ()
    return read_typed(path, _File, "noise profiles", "name a file that `selftest` wrote").profiles


def write(path: Path, profile: Profile) -> None:
    """Put a profile in the place of its machine's last one, in one piece; the other machines' stay.

    So do findings under other conditions of the same day, made in the same way: idle now, busy an hour later.
    Raises `BenchError` if the file cannot be written, or holds something else than profiles.
    """
    with locked(path):
        before = read(path)
        others = [one for one in before if one.fingerprint != profile.fingerprint]
        mine = next((one for one in before if one.fingerprint == profile.fingerprint), profile)
        ordered = sorted([*others, _with_conditions(profile, mine)], key=lambda other: other.fingerprint)
        data = {"schema": PROFILE_SCHEMA, "profiles": [asdict(one) for one in ordered]}
        write_whole(path, json.dumps(data, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def _with_conditions(profile: Profile, before: Profile) -> Profile:
    if replace(before, findings=profile.findings) != profile:  # another day, rule or number of launches
        return profile
    new = {finding.condition for finding in profile.findings}
    kept = tuple(finding for finding in before.findings if finding.condition not in new)
    return replace(profile, findings=(*kept, *profile.findings))


def current(path: Path, environment: Environment, today: date) -> Profile | None:
    """The profile of exactly this machine, if it is younger than `CURRENT_DAYS`. Raises `BenchError` as `read`."""
    here = fingerprint_id(environment)
    return next((one for one in read(path) if one.fingerprint == here and _age(one, today) < CURRENT_DAYS), None)


def _age(profile: Profile, today: date) -> int:
    return (today - date.fromisoformat(profile.date)).days


def remark(path: Path, environment: Environment, today: date) -> str:
    """What a gate says of its error rates here: what the current profile found, or that none is current.

    `doctor` has the cause and the remedy (`missing`): they are the machine's and not the row's.
    """
    profile = current(path, environment, today)
    if profile is not None:
        said = [f"{CONDITION_WORDS[found.condition]}, {', '.join(_rates(found))}" for found in profile.findings]
        return f"Self-test of this machine on {profile.date}, by the rule of that day: {'; '.join(said)}."
    return f"How often the gate errs on this machine is not known: see `noise profile` in `{program_name()} doctor`."


def missing(path: Path, environment: Environment, today: date) -> tuple[str, str]:
    """Why this machine has no current profile, and what to do; two times "" if it has one. Raises as `read` does."""
    why = _what_is_wrong(read(path), environment, today)
    remedy = f"`{program_name()} selftest` measures in about {USUAL_MINUTES} min how often the gate errs here."
    return (why, remedy) if why else ("", "")


def _rates(finding: Findings) -> Iterator[str]:
    if finding.same:
        yield f"{finding.regressed} of {plural(finding.same, 'equal row')} called regressed"
    if finding.slower:
        yield f"{finding.found} of {finding.slower} found at +{finding.share * 100:g} %"


def _what_is_wrong(known: tuple[Profile, ...], environment: Environment, today: date) -> str:
    if not known:
        return "none of this machine"
    here = fingerprint(environment)
    nearest = min(known, key=lambda one: len(differing(one.facts, here)))
    apart = differing(nearest.facts, here)
    if not apart:
        age = _age(nearest, today)
        return f"the last one is {plural(age, 'day')} old" if age >= CURRENT_DAYS else ""
    more = f" and {plural(len(apart) - 1, 'more difference')}" if len(apart) > 1 else ""
    return f"none of this machine (the nearest is of another: {apart[0]}{more})"
