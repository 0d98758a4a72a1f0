"""Cells by source: how a printed, a computed, a measured and a predicted value become text. All rounding happens here.

A cell keeps what it was made of (`Cell.evidence`), and `origin_of` says in words what that is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from visionbench.record.record import Record
from visionbench.record.statistics import MIN_LAUNCHES, Estimate
from visionbench.record.units import plural
from visionbench.reports.launches import Launches
from visionbench.reports.printed import Number
from visionbench.reports.settings import ends, failure, flags
from visionbench.reports.table import Cell

if TYPE_CHECKING:
    from visionbench.comparison.comparison import Comparison

    Evidence = Sequence[Record] | Comparison | None
    Notes = tuple[str, ...]

DERIVED_DIGITS = 3
"""Significant digits that a rate keeps at least: two launches of one program rarely agree on a fourth."""

MEASURED_LEVEL, PREDICTED_LEVEL = 0.95, 0.8
"""How sure an interval over launches is, and that of a prediction."""

DOUBTFUL = " ?"
"""What follows a number that says little: blocks of one program on an idle machine do not differ by a factor."""

CAUSES = {
    "out_of_memory": "out of memory",
    "unsupported": "unsupported",
    "timeout": "timeout",
    "crashed": "crashed",
    "error": "error",
    "unfit": "unfit node",
}
"""What a cell says of a failure, by its kind."""


def word(text: str, value: str | float | None = None) -> Cell:
    """A label: text without a source."""
    return Cell(text=text, value=text if value is None else value)


def published(number: Number | None, notes: Iterable[str | None] = ()) -> Cell:
    """A printed number, with its printed digits; a dash where the paper prints none."""
    if number is None:
        return Cell()
    protocol = f"protocol {number.protocol}" if number.protocol else ""
    how = (number.source, number.gpu, protocol, number.note, number.remark)
    return Cell(
        text=decimals(float(number.text), number.decimals),
        value=number.value,
        digits=number.decimals,
        source="published",
        notes=tuple(note for note in (*notes, sentence(number.note)) if note),
        origin="; ".join(part for part in how if part),
        evidence=number,
    )


def computed(
    value: float | None, scale: float, digits: int, record: Record | None = None, detail: str = "", metric: str = ""
) -> Cell:
    """An exact count of a trace, shown in units of `scale`; a dash without one. `detail`: which count it is.

    What flags the record's `metric` has are its footnotes: a count may leave out operators.
    """
    if value is None:
        return Cell()
    shown = value / scale
    if shown and abs(shown) < 0.5 * 10.0**-digits:  # not nothing, and would be 0.00: two significant digits
        digits = 1 - math.floor(math.log10(abs(shown)))
    origin = origin_of((record,)) if record else ""
    return Cell(
        text=decimals(shown, digits),
        value=int(value) if float(value).is_integer() else value,
        digits=digits,
        source="computed",
        notes=tuple(map(sentence, flags((record,), metric) if record else ())),
        origin=f"{origin}: {detail}" if detail else origin,
        evidence=(record,) if record else None,
    )


def measured(
    estimate: Estimate,
    digits: int,
    notes: Iterable[str] = (),
    evidence: Evidence = None,
    *,
    scale: float = 1.0,
    spans: bool = True,
    origin: str = "",
) -> Cell:
    """A measured number with its interval, where there are launches enough for one and its column `spans`.

    The text is in units of `scale`; `value`, `low` and `high` stay in base units. `origin` says where the number comes
    from if the evidence does not.
    """
    low, high, centre = estimate.low, estimate.high, estimate.centre
    span = short = ""
    if spans and low is not None and high is not None:
        span = f"[{decimals(low / scale, digits)}, {decimals(high / scale, digits)}]"
        short = f"±{max(high - centre, centre - low) / centre * 100:.1f} %"
    if spans and estimate.least is not None and estimate.most is not None:
        least, most = estimate.least, estimate.most
        span = f"({decimals(least / scale, digits)} to {decimals(most / scale, digits)})"
        short = f"({(least / centre - 1) * 100:+.1f} to {(most / centre - 1) * 100:+.1f} %)".replace("-", "−")
    launches = evidence if spans and isinstance(evidence, (tuple, list)) else ()
    factor = Launches.of(launches).scatter_factor
    doubt = (f"{DOUBTFUL.strip()}: its blocks or launches differ by a factor of {factor:.1f}.",) if factor else ()
    return Cell(
        text=decimals(centre / scale, digits) + (DOUBTFUL if factor else ""),
        value=centre,
        digits=digits,
        source="measured",
        low=low,
        high=high,
        level=None if low is None else MEASURED_LEVEL,
        least=estimate.least if spans else None,
        most=estimate.most if spans else None,
        span=span,
        short_span=short,
        notes=(*doubt, *notes),
        **_behind(evidence, origin),
    )


def few(estimate: Estimate) -> tuple[str, ...]:
    """Why a number has no interval, as a clause; () where it has one."""
    if estimate.low is not None:
        return ()
    if estimate.nodes > 1:
        return (f"centre and range over {estimate.nodes} nodes; an interval over nodes needs {MIN_LAUNCHES}",)
    return (f"fewer than {MIN_LAUNCHES} launches, so no interval",)


def over(estimates: Iterable[Estimate]) -> str:
    """What intervals are over, in words; "" without intervals."""
    having = [estimate for estimate in estimates if estimate.low is not None]
    if not having:
        return ""
    counts = sorted({estimate.nodes for estimate in having})
    if counts[-1] < 2:
        return "over launches, on one node: it is about this card" if counts[-1] else "over launches"
    return f"over {ends(counts)} nodes, where a node's value is the median of its launches"


def plain(
    text: str, value: float | None, evidence: Evidence = None, *, digits: int = 0, notes: Notes = (), origin: str = ""
) -> Cell:
    """A measured number without an interval; a dash for None."""
    if value is None:
        return Cell()
    return Cell(text=text, value=value, digits=digits, source="measured", notes=notes, **_behind(evidence, origin))


def predicted(
    centre: float, low: float | None, high: float | None, digits: int, record: Record, scale: float = 1.0
) -> Cell:
    """A predicted number with its 80 % interval. All in base units; the text is in units of `scale`."""
    span = short = ""
    if low is not None and high is not None:
        span = f"[{decimals(low / scale, digits)}, {decimals(high / scale, digits)}]"
        ends = f"{(low / centre - 1) * 100:+.0f}{(high / centre - 1) * 100:+.0f} %"
        short = ends.replace("-", "−")
    return Cell(
        text=decimals(centre / scale, digits),
        value=centre,
        digits=digits,
        source="predicted",
        low=low,
        high=high,
        level=PREDICTED_LEVEL if span else None,
        span=span,
        short_span=short,
        **_behind((record,), ""),
    )


def failed(launches: Sequence[Record], notes: Notes = ()) -> Cell:
    """The newest failure's cause in place of a number; a dash where nothing was tried, or one launch has numbers."""
    why = failure(launches)
    if why is None:
        return Cell()
    origin = f"{launches[-1].spec}: {why.kind} in {why.stage}: {why.message}"
    return Cell(text=CAUSES[why.kind], source="measured", notes=notes, **_behind(launches, origin))


def _behind(evidence: Evidence, origin: str) -> dict[str, Any]:
    kept = Launches.of(evidence) if isinstance(evidence, Sequence) else evidence
    return {"origin": origin or origin_of(kept), "evidence": kept}


def origin_of(evidence: tuple[Record, ...] | Comparison | None) -> str:
    """Where a number comes from, in words: which launches, which trace, which prediction, which comparison."""
    if not evidence:
        return ""
    if not isinstance(evidence, tuple):
        launches = plural(len(evidence.launches), "launch", "launches")
        sides = f"{evidence.baseline.spec} against {evidence.candidate.spec}"
        return f"{evidence.environment.device}; {sides}; {launches}; seed {evidence.seed}"
    launched, last = Launches.of(evidence), evidence[-1]
    if last.source != "measured":
        return f"trace of {last.spec}" if last.source == "computed" else str(last.spec)
    days, nodes = launched.days, launched.nodes
    when = f"; {ends(days)}" if days else ""
    protocol = f"protocol {last.protocol.name}; " if last.protocol else ""
    where = f" on {plural(nodes, 'node')}" if nodes else ""
    launches = plural(len(evidence), "launch", "launches")
    return f"{last.environment.device}; {last.spec}; {protocol}{launches}{where}{when}"


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
