"""What a count becomes in print when it is rounded by another rule than to the nearest: found by trying it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Literal

from visionbench.reports.printed import SCALES, Number

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
