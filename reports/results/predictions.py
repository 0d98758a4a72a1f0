"""Predictions of a GPU that is not here, each with its 80 % interval, its tier and the reason for it.

They stand in tables of their own: a predicted number is set in italics and never shares a column with a measured one.
Beside it stands what a paper printed for the same network on that card, where one did.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Sequence

from visionbench.record.prediction import MEMORY_METRICS, Prediction, prediction, ranks
from visionbench.record.record import Record
from visionbench.record.units import GIB
from visionbench.reports import cells
from visionbench.reports.printed import Number, prints
from visionbench.reports.table import DASH, HEADS, Cell, Column, Note, Row, Table

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
    trained = any(record.get(MEMORY_METRICS["allocated"]) for record in records)
    found = [prediction(record) for record in records]
    digits = cells.rate_digits([one.centre for one in found if one])
    places = _places(records, found)
    columns = tuple(_columns(memory=trained, ranked=any(places), printed=any(map(_printed, records))))
    shown = {column.key for column in columns}
    rows = tuple(_row(record, digits, place, shown) for record, place in zip(records, places, strict=True))
    dash = any(cell.text == DASH for row in rows for cell in row.cells)
    return Table(
        name=NAME,
        title=title,
        columns=columns,
        rows=rows,
        legend=(Note(term=DASH, text="not printed, or not predicted"),) if dash else (),
        remarks=tuple(_remarks(records, found)),
    )


def _places(records: Sequence[Record], found: Sequence[Prediction | None]) -> list[tuple[int, int] | None]:
    """The rank of each record among those of its section."""
    sections: dict[str, list[int]] = {}
    for index, record in enumerate(records):
        sections.setdefault(_section(record), []).append(index)
    places: dict[int, tuple[int, int] | None] = {}
    for members in sections.values():
        places |= dict(zip(members, ranks([found[index] for index in members]), strict=True))
    return [places[index] for index in range(len(records))]


def _remarks(records: Sequence[Record], found: Sequence[Prediction | None]) -> Iterator[str]:
    yield "Predicted, not measured: a model's estimate from a trace."
    tiers = {one.tier if one else "refused" for one in found}
    yield from (text for tier, text in TIERS.items() if tier in tiers)
    if any(_highest_memory(record) > (record.environment.device_memory or math.inf) for record in records):
        yield "The upper end of a process's memory is above what its card has: the batch may turn out not to fit."
    if tiers & {"calibrated", "anchored"}:
        yield ("The interval of calibrated and anchored rows held four of five networks of families that were left out "
               "(`validate-predictions`).")  # fmt: skip
    widest = max((one.resolution for one in found if one), default=0.0)
    if len(records) > 1 and widest:
        yield f"Rows that differ by less than ×{math.exp(widest):.2f} are not told apart: their ranks overlap."


def _columns(*, memory: bool, ranked: bool, printed: bool) -> Iterator[Column]:
    yield Column(key="model", head=("model",), align="left")
    yield Column(key="image_size", head=("size",), unit="px", rank=3)
    yield Column(key="batch_size", head=("batch",), unit="count", rank=0 if memory else 4)
    if printed:
        yield Column(key="throughput_published", group="img/s", head=(HEADS["published"],), unit="1/s",
                     source="published", rank=1)  # fmt: skip
    note = Note(term="img/s, predicted", text="images per second and the 80 % interval.")
    yield Column(key="throughput_predicted", group="img/s", head=(HEADS["predicted"],), unit="1/s", source="predicted",
                 notes=(note,))  # fmt: skip
    if ranked:
        note = Note(term="rank", text="place by predicted img/s within its section; from the best to the worst that it "
                    "may be, as far as predictions can tell.")  # fmt: skip
        yield Column(key="rank", group="img/s", head=("rank",), rank=2, notes=(note,))
    for index, name in enumerate(MEMORY_METRICS if memory else ()):
        note = Note(term="training memory, predicted", text="GiB with the 80 % interval. allocated: the peak of live "
                    "tensors; reserved: what the allocator holds; process: with the CUDA context.")  # fmt: skip
        yield Column(key=f"train_memory_{name}_predicted", group="training memory", head=(name, "GiB"),
                     unit="B", source="predicted", rank=5 if index else 0, notes=() if index else (note,))  # fmt: skip
    yield Column(key="tier", head=("tier",), align="left")


def _section(record: Record) -> str:
    spec = record.spec
    compiled = [f"compile {spec.compile_mode}"] if spec.compile_mode else []
    return ", ".join([record.environment.device, spec.task, spec.precision, spec.memory_format, *compiled])


def _row(record: Record, digits: int, place: tuple[int, int] | None, shown: Container[str]) -> Row:
    spec = record.spec
    made = {
        "model": cells.word(spec.model.partition(":")[2], spec.model),
        "image_size": cells.word(str(spec.image_size), spec.image_size),
        "batch_size": cells.word(str(spec.batch_size), spec.batch_size),
        "throughput_published": cells.published(_printed(record)),
        "throughput_predicted": rate_cell(record, digits),
        "rank": _rank(place),
        **{f"train_memory_{name}_predicted": _memory(record, metric) for name, metric in MEMORY_METRICS.items()},
        "tier": _tier(record),
    }
    return Row(
        cells=tuple(cell for key, cell in made.items() if key in shown), section=_section(record), subject=spec.model
    )


def _rank(place: tuple[int, int] | None) -> Cell:
    if place is None:
        return Cell()
    best, worst = place
    return cells.word(str(best) if best == worst else f"{best}-{worst}", best)


def rate_cell(record: Record, digits: int) -> Cell:
    """Images per second of a predicted record with the 80 % interval; a dash for a refusal."""
    found = prediction(record)
    if found is None:
        return Cell()
    return Cell(
        text=cells.decimals(found.centre, digits),
        value=found.centre,
        digits=digits,
        source="predicted",
        low=found.low,
        high=found.high,
        span=f"[{cells.decimals(found.low, digits)}, {cells.decimals(found.high, digits)}]",
        short_span=_ends(found.low, found.centre, found.high),
        origin=str(record.spec),
    )


def _printed(record: Record) -> Number | None:
    """What a paper printed for this network on this kind of card, run in that way."""
    spec = record.spec
    card = record.environment.device.partition("-")[0].upper()
    if (spec.task, spec.batch_size, spec.compile_mode, spec.precision, spec.memory_format) != PRINTED.get(card):
        return None
    rows = prints("throughput").get((record.spec.model, record.spec.image_size), ())
    found = (row.printed["throughput"] for row in rows)
    return next((number for number in found if number.gpu == card), None)


def _highest_memory(record: Record) -> float:
    memory = record.get("process_memory")
    return memory.high or 0.0 if memory else 0.0


def _memory(record: Record, metric: str) -> Cell:
    memory = record.get(metric)
    if memory is None:
        return Cell()
    value, low, high = memory.values[0], memory.low, memory.high
    span = f"[{low / GIB:.2f}, {high / GIB:.2f}]" if low and high else ""
    short = _ends(low, value, high) if low and high else ""
    return Cell(text=f"{value / GIB:.2f}", value=value, digits=2, source="predicted", low=low, high=high, span=span,
                short_span=short, origin=str(record.spec))  # fmt: skip


def _ends(low: float, centre: float, high: float) -> str:
    """`−13+24 %`: the ends of an interval for narrow places."""
    return f"{(low / centre - 1) * 100:+.0f}{(high / centre - 1) * 100:+.0f} %".replace("-", "−")


def _tier(record: Record) -> Cell:
    if record.failure is not None:
        return Cell(text="refused", value="refused", notes=(cells.sentence(record.failure.message),))
    found = prediction(record)
    if found is None:
        return Cell()
    return Cell(text=found.tier, value=found.tier, notes=(cells.sentence(found.reason),) if found.reason else ())
