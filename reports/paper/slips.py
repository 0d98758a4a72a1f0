"""Where the print and the exact count disagree, and why: found by search, never typed in.

A printed number agrees when the exact count is within half a unit of its last printed digit. Otherwise each
hypothesis is tried in turn on counts that a trace has made: another size, a neighbouring row, another print
of the same network, a coarser rounding. A footnote says what was found, or that nothing was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from visionbench.record.units import significant
from visionbench.reports.cells import sentence
from visionbench.reports.paper.counts import Counts
from visionbench.reports.printed import SCALES, Number, PaperRow, Publication, convnext

NEAR, MUCH_NEARER = 0.01, 5.0
"""A count is near the print within 1 %, where the row's own is at least five times as far off: another
counting program differs by less than that (it may count norms), another image size by more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slip:
    """A printed number of `row` that its network's `exact` count contradicts."""

    row: PaperRow
    metric: str
    printed: Number
    exact: float
    counts: Counts
    publication: Publication

    def show(self, value: float) -> str:
        """A count in the print's unit, with enough digits to see the difference."""
        scaled = value / SCALES.get(self.printed.unit, 1)
        return f"{scaled:,.{self.printed.decimals + 2}f} {self.printed.unit}"


def agrees(printed: Number, exact: float) -> bool:
    """Whether `exact` (base units) may be printed so: within half a unit of the last digit, either way of a tie."""
    return abs(exact - printed.value) <= printed.half_unit * (1 + 1e-9)


def footnote(row: PaperRow, metric: str, counts: Counts, publication: Publication | None = None) -> str | None:
    """What to say below the table about that printed number; None where it agrees or has no exact count.

    `publication` is the paper that printed it, the ConvNeXt paper for None.
    """
    printed = row.printed.get(metric)
    exact = counts.exact(*row.network, metric)
    if printed is None or exact is None or agrees(printed, exact):
        return None
    slip = Slip(
        row=row, metric=metric, printed=printed, exact=exact, counts=counts, publication=publication or convnext()
    )
    reasons = (reason for test in HYPOTHESES if (reason := test(slip)))
    relative = printed.value / exact - 1
    off, side = significant(abs(relative) * 100, 2), "above" if relative > 0 else "below"
    at = f" at {row.image_size} px" if metric != "params" else ""
    difference = f"Printed {printed.text} {printed.unit}, {off} % {side} the exact {slip.show(exact)}{at}."
    parts = (difference, next(reasons, None) or _nothing_found(slip), sentence(printed.remark))
    return " ".join(part for part in parts if part)


def another_size(slip: Slip) -> str | None:
    """The print is the exact count of the same model at another size, or far nearer to it than to its own."""
    model, size = slip.row.network
    others = ((other, slip.counts.exact(model, other, slip.metric)) for other in slip.counts.sizes.get(model, ()))
    counted = [(other, exact) for other, exact in others if exact and other != size and exact != slip.exact]
    if not counted:
        return None
    other, exact = min(counted, key=lambda pair: abs(pair[1] - slip.printed.value))
    if agrees(slip.printed, exact):
        return f"{slip.printed.text} is this model's count at {other} px ({slip.show(exact)})."
    gap, own = abs(slip.printed.value / exact - 1), abs(slip.printed.value / slip.exact - 1)
    if gap <= NEAR and gap * MUCH_NEARER <= own:
        off = significant(gap * 100, 2)
        return f"{slip.printed.text} is near this model's count at {other} px ({slip.show(exact)}, {off} % away)."
    return None


def neighbouring_row(slip: Slip) -> str | None:
    """The print is the exact count of the next or the previous row: a column that slid by one."""
    table = slip.publication.rows(slip.row.table)
    for step, word in ((1, "next"), (-1, "previous")):
        at = slip.row.number - 1 + step
        if not 0 <= at < len(table) or table[at].network == slip.row.network:
            continue
        exact = slip.counts.exact(*table[at].network, slip.metric)
        if exact is not None and agrees(slip.printed, exact):
            return f"{slip.printed.text} is the count of the {word} row, {table[at].label} ({slip.show(exact)})."
    return None


def printed_otherwise(slip: Slip) -> str | None:
    """The same network is printed with another value elsewhere in the paper."""
    others: dict[str, list[PaperRow]] = {}
    for row in slip.publication.prints(slip.metric, slip.row.network):
        if row.printed[slip.metric].value != slip.printed.value:
            others.setdefault(row.printed[slip.metric].text, []).append(row)
    said = []
    for text, rows in others.items():
        places = dict.fromkeys(f"Table {row.table}" + (f" ({row.section})" if row.section else "") for row in rows)
        right = agrees(rows[0].printed[slip.metric], slip.exact)
        verdict = ", which is the exact count rounded" if right else "; neither is the exact count rounded"
        where = " and in ".join(places)
        said.append(f"The same network is printed as {text} {slip.printed.unit} in {where}{verdict}.")
    return " ".join(said) or None


def coarser_rounding(slip: Slip) -> str | None:
    """The print is a rounder number filled up with zeros: 4.50 for 4.491 (4.5), 120 for 118.5 (12 tens)."""
    whole, _, fraction = slip.printed.text.partition(".")
    digits = f"{whole}{fraction}".lstrip("0")
    kept = len(digits.rstrip("0"))
    unit = 10.0 ** (len(digits) - kept - len(fraction)) * SCALES.get(slip.printed.unit, 1)
    if kept < len(digits) and abs(slip.exact - slip.printed.value) <= unit / 2:
        figures = "one significant digit" if kept == 1 else f"{kept} significant digits"
        return f"It is the exact count rounded to {figures}, with zeros added in print."
    return None


def _nothing_found(slip: Slip) -> str:
    model, size = slip.row.network
    others = [str(other) for other in slip.counts.sizes.get(model, ()) if other != size]
    tried = f"another size (tried {', '.join(others)} px), " if others and slip.metric != "params" else ""
    return f"Neither {tried}a neighbouring row nor another print of this network explains it."


# In this order: the first that holds is the reason, because the later ones hold by chance more often.
HYPOTHESES: tuple[Callable[[Slip], str | None], ...] = (
    another_size,
    neighbouring_row,
    printed_otherwise,
    coarser_rounding,
)
