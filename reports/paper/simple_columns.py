"""The columns that a word of a simple file stands for: published, computed, predicted and measured side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from visionbench.reports import cells
from visionbench.reports.column import Column
from visionbench.reports.paper import columns, profiles, rates
from visionbench.reports.paper.material import Asked, Maker, Material, sourced
from visionbench.reports.printed import PaperRow
from visionbench.reports.table import HEADS, Cell, Note


def _counted(material: Material, metric: str) -> Iterator[Column[PaperRow]]:
    """A printed count beside the exact one; the exact one alone where nothing is printed."""
    printed = any(metric in row.printed for row in material.rows)
    return (column for column in columns.counted(material, metric) if printed or column.source == "computed")


def _rates(material: Material) -> Iterator[Column[PaperRow]]:
    """Printed images per second, one column per GPU, then predicted and measured ones."""
    yield from _printed_rates(material, "throughput")
    gpus = {number.gpu for row in material.rows for number in row.of_every_card("throughput")}
    yield from rates.predicted(material, [card for card in rates.CARDS if card in gpus])
    if material.inference or not gpus:
        yield from rates.measured(material)


def _printed_rates(material: Material, metric: str) -> Iterator[Column[PaperRow]]:
    """A printed rate, one column per GPU."""
    numbers = [number for row in material.rows for number in row.of_every_card(metric)]
    for gpu in dict.fromkeys(number.gpu for number in numbers):
        protocols = dict.fromkeys(number.protocol for number in numbers if number.gpu == gpu and number.protocol)
        yield _printed_rate(metric, gpu, tuple(protocols))


def _printed_rate(metric: str, gpu: str, protocols: Sequence[str]) -> Column[PaperRow]:
    group = rates.RATE if metric == "throughput" else f"training {rates.RATE}"
    term = ", ".join(part for part in (group, HEADS["published"], gpu) if part)

    def fill(row: PaperRow) -> Cell:
        return cells.published(next((number for number in row.of_every_card(metric) if number.gpu == gpu), None))

    key = "_".join(part for part in (metric, "published", profiles.slug(gpu)) if part)
    notes = tuple(Note(term=term, text=f"{protocol.rstrip('.')}.") for protocol in protocols)
    return sourced("published", key, group, (gpu,) if gpu else (), "1/s", 2, fill, notes)


_ACTIVATIONS = {
    "term": "activations",
    "note": "output elements of convolutions and matrix products, one image.",
}

BY_WORD: dict[str, Asked] = {
    "model": (Maker(columns=columns.model), {}),
    "size": (Maker(columns=columns.image_size), {}),
    "params": (Maker(columns=_counted, specs=columns.counts_of), {"metric": "params"}),
    "flops": (Maker(columns=_counted, specs=columns.counts_of), {"metric": "macs"}),
    "img/s": (Maker(columns=_rates), {}),
    "train img/s": (Maker(columns=_printed_rates), {"metric": "train_throughput"}),
    "top1": (
        Maker(columns=columns.printed),
        {"metric": "top1", "group": "top-1", "head": "%", "unit": "%", "rank": 5},
    ),
    "memory": (
        Maker(columns=columns.printed),
        {"metric": "train_memory", "group": "memory", "head": "GB", "unit": "GB", "rank": 6},
    ),
    "activations": (
        Maker(columns=columns.exact, specs=columns.counts_of),
        {"metric": "activations", "group": "activations (M)", "rank": 5} | _ACTIVATIONS,
    ),
}
