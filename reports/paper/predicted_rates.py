"""Columns of predicted images per second, for the cards that the paper measured on, beside what it printed.

They are of predicted records: a source of their own, in italics, with the 80 % interval. Without such records there is
no column.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from visionbench.record.record import Record
from visionbench.reports.paper.columns import RATE, Plan
from visionbench.reports.printed import PaperRow
from visionbench.reports.results import predictions
from visionbench.reports.table import HEADS, Cell, Column, Note

CARDS = {"V100": "v100-sxm2-16gb", "A100": "a100-sxm4-40gb"}
"""The paper's words for its cards, and the data sheets that are taken for them."""


def plans(records: Sequence[Record], *gpus: str) -> tuple[Plan, ...]:
    """One column per card of `gpus` for which there are predictions."""
    cards = by_card(records)
    return tuple(_plan(gpu, cards[CARDS[gpu]]) for gpu in gpus if CARDS[gpu] in cards)


def by_card(records: Iterable[Record]) -> dict[str, dict[tuple[str, int], Record]]:
    """Predictions of inference by card (its key) and network (model, image size): those run as the card's last one."""
    cards: dict[str, list[Record]] = {}
    for record in records:
        if record.source == "predicted" and record.spec.task == "inference":
            cards.setdefault(record.environment.device_key or "", []).append(record)
    return {card: _run_alike(found) for card, found in cards.items()}


def _run_alike(found: Sequence[Record]) -> dict[tuple[str, int], Record]:
    last = found[-1].spec
    alike = (one for one in found if replace(one.spec, model=last.model, image_size=last.image_size) == last)
    return {(one.spec.model, one.spec.image_size): one for one in alike}


def _plan(gpu: str, by_network: dict[tuple[str, int], Record]) -> Plan:
    spec = next(iter(by_network.values())).spec
    note = Note(
        term=f"{RATE}, {HEADS['predicted']}, {gpu}",
        text=f"an estimate from the trace for a {CARDS[gpu]}, {spec.precision}, {spec.memory_format}, "
        f"{spec.attention} attention, batch {spec.batch_size}, with its 80 % interval; not measured, and fitted to "
        "printed rows of this card (`predict`, `validate-predictions`).",
    )
    column = Column(
        key=f"throughput_predicted_{gpu.lower()}",
        group=RATE,
        head=(HEADS["predicted"], gpu),
        unit="1/s",
        source="predicted",
        rank=6,
        notes=(note,),
    )

    def fill(row: PaperRow) -> Cell:
        record = by_network.get(row.network)
        return predictions.rate_cell(record, 1) if record else Cell()

    return Plan(column=column, fill=fill)
