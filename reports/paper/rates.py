"""Columns of images per second: printed, measured here, and predicted for the cards that a paper measured on.

Measured ones are one per group of equal settings, the newest groups first. A doubt that holds for a whole column (one
launch a row, a busy machine) is said once in the column's note; one that holds for a cell is its footnote. A failed
measurement says its cause where the number would stand. Predicted ones are a separate source, in italics, with the
80 % interval; without predicted records there is no such column.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from visionbench.record.prediction import prediction
from visionbench.record.program import program_name
from visionbench.record.record import Record
from visionbench.record.statistics import Estimate, images_per_second, ratio_over_nodes
from visionbench.record.units import plural
from visionbench.reports import cells
from visionbench.reports.cells import CAUSES
from visionbench.reports.column import Column
from visionbench.reports.launches import Launches
from visionbench.reports.paper import columns
from visionbench.reports.paper.material import Maker, Material, sourced
from visionbench.reports.printed import Network, PaperRow
from visionbench.reports.settings import Group, describe, failure, flags, heads, of_every_card
from visionbench.reports.table import HEADS, Cell, Note

RATE = "img/s"

RANKS = (1, 6, 8)
"""How important the newest, second and third newest group are (see `Heading.rank`); a card that is in none of them has
its newest group beside them, as important as the last. A remark says how many groups were left out."""

CARDS = {"V100": "v100-sxm2-16gb", "A100": "a100-sxm4-40gb"}
"""Papers' words for cards, and the data sheets that are taken for them."""

GAIN = Note(
    term="gain",
    text="throughput over that of the Swin in the row above, same size. Measured: the quotient of two centres, "
    "without an interval, because the two were not measured in turns.",
)

GAIN_PER_CARD = Note(
    term="gain",
    text="throughput over that of the Swin in the row above, same size. Measured: over nodes, each card against "
    "itself. "
    "What sets a card apart from its likes cancels.",
)


def printed(material: Material, gpu: str, protocol: str, table: str = "", rank: int = 2) -> Iterator[Column[PaperRow]]:
    """The paper's images per second on its GPU, with how they came about; of another `table`'s row of the network."""
    key, term = f"throughput_published_{gpu.lower()}", f"{RATE}, {HEADS['published']}, {gpu}"
    note = f"{material.publication.protocols[protocol]}."
    return columns.printed(material, "throughput", gpu, "1/s", rank, key, RATE, table, term, note)


