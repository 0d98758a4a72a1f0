"""A printed figure of a row, what it turned out to be, and the exact counts that it is compared with.

What a count becomes in print when it is rounded by another rule than to the nearest is found by trying it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Literal

from visionbench.record.profile import Profile, Profiles
from visionbench.record.spec import ImageSize
from visionbench.reports.audit import conventions
from visionbench.reports.audit.conventions import Convention
from visionbench.reports.printed import SCALES, Number, PaperRow

METRICS = ("params", "macs")

Kind = Literal["reproduced", "convention", "size", "network", "row", "copied", "unexplained", "not built"]

KINDS: Mapping[Kind, str] = {
    "reproduced": "reproduced",
    "convention": "another convention",
    "size": "another size",
    "network": "another network",
    "row": "another row's number",
    "copied": "an earlier paper's number",
    "unexplained": "unexplained",
    "not built": "not built here",
}
"""What a printed figure can turn out to be, in a table's words."""


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
    """What a printed figure turned out to be, the `exact` count of its network, and the one that explains it.

    `settled`: no other size or form of the network is worth trying.
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


ROUNDED_UP = "rounded up"
IN_NAME = "the figure in its name"


@dataclass(frozen=True, slots=True)
class Explanation:
    """A convention or a rounding that gives the print: its name, its count, and how far it is from the usual."""

    name: str
    value: float
    cost: int
    sure: bool = False
    kind: Kind = "convention"


def fits(printed: Number, value: float, *, near: float = 0.0) -> bool:
    """Whether a count may be printed so: within half a unit of its last digit, or within `near` as a share."""
    return abs(value - printed.value) <= tolerance_of(printed, near)


def tolerance_of(printed: Number, near: float) -> float:
    """How far from a print a count may be, in base units."""
    return max(printed.half_unit, near * printed.value) * (1 + 1e-9)


def roundings(printed: Number, label: str, exact: float) -> Iterator[Explanation]:
    """The exact count, rounded by another rule than to the nearest; or the figure in the `label` of its row."""
    unit = 2 * printed.half_unit
    yield from _nominal(printed, label, exact)
    if printed.value <= exact < printed.value + unit:
        yield Explanation(name="cut off, not rounded", value=exact, cost=0, sure=True)
    if printed.value - unit < exact <= printed.value:
        yield Explanation(name=ROUNDED_UP, value=exact, cost=1)
    yield from _twice(printed, exact)
    digits = printed.text.replace(".", "").lstrip("0")
    for power, side in ((10, "right"), (0.1, "left")):
        if len(digits) >= 3 and fits(printed, exact * power):
            name = f"the decimal point is one place too far {side}"
            yield Explanation(name=name, value=exact * power, cost=1, sure=True)
    yield from zeros_added(printed, exact)


def zeros_added(printed: Number, exact: float) -> Iterator[Explanation]:
    """The exact count rounded to fewer digits, and filled with zeros: to two digits at least."""
    digits = printed.text.replace(".", "").lstrip("0")
    near = abs(exact / printed.value - 1) <= LITTLE if printed.value else False
    for zeros in range(1, min(len(digits) - len(digits.rstrip("0")), printed.decimals) + 1):
        left = len(digits) - zeros
        if left >= 2 and abs(exact - printed.value) <= printed.half_unit * 10**zeros:
            yield Explanation(name=f"rounded to {left} digits, with zeros added", value=exact, cost=1, sure=near)


LITTLE = 5e-3
"""Zeros are taken for added, without company, where the print differs by no more than this from the count."""

_NOMINAL = re.compile(r"(\d+(?:\.\d+)?)\s?([GM])F?(?:LOPs)?\b")


def _nominal(printed: Number, label: str, exact: float) -> Iterator[Explanation]:
    """The figure that a network has in its name, as RegNetY-16GF, is printed for its count."""
    for digits, unit in _NOMINAL.findall(label) if printed.unit == "G" else ():
        value = float(digits) * SCALES[unit]
        if value == printed.value and abs(exact / value - 1) <= NOMINAL:
            yield Explanation(name=IN_NAME, value=value, cost=0, sure=True)


NOMINAL = 0.1
"""A network is called after about its count."""


def _twice(printed: Number, exact: float) -> Iterator[Explanation]:
    """The exact count, rounded to a digit more than is printed, and then again: 71.489, 71.5, 72."""
    text = Decimal(str(exact / SCALES[printed.unit]))
    for places in (printed.decimals + 1, printed.decimals):
        text = text.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)
    if text == Decimal(printed.text):
        yield Explanation(name="rounded twice, by a digit each time", value=exact, cost=0, sure=True)
