"""Which card is the odd one: every card of every node, its speed against its likes, and what its driver counts.

A card's speed is the median over the rows that it measured, each against the median of all cards of its kind. A card
stands out that is outside of Tukey's fences, one and a half interquartile ranges beyond the quartiles, and at least
`AT_LEAST` off.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import TYPE_CHECKING

from visionbench.record.record import Health, Record, is_unfit
from visionbench.record.statistics import images_per_second
from visionbench.reports import cells
from visionbench.reports.column import Column, label, lay_out
from visionbench.reports.launches import grouped, unfit_nodes
from visionbench.reports.paper.report import Report
from visionbench.reports.settings import device_name
from visionbench.reports.table import DASH, Cell, Note, Table

if TYPE_CHECKING:
    from visionbench.comparison.comparison import Comparison

NAME, TITLE = "nodes", "Cards of a cluster, each against its likes"

FEWEST, FENCE, AT_LEAST = 4, 1.5, 0.01
"""Fewer cards have no quartiles worth the name; a difference below a percent is no finding."""

SPEED = Note(
    term="speed",
    text="images per second against the median of all cards of this kind, the median over the rows measured on it.",
)

CardKey = tuple[str, str, str]
"""Node, the card's own number, and the kind of card."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CardRuns:
    """One card of one node, its launches, its speed against its likes (1 is theirs), and whether it stands out."""

    launches: tuple[Record, ...]
    speed: float | None
    odd: bool

    @property
    def node(self) -> str:
        """Its node's name."""
        return self.launches[-1].environment.node or DASH

    @property
    def unfit(self) -> str:
        """Why a job measured nothing on it; "" where none said so."""
        return next((r.failure.message for r in reversed(self.launches) if r.failure and is_unfit(r)), "")

    @property
    def health(self) -> Health:
        """The newest that its driver counted."""
        return self.launches[-1].environment.health or Health()


def layout(records: Sequence[Record], comparisons: Sequence[Comparison] = ()) -> Table:  # noqa: ARG001 -- as every table
    """One row per card that a record names the node of. Pure."""
    cards = cards_of(records)
    return lay_out(
        NAME,
        TITLE,
        cards,
        COLUMNS,
        section=lambda card: device_name(card.launches[-1].environment),
        subject=lambda card: card.node,
        caveats=tuple(_remarks(cards)),
    )


def cards_of(records: Sequence[Record]) -> tuple[CardRuns, ...]:
    """Every card, by kind, in the order of their nodes' names."""

    def card(record: Record) -> CardKey:
        where = record.environment
        return (where.device, where.node or "", where.gpu_uuid or "")

    named = (record for record in records if record.source == "measured" and record.environment.node is not None)
    launches = grouped(named, card)
    speeds = _speeds(launches)
    odd = _odd(speeds)
    return tuple(
        CardRuns(launches=tuple(launches[key]), speed=speeds.get(key), odd=key in odd) for key in sorted(launches)
    )


def _speeds(launches: dict[CardKey, list[Record]]) -> dict[CardKey, float]:
    rows: defaultdict[object, defaultdict[CardKey, list[float]]] = defaultdict(lambda: defaultdict(list))
    for card, its in launches.items():
        for record in its:
            if (rate := images_per_second(record)) is not None:
                rows[record.key][card].append(rate)
    ratios: defaultdict[CardKey, list[float]] = defaultdict(list)
    for by_card in rows.values():
        rates = {card: median(its) for card, its in by_card.items()}
        if len(rates) > 1:
            usual = median(rates.values())
            for card, rate in rates.items():
                ratios[card].append(rate / usual)
    return {card: median(its) for card, its in ratios.items()}


def _odd(speeds: dict[CardKey, float]) -> set[CardKey]:
    """The cards outside of their kind's fences."""
    odd: set[CardKey] = set()
    for cards in grouped(speeds, lambda card: card[0]).values():
        if len(cards) >= FEWEST:
            first, _, third = quantiles([speeds[card] for card in cards], n=4, method="inclusive")
            low, high = first - FENCE * (third - first), third + FENCE * (third - first)
            off = (card for card in cards if abs(speeds[card] - 1) >= AT_LEAST)
            odd |= {card for card in off if not low <= speeds[card] <= high}
    return odd


def _speed(card: CardRuns) -> Cell:
    left_out = (f"Left out: {card.unfit}.",) if card.unfit else ()
    if card.speed is None:
        return cells.failed(card.launches, left_out) if card.unfit else Cell()
    notes = (*left_out, *(("Outside of one and a half interquartile ranges of its likes.",) if card.odd else ()))
    text = f"{(card.speed - 1) * 100:+.1f} %".replace("-", "−")
    return cells.plain(text, card.speed, card.launches, digits=1, notes=notes)


def _of(now: float | None, most: float | None = None) -> str:
    """`8 of 16`; the number alone where it is the most that can be."""
    counted = DASH if now is None else f"{now:g}"
    return counted if most is None or now == most else f"{counted} of {most:g}"


COLUMNS: tuple[Column[CardRuns], ...] = (
    label("node", "node", lambda card: card.node),
    label("gpu_uuid", "card", lambda card: (card.launches[-1].environment.gpu_uuid or DASH)[:8], rank=5),
    label("launches", "n", lambda card: str(sum(not is_unfit(r) for r in card.launches)), align="right", rank=3),
    Column(key="speed", head=("speed",), unit="1", source="measured", notes=(SPEED,), fill=_speed),
    label("ecc_uncorrected", "ECC errors", lambda card: _of(card.health.ecc_uncorrected), align="right", rank=2),
    label("rows_remapped", "rows remapped", lambda card: _of(card.health.rows_remapped), align="right", rank=2),
    label(
        "pcie_width",
        "PCIe lanes",
        lambda card: _of(card.health.pcie_width, card.health.pcie_width_max),
        align="right",
        rank=4,
    ),
    label(
        "power_limit",
        "power limit, W",
        lambda card: _of(card.launches[-1].environment.power_limit, card.health.power_limit_default),
        align="right",
        rank=4,
    ),
)


def _remarks(cards: Sequence[CardRuns]) -> Iterator[str]:
    if not cards:
        yield "No record names a node: jobs of --cluster do, and runs inside a Slurm job."
        return
    yield from unfit_nodes(record for card in cards for record in card.launches)
    for card in cards:
        if card.odd and card.speed is not None:
            word = "slower" if card.speed < 1 else "faster"
            yield f"The odd one: {card.node}, {abs(card.speed - 1) * 100:.1f} % {word} than its likes."
    if any(card.speed is not None for card in cards) and not any(card.odd for card in cards):
        yield f"No card stands out (a kind needs {FEWEST} cards for that to be said)."


REPORT = Report(name=NAME, title=TITLE, paper_table="", layout=layout)
