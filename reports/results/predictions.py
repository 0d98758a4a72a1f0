"""Predictions of a GPU that is not here, each with its 80 % interval, its tier and the reason for it.

They have separate tables: a predicted number is set in italics and never shares a column with a measured one.
Beside it stands what a paper printed for the same network on that card, where one did.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from visionbench.record.devices import DEVICES
from visionbench.record.prediction import MEMORY_METRICS, Counter, Prediction, prediction, ranks
from visionbench.record.record import Record
from visionbench.record.units import GIB
from visionbench.reports import cells
from visionbench.reports.column import Column, lay_out, number
from visionbench.reports.launches import grouped
from visionbench.reports.paper.rates import RATE, predicted_rate
from visionbench.reports.printed import Number, convnext
from visionbench.reports.table import HEADS, Cell, Note, Table

NAME = "predictions"

PRINTED = {
    "V100": ("inference", 64, None, "fp32", "contiguous"),
    "A100": ("inference", 64, None, "tf32", "channels_last"),
}
"""How the printed rows of our tables were measured: task, batch, compiler, precision and memory format."""

TIERS = {
    "ratio": "ratio: measured on another card, times the ratio of two predictions.",
    "calibrated": "calibrated: fitted to many rows of this card, or to your own.",
    "anchored": "anchored: fitted to the rows that papers print for this card or its sister.",
    "data sheet": "data sheet: no row of this card: multipliers of others, or believed ones; a judged interval.",
    "refused": "refused: nothing would be better than this guess; the footnote says why.",
}  # fmt: skip


def layout(records: Sequence[Record], title: str) -> Table:
    """One row per predicted record, a section per card and way of running. Pure."""
    estimates = [prediction(record) for record in records]
    places = _places(records, estimates)
    rows = [Predicted(record=r, estimate=e, place=p) for r, e, p in zip(records, estimates, places, strict=True)]
    return lay_out(
        NAME,
        title,
        rows,
        tuple(_columns(rows)),
        section=lambda row: _section(row.record),
        subject=lambda row: row.record.spec.model,
        dash="not printed, or not predicted",
        remarks=_remarks(records, estimates),
    )


PAPERS = Note(
    term=f"{RATE}, {HEADS['published']}",
    text="as printed for an A100 or a V100; papers do not say which of its variants (memory, SXM or PCIe) that was.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """One row: a predicted record, its estimate (None for a refusal) and its place, from the best to the worst."""

    record: Record
    estimate: Prediction | None
    place: tuple[int, int] | None


def _places(records: Sequence[Record], found: Sequence[Prediction | None]) -> list[tuple[int, int] | None]:
    """The rank of each record among those of its section."""
    places: dict[int, tuple[int, int] | None] = {}
    for members in grouped(range(len(records)), lambda index: _section(records[index])).values():
        places |= dict(zip(members, ranks([found[index] for index in members]), strict=True))
    return [places[index] for index in range(len(records))]


def _remarks(records: Sequence[Record], found: Sequence[Prediction | None]) -> Iterator[str]:
    yield "Predicted, not measured: a model's estimate from a trace."
    tiers = {one.tier if one else "refused" for one in found}
    yield from (text for tier, text in TIERS.items() if tier in tiers)
    if any(
        (getattr(record.get("process_memory"), "high", None) or 0) > (record.environment.device_memory or math.inf)
        for record in records
    ):
        yield "The upper end of a process's memory is above what its card has: the batch may turn out not to fit."
    if tiers & {"calibrated", "anchored"}:
        yield ("The interval of calibrated and anchored rows held four of five networks of families that were left out "
               "(`validate-predictions`).")  # fmt: skip
    widest = max((one.resolution for one in found if one), default=0.0)
    if len(records) > 1 and widest:
        yield f"Rows that differ by less than ×{math.exp(widest):.2f} share a rank."


def _columns(rows: Sequence[Predicted]) -> Iterator[Column[Predicted]]:
    memory = any(row.record.get(MEMORY_METRICS["allocated"]) for row in rows)
    digits = cells.rate_digits([row.estimate.centre for row in rows if row.estimate])
    yield Column(key="model", head=("model",), align="left", fill=_model)
    yield Column(key="image_size", head=("size",), unit="px", rank=3, fill=_size)
    yield Column(
        key="batch_size",
        head=("batch",),
        unit="count",
        rank=0 if memory else 4,
        fill=lambda row: cells.word(str(row.record.spec.batch_size), row.record.spec.batch_size),
    )
    cards = {(row.record.environment.device_key or "").partition("-")[0] for row in rows if _printed(row.record)}
    if cards:
        variants = [device.key for device in DEVICES if device.key.partition("-")[0] in cards]
        papers = (PAPERS,) if len(variants) > len(cards) else ()

        def printed(row: Predicted) -> Cell:
            return cells.published(_printed(row.record))

        head = HEADS["published"]
        yield number("throughput_published", head, "1/s", printed, *papers, source="published", group=RATE, rank=1)

    def rate(row: Predicted) -> Cell:
        return predicted_rate(row.record, digits)

    interval = Note(term="img/s, predicted", text="images per second and the 80 % interval.")
    head = HEADS["predicted"]
    yield number("throughput_predicted", head, "1/s", rate, interval, source="predicted", group=RATE)
    if any(row.place for row in rows):
        text = (
            "place by predicted img/s within its section; from the best to the worst that it may be, as far as "
            "predictions can tell."
        )
        notes = (Note(term="rank", text=text),)
        yield Column(key="rank", group=RATE, head=("rank",), rank=2, notes=notes, fill=_rank)
    if memory:
        yield from map(_memory, MEMORY_METRICS)
    yield Column(key="tier", head=("tier",), align="left", fill=_tier)


def _section(record: Record) -> str:
    spec = record.spec
    compiled = [f"compile {spec.compile_mode}"] if spec.compile_mode else []
    return ", ".join([record.environment.device, spec.task, spec.precision, spec.memory_format, *compiled])


def _model(row: Predicted) -> Cell:
    model = row.record.spec.model
    return cells.word(model if model.startswith("user:") else model.partition(":")[2], model)


def _size(row: Predicted) -> Cell:
    spec = row.record.spec
    if not spec.pixels:
        return Cell()
    return cells.word(spec.pixels, spec.image_size if isinstance(spec.image_size, int) else None)


def _rank(row: Predicted) -> Cell:
    if row.place is None:
        return Cell()
    best, worst = row.place
    return cells.word(str(best) if best == worst else f"{best}-{worst}", best)


def _printed(record: Record) -> Number | None:
    """What a paper printed for this network on this kind of card, run in that way."""
    spec = record.spec
    card = record.environment.device.partition("-")[0].upper()
    how = (spec.task, spec.batch_size, spec.compile_mode, spec.precision, spec.memory_format)
    if how != PRINTED.get(card) or spec.inputs:
        return None
    rows = convnext().prints("throughput", (spec.model, spec.image_size))
    numbers = (row.printed["throughput"] for row in rows)
    return next((number for number in numbers if number.gpu == card), None)


def _memory(counter: Counter) -> Column[Predicted]:
    """The column of one counter of training memory; the first of them carries the note and stays the longest."""
    metric, first = MEMORY_METRICS[counter], counter == next(iter(MEMORY_METRICS))
    text = (
        "GiB with the 80 % interval. allocated: the peak of live tensors; reserved: what the allocator holds; process: "
        "with the CUDA context."
    )

    def fill(row: Predicted) -> Cell:
        measurement = row.record.get(metric)
        if measurement is None:
            return Cell()
        return cells.predicted(measurement.values[0], measurement.low, measurement.high, 2, row.record, GIB)

    return Column(
        key=f"train_memory_{counter}_predicted",
        group="training memory",
        head=(counter, "GiB"),
        unit="B",
        source="predicted",
        rank=0 if first else 5,
        notes=(Note(term="training memory, predicted", text=text),) if first else (),
        fill=fill,
    )


def _tier(row: Predicted) -> Cell:
    tier, why = "", ""
    if row.record.failure is not None:
        tier, why = "refused", row.record.failure.message
    elif row.estimate is not None:
        tier, why = row.estimate.tier, row.estimate.reason
    return Cell(text=tier, value=tier, notes=(cells.sentence(why),) if why else ()) if tier else Cell()
