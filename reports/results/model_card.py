"""One model's card: what it is, what one step costs, where, and what the MAC rule leaves out; for training,
its memory.

The card is a few tables over one computed record and its breakdowns. All numbers on it are exact counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from visionbench.record import counters, units
from visionbench.record.counters import Line
from visionbench.record.record import Record
from visionbench.reports.cells import word
from visionbench.reports.table import Cell, Heading, Row, Table


def facts(record: Record, title: str, origin: str, lines: Sequence[Line] = ()) -> Table:
    """The first table: parameters and the counts of one image and of one step, to which `lines` add up."""
    batch = record.spec.batch_size
    step = "forward" if record.spec.task == "inference" else "forward, backward and AdamW"
    image = f"one image, {step}" if batch == 1 else f"one image of {batch}, {step}"
    peak = f"live tensors, {record.spec.attention} attention; a lower bound of the allocator's"
    shown = [
        ("params", record.value("params"), "all parameters, tied ones once"),
        ("MACs", record.value("macs"), f"{image}; convolutions, linear layers, both attention products"),
        ("FLOPs", record.value("flops"), f"{image}; 2 x MACs"),
        ("activations", record.value("activations"), f"{image}; output elements of the operators that have MACs"),
        ("operators", record.value("operators"), f"one batch of {batch}, {step}; views not counted"),
        (TRAFFIC, record.value("bytes"), "the same batch; every operator reads its inputs and writes its outputs"),
        (MEMORY, record.value("peak_memory_live"), peak),
    ]
    if batch > 1:  # what the breakdowns below are parts of
        macs, activations = sum(line.macs for line in lines), sum(line.activations for line in lines)
        whole = (("MACs, step", macs), ("act., step", activations))
        shown[4:4] = [(name, value, f"all {batch} images, {step}") for name, value in whole if value]
    rows = []
    for name, value, note in shown:
        if value is not None:
            unit = "B" if name in (TRAFFIC, MEMORY) else "count"
            exactly = Cell(text=f"{value:,.0f}{' B' if unit == 'B' else ''}", value=int(value), source="computed")
            rows.append(Row(cells=(word(name), _count(value, unit), exactly, word(note))))
    columns = (_column("count", "left"), _column("value"), _column("exactly"), _column("of what", "left", rank=1))
    return Table(name="facts", title=title, columns=columns, rows=tuple(rows), remarks=(origin,))


TRAFFIC, MEMORY = "memory traffic", "peak memory"
"""The facts that are bytes."""


def memory(record: Record, peak_phase: str, curve: Sequence[int]) -> Table:
    """The split of the peak of live tensor memory, whose parts add up to it, and the curve that leads there.

    `curve` is live bytes after every event of one step, in order.
    """
    peak, rows = record.value("peak_memory_live") or 0, []
    for name, value in _parts(record, "peak_memory_live."):
        rows.append(Row(cells=(word(name), _count(value, "B"), _share(value, peak))))
    columns = (_column("at the peak", "left"), _column("memory"), _column("share"))
    processes = record.spec.processes
    whose = "" if processes is None else f" of rank 0 of {processes} ({record.spec.parallel}; the batch is each rank's)"
    title = f"Live memory of a training step{whose}, with its peak in {peak_phase}"
    drawn = f"Forward, backward, optimizer, from 0 to {units.size(peak)}: {_sparkline(curve)}"
    return Table(name="memory", title=title, columns=columns, rows=tuple(rows), remarks=(drawn, *_of_a_rank(record)))


def _parts(record: Record, whole: str) -> list[tuple[str, float]]:
    return [(m.metric.removeprefix(whole), m.values[0]) for m in record.measurements if m.metric.startswith(whole)]


def _of_a_rank(record: Record) -> Iterator[str]:
    """What one of several processes keeps from step to step, and the buckets in which it sends gradients."""
    if kept := _parts(record, "rank_memory."):
        whole = units.size(sum(value for _, value in kept))
        parts = ", ".join(f"{units.size(value)} of {name}" for name, value in kept if value)
        yield f"Kept from step to step: {whole} ({parts}); NCCL's own buffers are not counted."
    if sent := record.get("gradient_buckets"):
        sizes = ", ".join(units.size(size) for size in sent.values)
        yield f"Gradients are sent in {units.plural(len(sent.values), 'bucket')}: {sizes}."


_BARS = " ▁▂▃▄▅▆▇█"


def _sparkline(curve: Sequence[int], width: int = 48) -> str:
    """The curve as one line of bars from 0 to its peak; each stands for the highest of an equal share of the events."""
    share = max(-(-len(curve) // width), 1)
    heights = [max(curve[i : i + share]) for i in range(0, len(curve), share)]
    return "".join(_BARS[round(height / max(heights) * (len(_BARS) - 1))] for height in heights)


def breakdown(title: str, lines: Sequence[Line]) -> Table:
    """Lines with their shares of MACs and of memory traffic."""
    macs, moved = sum(line.macs for line in lines), sum(line.bytes for line in lines)
    rows = []
    for line in lines:
        multiplied = _count(line.macs) if line.macs else Cell()
        made = _count(line.activations) if line.activations else Cell()
        shares = (_share(line.macs, macs), _share(line.bytes, moved))
        cells = (
            word(line.name),
            _count(line.operators),
            multiplied,
            shares[0],
            made,
            _count(line.bytes, "B"),
            shares[1],
        )
        rows.append(Row(cells=cells))
    columns = (
        _column("part", "left"),
        *map(_column, ("operators", "MACs", "MACs, share")),
        _column("activations", rank=1),
        *map(_column, ("traffic", "traffic, share")),
    )
    return Table(name="breakdown", title=title, columns=columns, rows=tuple(rows))


def not_counted(lines: Iterable[Line], record: Record) -> str:
    """One sentence that lists what the MAC rule leaves out, so that nothing is missed silently."""
    operators, moved = record.value("operators") or 0, record.value("bytes") or 0
    total, traffic = record.value("uncounted_operators") or 0, record.value("uncounted_bytes") or 0
    if not total:
        return "The MAC rule counts every operator of this step."
    names = ", ".join(f"{line.name} x{line.operators}" for line in lines)
    share = f"{total:.0f} of {operators:.0f} operators, {traffic / moved:.0%} of the memory traffic"
    return f"Not in the MACs: {share}: {names}."


def by_other_rules(record: Record) -> tuple[str, ...]:
    """One sentence about what the detection toolbox's counter would print of a detector or segmentor."""
    rules = (counters.HOOKS, counters.HOOKS_ATTENTION)
    counted = [(rule, count) for rule in rules if (count := counters.count(record, rule)) is not None]
    if not counted:
        return ()
    text = "; ".join(f"{rule} {count / units.GIGA:,.3f} G" for rule, count in counted)
    return (f"By the detection toolbox's counter, which papers print: {text}.",)


def _column(name: str, align: Literal["left", "right"] = "right", rank: int = 0) -> Heading:
    return Heading(key=name, head=(name,), align=align, rank=rank)


def _count(value: float, unit: str = "count") -> Cell:
    text = units.size(value) if unit == "B" else units.count(value)
    return Cell(text=text, value=int(value), source="computed")


def _share(part: float, whole: float) -> Cell:
    if not whole or not part:
        return Cell()
    return Cell(text=f"{part / whole:.1%}", value=part / whole, source="computed")
