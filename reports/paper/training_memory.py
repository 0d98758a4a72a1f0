"""Columns of training memory, printed, computed and measured, and the ratio of a ConvNet to the ViT above it.

The printed gigabytes cannot be reproduced one by one: which counter, which copies of the weights and which
gigabyte is not known. So a computed column is under a named protocol (`visionbench.record.memory_protocol`), as a
program of 2022 trained or as one would today, and the ratio of two rows under one protocol stands beside it, for each
source on its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from visionbench.record.memory_protocol import PAPER_2022, PAPER_2022_COPIES, PEAK, TODAY, MemoryProtocol
from visionbench.record.record import Record, Source
from visionbench.record.spec import Spec
from visionbench.record.units import GIB, plural
from visionbench.reports import cells
from visionbench.reports.column import Column
from visionbench.reports.paper.columns import printed
from visionbench.reports.paper.counts import TRAIN_BATCH
from visionbench.reports.paper.material import Maker, Material, sourced
from visionbench.reports.printed import PaperRow
from visionbench.reports.settings import Group, describe, heads, of_every_card
from visionbench.reports.table import HEADS, Cell, Note

GROUP, RATIO_GROUP = "training memory", "memory ratio"

SHOWN: tuple[tuple[MemoryProtocol, str, int], ...] = (
    (PAPER_2022, "paper_2022", 2),
    (PAPER_2022_COPIES, "paper_2022_copies", 7),
    (TODAY, "today", 3),
)
"""The protocols with a column, its key, and how important it is (see `Heading.rank`)."""

LIVE = Note(
    term=f"{GROUP}, {HEADS['computed']}",
    text="GiB (2^30 bytes): peak of live tensors over a training step (forward, loss, backward, AdamW), batch "
    f"{TRAIN_BATCH}. " + "; ".join(f"{protocol.name}: {protocol}" for protocol, _, _ in SHOWN) + ". Without the "
    "allocator's fragmentation, the kernels' workspace and the driver's context: a lower bound, and not the paper's "
    "counter.",
)
RATIO = Note(
    term=RATIO_GROUP,
    text="the ConvNeXt's training memory over that of the ViT in the row above. The paper's is the quotient of its two "
    "printed numbers, whose rounding alone allows 1 to 2 %.",
)


GROUPS = 2
"""How many groups of measured training are shown of a card: as in 2022, and as today."""

Bytes = tuple[float, tuple[Record, ...]]
Memory = Callable[[PaperRow], Bytes | None]
"""A row's bytes and the records that say so; or None."""


def specs_of(row: PaperRow) -> tuple[Spec, ...]:
    """The traces that the protocols' columns need."""
    return tuple(dict.fromkeys(protocol.spec(*row.network, TRAIN_BATCH) for protocol, _, _ in SHOWN))


def columns(material: Material, protocol: str) -> Iterator[Column[PaperRow]]:
    """The memory columns, then the ratios; `protocol` is the printed column's. Of each card the newest groups."""
    trained = of_every_card(material.training, GROUPS, GROUPS)
    note = f"GB; {material.publication.protocols[protocol]}."
    term = f"{GROUP}, {HEADS['published']}"
    yield from printed(material, "train_memory", "GB", "GB", 2, group=GROUP, term=term, note=note)
    for ours, key, rank in SHOWN:
        yield _computed(material, ours, key, rank)
    yield from counters(trained, ("allocated", "reserved"))
    yield _ratio(
        material, "published", "published", lambda r: (n.value, ()) if (n := r.printed.get("train_memory")) else None, 2
    )
    for ours, key, rank in SHOWN:
        yield _ratio(material, "computed", key, _peak(material, ours), rank, ours.name)
    for group, head in zip(trained, heads(trained), strict=True):
        slug = group.setting.slug
        yield _ratio(material, "measured", f"allocated_{slug}", _counted(group, "allocated"), 4, *head[1:])


def allocated(material: Material) -> Iterator[Column[PaperRow]]:
    """The allocator's peak in the newest group of measured training alone."""
    yield from counters(material.training[:1], ("allocated",))


