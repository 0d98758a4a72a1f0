"""Predictions of a GPU that is not here, each with its 80 % interval, its tier and the reason for it.

They stand in tables of their own: a predicted number is set in italics and never shares a column with a measured one.
Beside it stands what a paper printed for the same network on that card, where one did.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.record.record import Record
from bench.record.units import GIB
from reports import cells
from reports.paper import prints
from reports.table import DASH, HEADS, Cell, Column, Note, Row, Table

NAME, VALIDATION = "predictions", "validation"

STEP_TIME = "step_time"


def layout(records: Sequence[Record], title: str) -> Table:
    """One row per predicted record, a section per card. Pure."""
    trained = any(record.get("peak_memory_allocated") for record in records)
    rates = [rate for record in records for rate in [_rate(record, "")] if rate]
    digits = cells.rate_digits(rates)
    rows = tuple(_row(record, digits, memory=trained) for record in records)
    dash = any(cell.text == DASH for row in rows for cell in row.cells)
    return Table(
        name=NAME,
        title=title,
        columns=tuple(_columns(memory=trained)),
        rows=rows,
        legend=(Note(term=DASH, text="not printed, or not predicted"),) if dash else (),
        remarks=("Predicted, not measured: a model's estimate from a trace, with an interval that held four of five "
                 "networks of families it was not fitted on (`validate-predictions`).",),
    )  # fmt: skip


def _columns(*, memory: bool) -> Iterator[Column]:
    yield Column(key="model", head=("model",), align="left")
    yield Column(key="image_size", head=("size",), unit="px", rank=3)
    yield Column(key="batch_size", head=("batch",), unit="count", rank=4)
    yield Column(key="throughput_published", group="img/s", head=(HEADS["published"],), unit="1/s", source="published",
                 rank=1)  # fmt: skip
    note = Note(term="img/s, predicted", text="images per second and the 80 % interval.")
    yield Column(key="throughput_predicted", group="img/s", head=(HEADS["predicted"],), unit="1/s", source="predicted",
                 notes=(note,))  # fmt: skip
    if memory:
        note = Note(term="training memory, predicted", text="GiB allocated, from the trace's peak of live tensors.")
        yield Column(key="train_memory_predicted", group="training memory", head=(HEADS["predicted"], "GiB"), unit="B",
                     source="predicted", notes=(note,))  # fmt: skip
    yield Column(key="tier", head=("tier",), align="left")


def _row(record: Record, digits: int, *, memory: bool) -> Row:
    spec = record.spec
    made = [
        cells.word(spec.model.partition(":")[2], spec.model),
        cells.word(str(spec.image_size), spec.image_size),
        cells.word(str(spec.batch_size), spec.batch_size),
        _printed(record),
        rate_cell(record, digits),
    ]
    made += [_memory(record)] if memory else []
    compiled = [f"compile {spec.compile_mode}"] if spec.compile_mode else []
    how = [spec.task, spec.precision, spec.memory_format, *compiled]
    section = f"{record.environment.device}, {', '.join(how)}"
    return Row(cells=(*made, _tier(record)), section=section, subject=spec.model)


def _rate(record: Record, suffix: str) -> float | None:
    seconds = record.value(STEP_TIME + suffix)
    return record.spec.batch_size / seconds if seconds else None


def rate_cell(record: Record, digits: int) -> Cell:
    """Images per second of a predicted record with the 80 % interval; a dash for a refusal."""
    centre, low, high = (_rate(record, suffix) for suffix in ("", ".high80", ".low80"))
    if centre is None or low is None or high is None:
        return Cell()
    return Cell(
        text=cells.decimals(centre, digits),
        value=centre,
        digits=digits,
        source="predicted",
        low=low,
        high=high,
        span=f"[{cells.decimals(low, digits)}, {cells.decimals(high, digits)}]",
        origin=str(record.spec),
    )


def _printed(record: Record) -> Cell:
    """What a paper printed for this network on this kind of card: by its inference protocol, not necessarily ours."""
    if record.spec.task != "inference":
        return Cell()
    card = record.environment.device.partition("-")[0].upper()
    rows = prints("throughput").get((record.spec.model, record.spec.image_size), ())
    found = (row.printed["throughput"] for row in rows)
    return cells.published(next((number for number in found if number.gpu == card), None))


def _memory(record: Record) -> Cell:
    value = record.value("peak_memory_allocated")
    if value is None:
        return Cell()
    low, high = (record.value(f"peak_memory_allocated.{end}80") for end in ("low", "high"))
    span = f"[{low / GIB:.2f}, {high / GIB:.2f}]" if low and high else ""
    return Cell(text=f"{value / GIB:.2f}", value=value, digits=2, source="predicted", low=low, high=high, span=span,
                origin=str(record.spec))  # fmt: skip


def _tier(record: Record) -> Cell:
    if record.failure is not None:
        return Cell(text="refused", value="refused", notes=(cells.sentence(record.failure.message),))
    found = record.get(STEP_TIME)
    flags = dict(flag.split(":", 1) for flag in found.flags) if found else {}
    reasons = found.warnings if found else ()
    return Cell(text=flags.get("tier", DASH), value=flags.get("tier"), notes=tuple(map(cells.sentence, reasons)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One calibration's held-out errors, as shares of a step's time, and those of two baselines."""

    device: str
    how: str
    rows: int
    families: int
    mean: float
    median: float
    p90: float
    rank: float
    coverage: float | None
    flops: float
    activations: float


def validation(lines: Sequence[Line]) -> Table:
    """How wrong predictions were on families of networks that they were not fitted on. Pure."""
    heads = (
        ("device", ("device",), ""), ("how", ("precision, format, task",), ""), ("rows", ("rows",), "count"),
        ("families", ("families",), "count"), ("mean", ("mean",), "%"), ("median", ("median",), "%"),
        ("p90", ("90th",), "%"), ("rank", ("rank",), ""), ("coverage", ("80 % holds",), "%"),
        ("flops", ("FLOPs only",), "%"), ("activations", ("acts only",), "%"),
    )  # fmt: skip
    groups = dict.fromkeys(("mean", "median", "p90"), "error")
    groups |= dict.fromkeys(("flops", "activations"), "mean error of")
    columns = tuple(
        Column(key=key, group=groups.get(key, ""), head=head, unit="%" if unit == "%" else "count" if unit else "",
               align="right" if unit or key == "rank" else "left")
        for key, head, unit in heads
    )  # fmt: skip
    rows = tuple(Row(cells=tuple(_cell(getattr(line, column.key), column.key) for column in columns)) for line in lines)
    remarks = (
        "Errors are |predicted / measured - 1| of a step's time on families (modules of networks) that were left out "
        "of the fit, one after the other; rank is Spearman's correlation; the 80 % interval is made of the others.",
    )
    return Table(name=VALIDATION, title="Predictions on families they were not fitted on", columns=columns, rows=rows,
                 remarks=remarks)  # fmt: skip


def _cell(value: str | float | None, key: str) -> Cell:
    if value is None:
        return Cell()
    if isinstance(value, str) or key in ("rows", "families"):
        return cells.word(f"{value:,}" if not isinstance(value, str) else value, value)
    if key == "rank":
        return Cell(text=f"{value:.3f}", value=value, digits=3)
    text = cells.decimals(value * 100, 0 if key == "coverage" else 1)
    return Cell(text=f"{text} %", value=value * 100, digits=1)
