"""The columns that a word of a simple file stands for: published, computed, predicted and measured side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from visionbench.reports import cells
from visionbench.reports.column import Column
from visionbench.reports.paper import columns, profiles, rates
from visionbench.reports.paper.counts import count_spec
from visionbench.reports.paper.material import Maker, Material
from visionbench.reports.printed import PaperRow
from visionbench.reports.table import HEADS, Cell, Note

Asked = tuple[Maker, dict[str, Any]]
"""A maker of columns with its arguments."""


def counts_of(row: PaperRow) -> tuple[Any, ...]:
    """The trace that a row's counts need; none where the network is not built."""
    return (count_spec(*row.network),) if row.model else ()


def _counted(material: Material, metric: str) -> Iterator[Column[PaperRow]]:
    """A printed count beside the exact one; the exact one alone where nothing is printed."""
    printed = any(metric in row.printed for row in material.rows)
    return (column for column in columns.counted(material, metric) if printed or column.source == "computed")


def _rates(material: Material) -> Iterator[Column[PaperRow]]:
    """Printed images per second, one column per GPU, then predicted and measured ones."""
    numbers = [number for row in material.rows for number in row.of_every_card("throughput")]
    for gpu in dict.fromkeys(number.gpu for number in numbers):
        yield _printed_rate(material, "throughput", gpu)
    yield from rates.predicted(material, [card for card in rates.CARDS if card in {n.gpu for n in numbers}])
    if material.inference or not numbers:
        yield from rates.measured(material)


def _train_rates(material: Material) -> Iterator[Column[PaperRow]]:
    numbers = [number for row in material.rows for number in row.of_every_card("train_throughput")]
    for gpu in dict.fromkeys(number.gpu for number in numbers):
        yield _printed_rate(material, "train_throughput", gpu)


def _printed_rate(material: Material, metric: str, gpu: str) -> Column[PaperRow]:
    group = rates.RATE if metric == "throughput" else f"training {rates.RATE}"
    numbers = (number for row in material.rows for number in row.of_every_card(metric) if number.gpu == gpu)
    protocols = tuple(dict.fromkeys(number.protocol for number in numbers if number.protocol))
    term = ", ".join(part for part in (group, HEADS["published"], gpu) if part)

    def fill(row: PaperRow) -> Cell:
        return cells.published(next((number for number in row.of_every_card(metric) if number.gpu == gpu), None))

    return Column(
        key="_".join(part for part in (metric, "published", profiles.slug(gpu)) if part),
        group=group,
        head=(HEADS["published"], gpu) if gpu else (HEADS["published"],),
        unit="1/s",
        source="published",
        rank=2,
        notes=tuple(Note(term=term, text=f"{protocol.rstrip('.')}.") for protocol in protocols),
        fill=fill,
    )


_ACTIVATIONS = "output elements of convolutions and matrix products, one image."

BY_WORD: dict[str, Asked] = {
    "size": (Maker(columns=columns.image_size), {}),
    "params": (Maker(columns=_counted, specs=counts_of), {"metric": "params"}),
    "flops": (Maker(columns=_counted, specs=counts_of), {"metric": "macs"}),
    "img/s": (Maker(columns=_rates), {}),
    "train img/s": (Maker(columns=_train_rates), {}),
    "top1": (
        Maker(columns=columns.printed),
        {"metric": "top1", "group": "top-1", "head": "%", "unit": "%", "rank": 5},
    ),
    "memory": (
        Maker(columns=columns.printed),
        {"metric": "train_memory", "group": "memory", "head": "GB", "unit": "GB", "rank": 6},
    ),
    "activations": (
        Maker(columns=columns.exact, specs=counts_of),
        {
            "metric": "activations",
            "group": "activations (M)",
            "rank": 5,
            "term": "activations",
            "note": _ACTIVATIONS,
        },
    ),
}


def asked(words: Sequence[str]) -> tuple[Asked, ...]:
    """The makers of the model's column and of those that the words stand for."""
    return ((Maker(columns=columns.model), {}), *(BY_WORD[word] for word in words))
