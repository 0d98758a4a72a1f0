"""Columns of training memory, printed, computed and measured, and the ratio of a ConvNet to the ViT above it.

The printed gigabytes cannot be reproduced one by one: which counter, which copies of the weights and which
gigabyte is not known. The ratio of two rows under one protocol can, so it stands beside them, for each source
on its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bench.record.record import Record, Source
from bench.record.units import GIB
from reports import cells, columns, rates
from reports.columns import Plan
from reports.counts import TRAIN_BATCH, Counts, train_spec
from reports.measured import Group, describe, heads
from reports.paper import PaperRow, protocols, rival
from reports.table import HEADS, Cell, Column, Note

GROUP, RATIO_GROUP = "training memory", "memory ratio"

PEAK = "peak_memory_live"
"""The computed metric: the peak of live tensors over one training step."""

LIVE = Note(
    term=f"{GROUP}, {HEADS['computed']}",
    text="GiB (2^30 bytes): the peak of live tensors over one training step (forward, loss, backward, AdamW) at batch "
    f"{TRAIN_BATCH}, fp32, unfused attention. Without the allocator's fragmentation, the kernels' workspace, the "
    "driver's context, an EMA or DDP copy: a lower bound, and not the paper's counter.",
)
RATIO = Note(
    term=RATIO_GROUP,
    text="the ConvNeXt's training memory over that of the ViT in the row above. The paper's is the quotient of its two "
    "printed numbers, whose rounding alone allows 1 to 2 %.",
)


def plans(exact: Counts, trained: Sequence[Group]) -> tuple[Plan, ...]:
    """The memory columns, then the ratios; measured ones for each of the `trained` groups."""

    def live(row: PaperRow) -> float | None:
        return exact.of(train_spec(*row.network), PEAK)

    counters = [plan for group in trained for plan in (_counter(group, "allocated"), _counter(group, "reserved"))]
    ratios = [_ratio("measured", f"allocated_{group.setting.slug}", _allocated(group)) for group in trained]
    return (
        _published(),
        _computed(live),
        *counters,
        _ratio("published", "published", _printed),
        _ratio("computed", "computed", live),
        *ratios,
    )


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


def _computed(live: Callable[[PaperRow], float | None]) -> Plan:
    column = Column(
        key="train_memory_computed",
        group=GROUP,
        head=(HEADS["computed"], "GiB"),
        unit="B",
        source="computed",
        rank=2,
        notes=(LIVE,),
    )

    def fill(row: PaperRow) -> Cell:
        return cells.computed(live(row), GIB, 2, origin=f"trace of {train_spec(*row.network)}: {PEAK}")

    return Plan(column=column, fill=fill)


def _counter(group: Group, counter: str) -> Plan:
    """One of the allocator's two counters: the largest of the launches, because a peak is a bound."""
    note = Note(term=f"{GROUP}, {HEADS['measured']}", text=f"GiB, the allocator's two counters; {describe(group)}.")
    column = Column(
        key=f"train_memory_{counter}_{group.setting.slug}",
        group=GROUP,
        head=(HEADS["measured"], *heads((group,))[0], f"{counter}, GiB"),
        unit="B",
        source="measured",
        rank=3,
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


def _ratio(source: Source, key: str, memory: Callable[[PaperRow], float | None]) -> Plan:
    """The quotient of a ConvNet's memory and its rival's, both of one source."""

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
        head=(HEADS[source],),
        unit="1",
        source=source,
        rank=2,
        notes=(RATIO,),
    )
    return Plan(column=column, fill=fill)


def left_out(trained: Sequence[Group]) -> tuple[str, ...]:
    """What to say about training that was measured and is not shown."""
    more = len(trained) - 1
    plural = "s" if more > 1 else ""
    return (f"{more} older group{plural} of training measurements not shown.",) if more > 0 else ()