def printed_gains(material: Material, gpu: str, protocol: str) -> Iterator[Column[PaperRow]]:
    """The paper's throughput and gain, under one header; where it prints no gain, the quotient of what it prints."""

    def fill(row: PaperRow) -> Cell:
        if (number := row.printed.get("gain")) is not None:
            return replace(cells.published(number), text=f"+{number.text} %", value=1 + number.value / 100)
        above = material.publication.rival(row)
        mine, other = row.printed.get("throughput"), above.printed.get("throughput") if above else None
        if above is None or mine is None or other is None:
            return Cell()
        ratio = mine.value / other.value
        origin = f"{mine.text} over {other.text} {mine.unit}, as printed for {row.label} and {above.label}"
        return Cell(text=f"{(ratio - 1) * 100:+.0f} %", value=ratio, source="published", origin=origin)

    group = f"{HEADS['published']}, {gpu}"
    for rate in printed(material, gpu, protocol):
        yield replace(rate, group=group, head=(RATE,))
    yield Column(
        key="gain_published",
        group=group,
        head=("gain",),
        unit="1",
        source="published",
        rank=2,
        notes=(GAIN,),
        fill=fill,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """A group that is shown: its header, its place in the order of importance, and each network's estimate."""

    group: Group
    head: tuple[str, ...]
    rank: int
    estimates: dict[Network, Estimate]


def shown(found: Sequence[Group]) -> tuple[Rates, ...]:
    """The newest groups with their estimates."""
    newest = of_every_card(found, len(RANKS), 1)
    ranks = (*RANKS, *[RANKS[-1]] * len(newest))
    return tuple(
        Rates(
            group=group,
            head=head,
            rank=rank,
            estimates={network: row.throughput for network, row in group.launches.items() if row.throughput},
        )
        for group, head, rank in zip(newest, heads(newest), ranks, strict=False)
    )


def measured(material: Material, groups: int = 0) -> Iterator[Column[PaperRow]]:
    """One column per group, at most `groups` (0: all that are shown); one of dashes where nothing was measured."""
    rates = shown(material.inference)[: groups or None]
    yield from map(_measured, rates)
    if not rates:
        yield _heading("throughput_measured", ("here",), RANKS[0], ())


def _measured(rates: Rates) -> Column[PaperRow]:
    """The column of one group."""
    group, estimates = rates.group, rates.estimates
    numbers = list(estimates.values())
    digits = cells.rate_digits(estimate.centre for estimate in numbers)
    common, over = _common(group, numbers), cells.over(numbers)
    text = f"{describe(group)}." + (f" Interval: 95 %, {over}." if over else "")
    text += f" Every row: {'; '.join(sorted(common))}." if common else ""
    note = Note(term=", ".join((RATE, HEADS["measured"], *rates.head)), text=text)

    def fill(row: PaperRow) -> Cell:
        launches, estimate = group.launches.get(row.network, Launches()), estimates.get(row.network)
        if estimate is None:
            return cells.failed(launches)
        lost = [record.failure.kind for record in launches if record.failure]
        causes = ", ".join(dict.fromkeys(CAUSES[kind] for kind in lost))
        failed = (f"{len(lost)} of {len(launches)} launches failed ({causes})",) if lost else ()
        doubts = (*cells.few(estimate), *flags(launches, "throughput"), *failed)
        notes = tuple(cells.sentence(doubt) for doubt in doubts if doubt not in common)
        return cells.measured(estimate, digits, notes, launches)

    heading = _heading(f"throughput_measured_{group.setting.slug}", rates.head, rates.rank, (note,))
    return replace(heading, fill=fill)


def _heading(key: str, head: tuple[str, ...], rank: int, notes: tuple[Note, ...]) -> Column[PaperRow]:
    """A column of dashes, until it is given something to fill it with."""
    return sourced("measured", key, RATE, head, "1/s", rank, lambda _row: Cell(), notes)


def measured_gains(material: Material) -> Iterator[Column[PaperRow]]:
    """Each group's throughput and gain, under one header."""
    rates = shown(material.inference)
    for one_group in rates:
        device, *settings = one_group.head
        group = f"{HEADS['measured']}, {device}"
        yield replace(_measured(one_group), group=group, head=(*settings, RATE))
        yield _gain(material, one_group, group)
    if not rates:
        yield from measured(material)


def _gain(material: Material, rates: Rates, group: str) -> Column[PaperRow]:
    def fill(row: PaperRow) -> Cell:
        """The quotient of two rows of one group, where both have a number."""
        above = material.publication.rival(row)
        mine, other = rates.estimates.get(row.network), rates.estimates.get(above.network) if above else None
        if above is None or mine is None or other is None:
            return Cell()
        mine_of, others = rates.group.launches[row.network], rates.group.launches[above.network]
        if (ratio := ratio_over_nodes(mine_of, others, images_per_second)) is not None:  # each card against itself
            return _spanned(ratio, rates, row, above)
        quotient = mine.centre / other.centre
        origin = f"{row.model} over {above.model} at {row.image_size} px; {rates.group.setting.device}"
        return cells.plain(f"{(quotient - 1) * 100:+.0f} %", quotient, [*others, *mine_of], origin=origin)

    per_card = any(estimate.nodes > 1 for estimate in rates.estimates.values())
    return Column(
        key=f"gain_measured_{rates.group.setting.slug}",
        group=group,
        head=("gain",),
        unit="1",
        source="measured",
        rank=rates.rank,
        notes=(GAIN_PER_CARD if per_card else GAIN,),
        fill=fill,
    )


def _spanned(ratio: Estimate, rates: Rates, row: PaperRow, above: PaperRow) -> Cell:
    low, high, whole = ratio.low, ratio.high, (ratio.least, ratio.most)
    ends = [f"{(end - 1) * 100:+.0f}" for end in ((low, high) if low is not None else whole) if end is not None]
    origin = (
        f"{row.model} over {above.model} at {row.image_size} px on {ratio.nodes} nodes; {rates.group.setting.device}"
    )
    launches = [*rates.group.launches[above.network], *rates.group.launches[row.network]]
    cell = cells.plain(f"{(ratio.centre - 1) * 100:+.0f} %", ratio.centre, launches, origin=origin)
    span = f"[{', '.join(ends)} %]" if low is not None else f"({' to '.join(ends)} %)"
    level = None if low is None else 0.95
    return replace(
        cell, low=low, high=high, level=level, least=ratio.least, most=ratio.most, span=span, short_span=span
    )


def _common(group: Group, estimates: Sequence[Estimate]) -> frozenset[str]:
    """The doubts that hold for every number of the column."""
    having = [launches for network, launches in group.launches.items() if not failure(launches)]
    doubts = [frozenset(flags(launches, "throughput")) for launches in having]
    common = frozenset.intersection(*doubts) if doubts else frozenset()
    few = {cells.few(estimate) for estimate in estimates}
    return common | frozenset(*few) if len(few) == 1 else common


def left_out(material: Material, **_arguments: object) -> tuple[str, ...]:
    """What to say about measurements that are not shown, or about there being none."""
    if not material.inference:
        command = f"{program_name()} run --table {material.name}"
        return (f"Nothing measured yet: `{command}` measures these rows on this machine.",)
    more = len(material.inference) - len(of_every_card(material.inference, len(RANKS), 1))
    if more < 1:
        return ()
    return (f"{plural(more, 'older group')} of measurements (other devices or settings) not shown.",)


def predicted(material: Material, gpus: Sequence[str]) -> Iterator[Column[PaperRow]]:
    """One column per card of `gpus` for which there are predictions."""
    networks = {row.network for row in material.rows}
    predictions = by_card(r for r in material.records.predicted if (r.spec.model, r.spec.image_size) in networks)
    for gpu in gpus:
        if CARDS.get(gpu) in predictions:
            yield _predicted(gpu, predictions[CARDS[gpu]])


def by_card(records: Iterable[Record]) -> dict[str, dict[Network, Record]]:
    """Predictions of inference by card (its key) and network (model, image size): those run as the card's last one."""
    cards: dict[str, list[Record]] = {}
    for record in records:
        if record.source == "predicted" and record.spec.task == "inference":
            cards.setdefault(record.environment.device_key or "", []).append(record)
    by_network: dict[str, dict[Network, Record]] = {}
    for card, predictions in cards.items():
        last = predictions[-1].spec
        by_network[card] = {
            (spec.model, spec.image_size): record
            for record in predictions
            if replace(spec := record.spec, model=last.model, image_size=last.image_size) == last
        }
    return by_network


def _predicted(gpu: str, by_network: dict[Network, Record]) -> Column[PaperRow]:
    spec = next(iter(by_network.values())).spec
    note = Note(
        term=f"{RATE}, {HEADS['predicted']}, {gpu}",
        text=f"an estimate from the trace for a {CARDS[gpu]}, {spec.precision}, {spec.memory_format}, "
        f"{spec.attention} attention, batch {spec.batch_size}, with its 80 % interval. Not measured; fitted to "
        "printed rows of this card (`predict`, `validate-predictions`).",
    )
    key = f"throughput_predicted_{gpu.lower()}"
    return sourced(
        "predicted", key, RATE, (gpu,), "1/s", 6, lambda row: predicted_rate(by_network.get(row.network), 1), (note,)
    )


def predicted_rate(record: Record | None, digits: int) -> Cell:
    """Images per second of a predicted record with the 80 % interval; a dash for a refusal or no record."""
    estimate = prediction(record) if record else None
    if record is None or estimate is None:
        return Cell()
    return cells.predicted(estimate.centre, estimate.low, estimate.high, digits, record)


COLUMNS: dict[str, Maker] = {
    "printed_rate": Maker(columns=printed),
    "printed_gains": Maker(columns=printed_gains),
    "measured_rates": Maker(columns=measured, remarks=left_out),
    "measured_gains": Maker(columns=measured_gains, remarks=left_out),
    "predicted_rates": Maker(columns=predicted),
}
