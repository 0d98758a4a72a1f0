"""A printed figure of a row, what it turned out to be, and the exact counts that it is compared with."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from visionbench.record.profile import Profile, Profiles
from visionbench.record.spec import ImageSize
from visionbench.reports.audit import conventions
from visionbench.reports.audit.conventions import Convention
from visionbench.reports.audit.roundings import Kind
from visionbench.reports.printed import Number, PaperRow

METRICS = ("params", "macs")


def differs(convention: Convention, profile: Profile) -> bool:
    """Whether a network has the part that the convention leaves out."""
    return not convention.needs or profile.parts[convention.needs] > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A printed count of a row: `metric` is "params" or "macs"; `paper` the stem of its file."""

    paper: str
    row: PaperRow
    metric: str

    @property
    def printed(self) -> Number:
        """What stands in print."""
        return self.row.printed[self.metric]

    @property
    def share(self) -> float:
        """Half a unit of its last digit as a share of it."""
        return self.printed.half_unit / self.printed.value if self.printed.value else math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a printed figure turned out to be, the `exact` count of its network, and the one that explains it; where it
    is `settled` no other size or form of the network is worth trying.
    """

    figure: Figure
    kind: Kind
    text: str = ""
    exact: float | None = None
    explained: float | None = None
    settled: bool = False


class Counted:
    """Every profile, by network and by family; what each convention makes of one is worked out once."""

    def __init__(self, profiles: Profiles) -> None:
        """Index them."""
        self._profiles = profiles
        self._counts: dict[tuple[str, ImageSize, str, bool], list[tuple[Convention, float]]] = {}
        self._families: dict[str, list[Profile]] = {}
        for profile in profiles.values():
            if profile.parts:
                self._families.setdefault(profile.family, []).append(profile)

    def of(self, row: PaperRow, variant: str = "", size: ImageSize | None = None) -> Profile | None:
        """The profile of a row's network; or None."""
        profile = self._profiles.get((row.model, size or row.image_size, variant)) if row.model else None
        return profile if profile and profile.parts else None

    def cause(self, row: PaperRow) -> str:
        """Why a row's network has no counts."""
        if not row.model:
            return "neither timm nor visionbench builds this network"
        profile = self._profiles.get((row.model, row.image_size, ""))
        return profile.error if profile else "not counted yet"

    def kin(self, row: PaperRow) -> list[Profile]:
        """What has been counted of the module that defines the row's network."""
        own = self.of(row)
        return self._families.get(own.family, []) if own else []

    def macs(self, profile: Profile, *, composed: bool) -> Iterator[tuple[Convention, float]]:
        """What the conventions of FLOPs make of a network, each worked out when it is asked for; with `composed` every
        choice.
        """
        known = self._counts.setdefault((profile.model, profile.size, profile.variant, composed), [])
        named = tuple(each for each in conventions.NAMED if differs(each, profile))
        tried = named + conventions.composed() if composed else named
        for at, convention in enumerate(tried):
            if at == len(known):
                known.append((convention, convention.count(profile.parts)))
            yield known[at]
