"""Cells by source: how a printed, a computed and a measured value become text. All rounding happens here."""

from __future__ import annotations

import math
from collections.abc import Iterable

from visionbench.record.statistics import Estimate
from visionbench.reports.printed import Number
from visionbench.reports.table import Cell

DERIVED_DIGITS = 3
"""Significant digits that a rate keeps at least: two launches of one program rarely agree on a fourth."""


def word(text: str, value: str | float | None = None) -> Cell:
    """A label: text without a source."""
    return Cell(text=text, value=text if value is None else value)


def published(number: Number | None, notes: Iterable[str | None] = ()) -> Cell:
    """A printed number, with its printed digits; a dash where the paper prints none."""
    if number is None:
        return Cell()
    found = (*notes, sentence(number.note))
    protocol = f"protocol {number.protocol}" if number.protocol else ""
    how = (number.source, number.gpu, protocol, number.note, number.remark)
    return Cell(
        text=decimals(float(number.text), number.decimals),
        value=number.value,
        digits=number.decimals,
        source="published",
        notes=tuple(note for note in found if note),
        origin="; ".join(part for part in how if part),
    )


def computed(value: float | None, scale: float, digits: int, origin: str) -> Cell:
    """An exact count, shown in units of `scale`; a dash where it was not traced."""
    if value is None:
        return Cell()
    whole = int(value) if float(value).is_integer() else value
    text = decimals(value / scale, digits)
    return Cell(text=text, value=whole, digits=digits, source="computed", origin=origin)


def measured(
    estimate: Estimate, digits: int, notes: tuple[str, ...], origin: str, *, scale: float = 1.0, spans: bool = True
) -> Cell:
    """A measured number with its interval, where there are launches enough for one and its column `spans`.

    The text is in units of `scale`; `value`, `low` and `high` stay in base units.
    """
    low, high, centre = estimate.low, estimate.high, estimate.centre
    span = short = ""
    if spans and low is not None and high is not None:
        span = f"[{decimals(low / scale, digits)}, {decimals(high / scale, digits)}]"
        short = f"±{max(high - centre, centre - low) / centre * 100:.1f} %"
    return Cell(
        text=decimals(centre / scale, digits),
        value=centre,
        digits=digits,
        source="measured",
        low=low,
        high=high,
        span=span,
        short_span=short,
        notes=notes,
        origin=origin,
    )


def decimals(value: float, digits: int) -> str:
    """`1943.5` -> `1,943.5`: thousands separated, fixed decimals, so that a column lines up."""
    return f"{value:,.{digits}f}"


def rate_digits(values: Iterable[float]) -> int:
    """Decimals for a whole column of rates: the smallest keeps three significant digits; one decimal at least."""
    smallest = min((value for value in values if value > 0), default=100.0)
    return min(max(DERIVED_DIGITS - 1 - math.floor(math.log10(smallest)), 1), 4)


def sentence(text: str) -> str:
    """A clause as a footnote: capital and full stop; nothing stays nothing."""
    return f"{text[0].upper()}{text[1:].rstrip('.')}." if text else ""
