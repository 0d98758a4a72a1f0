"""Columns of tables of detectors and segmentors: what the toolbox's counter prints, and what comes after the network.

The papers print FLOPs by another rule than ours (`visionbench.record.counters`), which a row of `published/rows.csv`
names; so the print is not only footnoted but counted again, by its own rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from visionbench.record import counters
from visionbench.record.metrics import POST_PHASES
from visionbench.record.record import Record
from visionbench.record.statistics import end_to_end, over_launches, post_processing
from visionbench.record.units import GIGA, significant
from visionbench.reports import cells
from visionbench.reports.column import Column
from visionbench.reports.launches import Launches
from visionbench.reports.paper.columns import FLOPS, counts_of, exact
from visionbench.reports.paper.counts import count_spec
from visionbench.reports.paper.material import Maker, Material, sourced
from visionbench.reports.paper.rates import Rates, shown
from visionbench.reports.paper.slips import agrees
from visionbench.reports.printed import PaperRow
from visionbench.reports.settings import failure
from visionbench.reports.table import HEADS, Cell, Note, Unit

GROUP = "FLOPs (G)"

COUNTER = Note(
    term="toolbox",
    text="counted by the rule of the program that printed the row: mmcv's counter of 2021, which hangs hooks on "
    "modules of some exact classes. It adds biases of convolutions, ReLUs, batch norms, torch's LayerNorm and "
    "pooling; it sees no function, so neither of attention's products, and no GELU or SyncBN. `hooks + attention` adds "
    "those products, as the Swin paper's numbers do. Who counted a row is inferred; that the rule prints its digits is "
    "exact.",
)


def by_rule(material: Material) -> Iterator[Column[PaperRow]]:
    """The printed FLOPs, our exact count, the count by the row's own rule, and that rule's name."""

    def record_of(row: PaperRow) -> Record | None:
        return material.counts.by_spec.get(count_spec(*row.network))

    def printed(row: PaperRow) -> Cell:
        record = record_of(row)
        return cells.published(row.printed.get("macs"), _notes(row, record) if record else ())

    def again(row: PaperRow) -> Cell:
        record = record_of(row)
        count = counters.count(record, row.counter) if record and row.counter else None
        return cells.computed(count, GIGA, 2, record, row.counter)

    def rule(row: PaperRow) -> Cell:
        return cells.word(row.counter) if row.counter else Cell()

    yield sourced("published", "macs_published", GROUP, (), "count", 3, printed, (FLOPS,))
    yield from exact(material, "macs", GROUP, 4, scale=GIGA)
    yield Column(
        key="macs_by_rule",
        group=GROUP,
        head=("toolbox",),
        unit="count",
        source="computed",
        rank=3,
        notes=(COUNTER,),
        fill=again,
    )
    yield Column(key="rule", group=GROUP, head=("rule",), align="left", rank=5, fill=rule)


def _notes(row: PaperRow, record: Record) -> tuple[str, ...]:
    """What to say of a print that its row's rule does not give, or that lacks what the other rows have."""
    number = row.printed.get("macs")
    count = counters.count(record, row.counter) if row.counter else None
    if number is None or count is None:
        return ()
    if not agrees(number, count):
        return (_unexplained(row, record, count),)
    attention = record.value("hooks.attention") or 0
    if attention and row.counter == counters.HOOKS:
        return (
            f"Printed without attention's two products ({attention / GIGA:.2f} G), which the other rows of Swin have: "
            f"{counters.HOOKS_ATTENTION} counts {(count + attention) / GIGA:,.2f} G.",
        )
    return ()


def _unexplained(row: PaperRow, record: Record, count: float) -> str:
    """What was tried of a print that its rule misses, and which rule would give it."""
    number = row.printed["macs"]
    off = significant(abs(number.value / count - 1) * 100, 1)
    by_rule = {rule: counted for rule in counters.RULES if (counted := counters.count(record, rule)) is not None}
    fits = [rule for rule, counted in by_rule.items() if agrees(number, counted)]
    tried = ", ".join(f"{rule} {counted / GIGA:,.2f}" for rule, counted in by_rule.items() if rule not in fits)
    also = f"; {' or '.join(fits)} would" if fits else ""
    return (
        f"Printed {number.text} G, {off} % from what {row.counter} counts. No rule of the other rows prints it "
        f"(tried: {tried} G){also}."
    )


def post(material: Material) -> Iterator[Column[PaperRow]]:
    """Of the newest group: milliseconds of post-processing, and images per second with it."""
    for newest in shown(material.inference)[:1]:
        timed = [one for one in newest.group.launches.values() if one.metrics.issuperset(POST_PHASES)]
        if any(post_processing(record) for launches in timed for record in launches):
            yield from _post(newest)


END_TO_END = Note(
    term="end to end",
    text="images per second of the phases' sum, dense part and post-processing, on given boxes. The paper's FPS is of "
    "real photos, trained weights and another program: compare gains, not values.",
)

POST = Note(
    term="post",
    text="proposals, detections and pasting of masks, of fixed sizes (`docs/tables.md`), one batch, the device "
    "idle before and after each. The rate img/s leaves them out: it is of the dense part on given boxes.",
)


def _post(rates: Rates) -> Iterator[Column[PaperRow]]:
    batch = rates.group.setting.batch_size
    yield _measured(rates, "post_processing", "s", "post, ms", post_processing, POST)

    def rate(record: Record) -> float | None:
        return batch / total if (total := end_to_end(record)) else None

    yield _measured(rates, "end_to_end", "1/s", "end to end", rate, END_TO_END)


def _measured(
    rates: Rates, key: str, unit: Unit, head: str, value: Callable[[Record], float | None], note: Note
) -> Column[PaperRow]:
    """A column of what each launch's phases give; seconds are shown in ms."""
    device, *settings = rates.head
    scale = 1e-3 if unit == "s" else 1.0

    def fill(row: PaperRow) -> Cell:
        launches = rates.group.launches.get(row.network, Launches())
        estimate = over_launches(launches, value)
        if estimate is None or failure(launches):
            return Cell()
        digits = cells.rate_digits((estimate.centre / scale,))
        return cells.measured(estimate, digits, (), launches, scale=scale, spans=False)

    return Column(
        key=f"{key}_measured_{rates.group.setting.slug}",
        group=f"{HEADS['measured']}, {device}",
        head=(*settings, head),
        unit=unit,
        source="measured",
        rank=rates.rank + 1,
        notes=(note,),
        fill=fill,
    )


COLUMNS: dict[str, Maker] = {
    "counts_by_rule": Maker(columns=by_rule, specs=counts_of),
    "post_processing": Maker(columns=post),
}
