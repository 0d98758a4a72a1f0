"""Columns of training memory, printed, computed and measured, and the ratio of a ConvNet to the ViT above it.

The printed gigabytes cannot be reproduced one by one: which counter, which copies of the weights and which
gigabyte is not known. So a computed column is under a named protocol (`visionbench.record.memory_protocol`), as a
program of 2022 trained or as one would today, and the ratio of two rows under one protocol stands beside it, for each
source on its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from visionbench.record.memory_protocol import PAPER_2022, PAPER_2022_COPIES, PEAK, TODAY, MemoryProtocol
from visionbench.record.record import Record, Source
from visionbench.record.spec import Spec
from visionbench.record.units import GIB, plural
from visionbench.reports import cells
from visionbench.reports.paper import columns, rates
from visionbench.reports.paper.columns import Plan
from visionbench.reports.paper.counts import TRAIN_BATCH, Counts
from visionbench.reports.printed import PaperRow, protocols, rival
from visionbench.reports.settings import Group, describe, heads
from visionbench.reports.table import HEADS, Cell, Column, Note

GROUP, RATIO_GROUP = "training memory", "memory ratio"

SHOWN: tuple[tuple[MemoryProtocol, str, int], ...] = (
    (PAPER_2022, "paper_2022", 2),
    (PAPER_2022_COPIES, "paper_2022_copies", 7),
    (TODAY, "today", 3),
)
"""The protocols with a column, its key, and how important it is (see `Column.rank`)."""

LIVE = Note(
    term=f"{GROUP}, {HEADS['computed']}",
    text="GiB (2^30 bytes): the peak of live tensors over one training step (forward, loss, backward, AdamW) at batch "
    f"{TRAIN_BATCH}. " + "; ".join(f"{protocol.name}: {protocol}" for protocol, _, _ in SHOWN) + ". Without the "
    "allocator's fragmentation, the kernels' workspace and the driver's context: a lower bound, and not the paper's "
    "counter.",
)
RATIO = Note(
    term=RATIO_GROUP,
    text="the ConvNeXt's training memory over that of the ViT in the row above. The paper's is the quotient of its two "
    "printed numbers, whose rounding alone allows 1 to 2 %.",
)


def specs_of(row: PaperRow) -> tuple[Spec, ...]:
    """The traces that the protocols' columns need."""
    return tuple(dict.fromkeys(protocol.spec(*row.network, TRAIN_BATCH) for protocol, _, _ in SHOWN))


def plans(exact: Counts, trained: Sequence[Group]) -> tuple[Plan, ...]:
    """The memory columns, then the ratios; measured ones for each of the `trained` groups."""
    ratios = [_ratio("computed", key, _peak(exact, one), rank, one.name) for one, key, rank in SHOWN]
    for group, head in zip(trained, heads(trained), strict=True):
        ratios.append(_ratio("measured", f"allocated_{group.setting.slug}", _allocated(group), 4, *head[1:]))
    return (
        _published(),
        *(_computed(exact, one, key, rank) for one, key, rank in SHOWN),
        *counters(trained, ("allocated", "reserved")),
        _ratio("published", "published", _printed, 2),
        *ratios,
    )


def counters(trained: Sequence[Group], which: Sequence[str]) -> tuple[Plan, ...]:
    """The allocator's counters as measured, for each of the groups."""
    heading = heads(trained)
    return tuple(
        _counter(group, head, counter) for group, head in zip(trained, heading, strict=True) for counter in which
    )


def _peak(exact: Counts, protocol: MemoryProtocol) -> Callable[[PaperRow], float | None]:
    def peak(row: PaperRow) -> float | None:
        record = exact.by_spec.get(protocol.spec(*row.network, TRAIN_BATCH))
        return protocol.peak(record) if record else None

    return peak


def _published() -> Plan:
    note = Note(term=f"{GROUP}, {HEADS['published']}", text=f"GB; {protocols()['train-memory-v100']}.")
    column = Column(
        key="train_memory_published",
        group=GROUP,
        head=(HEADS["published"], "GB"),
        unit="GB",
        rank=2,
        notes=(note,),
    )
    return columns.printed(column, "train_memory")


def _computed(exact: Counts, protocol: MemoryProtocol, key: str, rank: int) -> Plan:
    column = Column(
        key=f"train_memory_{key}",
        group=GROUP,
        head=(HEADS["computed"], *protocol.name.split(" "), "GiB"),
        unit="B",
        source="computed",
        rank=rank,
        notes=(LIVE,),
    )
    peak = _peak(exact, protocol)

    def fill(row: PaperRow) -> Cell:
        spec = protocol.spec(*row.network, TRAIN_BATCH)
        return cells.computed(peak(row), GIB, 2, origin=f"trace of {spec}: {PEAK}, {protocol}")

    return Plan(column=column, fill=fill)


def _counter(group: Group, head: tuple[str, ...], counter: str) -> Plan:
    """One of the allocator's two counters: the largest of the launches, because a peak is a bound."""
    note = Note(
        term=f"{GROUP}, {HEADS['measured']}, {', '.join(head)}",
        text=f"GiB, the allocator's counters; gradients let go of between steps; {describe(group)}.",
    )
    column = Column(
        key=f"train_memory_{counter}_{group.setting.slug}",
        group=GROUP,
        head=(HEADS["measured"], *head, f"{counter}, GiB"),
        unit="B",
        source="measured",
        rank=4 if counter == "allocated" else 8,
        notes=(note,),
    )

    def fill(row: PaperRow) -> Cell:
        launches = group.launches.get(row.network, [])
        peak = _largest(launches, f"peak_memory_{counter}")
        if peak is None:
            return rates.failed(launches)
        text = cells.decimals(peak / GIB, 2)
        return Cell(text=text, value=peak, digits=2, source="measured", origin=str(launches[-1].spec))

    return Plan(column=column, fill=fill)


def _allocated(group: Group) -> Callable[[PaperRow], float | None]:
    return lambda row: _largest(group.launches.get(row.network, []), "peak_memory_allocated")


def _largest(launches: Sequence[Record], metric: str) -> float | None:
    found = [measurement for record in launches if (measurement := record.get(metric))]
    return max((value for measurement in found for value in measurement.values), default=None)


def _printed(row: PaperRow) -> float | None:
    number = row.printed.get("train_memory")
    return number.value if number else None


def _ratio(source: Source, key: str, memory: Callable[[PaperRow], float | None], rank: int, *head: str) -> Plan:
    """The quotient of a ConvNet's memory and its rival's, both of one source and one protocol."""

    def fill(row: PaperRow) -> Cell:
        above = rival(row)
        mine, its = memory(row), memory(above) if above else None
        if above is None or mine is None or not its:
            return Cell()
        text, origin = cells.decimals(mine / its, 3), f"{row.label} over {above.label}"
        return Cell(text=text, value=mine / its, digits=3, source=source, origin=origin)

    column = Column(
        key=f"memory_ratio_{key}",
        group=RATIO_GROUP,
        head=(HEADS[source], *(line for part in head for line in part.split(" + "))),
        unit="1",
        source=source,
        rank=rank,
        notes=(RATIO,),
    )
    return Plan(column=column, fill=fill)


GROUPS = 2
"""How many groups of measured training are shown: as in 2022, and as today."""


def left_out(trained: Sequence[Group]) -> tuple[str, ...]:
    """What to say about training that was measured and is not shown."""
    more = len(trained) - GROUPS
    return (f"{plural(more, 'older group')} of training measurements not shown.",) if more > 0 else ()