def live(material: Material) -> Iterator[Column[PaperRow]]:
    """The exact peak of live tensors as a program of 2022 trained, alone."""
    note = Note(
        term="memory, exact",
        text=f"GiB (2^30 bytes): peak of live tensors over a training step at batch {TRAIN_BATCH}, "
        f"{PAPER_2022.precision}, AdamW, unfused attention, gradients freed.",
    )

    def fill(row: PaperRow) -> Cell:
        record = material.counts.by_spec.get(PAPER_2022.spec(*row.network, TRAIN_BATCH))
        return cells.computed(record.value(PEAK) if record else None, GIB, 2, record, PEAK)

    yield sourced("computed", "train_memory_computed", "memory", ("GiB",), "B", 3, fill, (note,))


def counters(trained: Sequence[Group], which: Sequence[str]) -> Iterator[Column[PaperRow]]:
    """The allocator's counters as measured, for each of the groups."""
    for group, head in zip(trained, heads(trained), strict=True):
        yield from (_counter(group, head, counter) for counter in which)


def _peak(material: Material, protocol: MemoryProtocol) -> Memory:
    def peak(row: PaperRow) -> Bytes | None:
        record = material.counts.by_spec.get(protocol.spec(*row.network, TRAIN_BATCH))
        value = protocol.peak(record) if record else None
        return (value, (record,)) if record and value is not None else None

    return peak


def _computed(material: Material, protocol: MemoryProtocol, key: str, rank: int) -> Column[PaperRow]:
    peak = _peak(material, protocol)

    def fill(row: PaperRow) -> Cell:
        value, (record,) = peak(row) or (None, (None,))
        return cells.computed(value, GIB, 2, record, f"{PEAK}, {protocol}")

    head = (*re.split(" (?=with)", protocol.name), "GiB")
    return sourced("computed", f"train_memory_{key}", GROUP, head, "B", rank, fill, (LIVE,))


def _counter(group: Group, head: tuple[str, ...], counter: str) -> Column[PaperRow]:
    """One of the allocator's two counters: the largest of the launches, because a peak is a bound."""
    note = Note(
        term=f"{GROUP}, {HEADS['measured']}, {', '.join(head)}",
        text=f"GiB, the allocator's counters; gradients freed between steps; {describe(group)}.",
    )
    memory = _counted(group, counter)

    def fill(row: PaperRow) -> Cell:
        peak = memory(row)
        if peak is None:
            return cells.failed(group.launches.get(row.network, []))
        value, launches = peak
        return cells.plain(cells.decimals(value / GIB, 2), value, launches, digits=2)

    key, rank = f"train_memory_{counter}_{group.setting.slug}", 4 if counter == "allocated" else 8
    return sourced("measured", key, GROUP, (*head, f"{counter}, GiB"), "B", rank, fill, (note,))


def _counted(group: Group, counter: str) -> Memory:
    def memory(row: PaperRow) -> Bytes | None:
        launches = tuple(group.launches.get(row.network, ()))
        measurements = (record.get(f"peak_memory_{counter}") for record in launches)
        values = [value for measurement in measurements if measurement for value in measurement.values]
        return (max(values), launches) if values else None

    return memory


def _ratio(material: Material, source: Source, key: str, memory: Memory, rank: int, *head: str) -> Column[PaperRow]:
    """The quotient of a ConvNet's memory and its rival's, both of one source and one protocol."""

    def fill(row: PaperRow) -> Cell:
        above = material.publication.rival(row)
        mine, other = memory(row), memory(above) if above else None
        if above is None or mine is None or other is None:
            return Cell()
        ratio = mine[0] / other[0]
        return Cell(
            text=cells.decimals(ratio, 3),
            value=ratio,
            digits=3,
            source=source,
            origin=f"{row.label} over {above.label}",
            evidence=(*other[1], *mine[1]) or None,
        )

    lines = tuple(line for part in head for line in part.split(" + "))
    return sourced(source, f"memory_ratio_{key}", RATIO_GROUP, lines, "1", rank, fill, (RATIO,))


def left_out(material: Material, **_arguments: object) -> tuple[str, ...]:
    """What to say about training that was measured and is not shown."""
    more = len(material.training) - len(of_every_card(material.training, GROUPS, GROUPS))
    return (f"{plural(more, 'older group')} of training measurements not shown.",) if more > 0 else ()


COLUMNS: dict[str, Maker] = {
    "training_memory": Maker(columns=columns, specs=specs_of, remarks=left_out),
    "allocated_memory": Maker(columns=allocated),
    "live_memory": Maker(columns=live, specs=lambda row: (PAPER_2022.spec(*row.network, TRAIN_BATCH),)),
}
