"""Columns of predicted images per second, for the cards that the paper measured on, beside what it printed.

They are of predicted records: a source of their own, in italics, with the 80 % interval. Without such records there is
no column.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench.record.record import Record
from reports import predictions
from reports.columns import RATE, Plan
from reports.paper import PaperRow
from reports.table import HEADS, Cell, Column, Note

CARDS = {"V100": "v100-sxm2-16gb", "A100": "a100-sxm4-40gb"}
"""The paper's words for its cards, and the data sheets that are taken for them."""


def plans(records: Sequence[Record], *gpus: str) -> tuple[Plan, ...]:
    """One column per card of `gpus` for which there are predictions."""
    found = [record for record in records if record.source == "predicted" and record.spec.task == "inference"]
    made = ((gpu, [one for one in found if one.environment.device_key == CARDS[gpu]]) for gpu in gpus)
    return tuple(_plan(gpu, its) for gpu, its in made if its)


def _plan(gpu: str, found: Sequence[Record]) -> Plan:
    by_network = {(record.spec.model, record.spec.image_size): record for record in found}
    spec = found[-1].spec
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
