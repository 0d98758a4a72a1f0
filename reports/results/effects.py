"""What each switch alone does to the speed of a model: paired ratios, measured in turns, and what may be said of them.

The ratios are measured in turns (`visionbench.reports.paired_ratio`); memory is exact, and what compiling costs comes
from a sweep.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from visionbench.comparison.comparison import Comparison, First
from visionbench.comparison.switches import SWITCHES, switch_of
from visionbench.record.efficiency import pays_after
from visionbench.record.memory_protocol import PEAK
from visionbench.record.program import program_name
from visionbench.record.record import Record
from visionbench.record.statistics import over_launches, typical
from visionbench.record.units import GIB, duration, plural
from visionbench.reports import cells
from visionbench.reports.column import Column, label, lay_out, number
from visionbench.reports.paired_ratio import (
    TIE,
    Shown,
    finding,
    heading,
    images_per_second,
    machine,
    newest,
    ratio_cell,
)
from visionbench.reports.paper.counts import Counts, index
from visionbench.reports.paper.report import Report
from visionbench.reports.settings import ends
from visionbench.reports.table import HEADS, Cell, Note, Table

NAME, TITLE = "effects", "What each setting alone does to speed"

HOW = Note(
    term="speed-up",
    text="time of an iteration without the setting over that with it, in turns. ×2 is twice as fast. [ ]: 95 % "
    "interval over launches. It is a median of ratios, so it is not quite the ratio of the two img/s.",
)
FOUND = Note(
    term="finding",
    text=f"faster, slower: the whole interval is above or below 1. tie: all of it is within {TIE * 100:g} % of 1. "
    "cannot tell: it holds 1, and more launches might show an effect. doubtful: a footnote says why.",
)


def layout(records: Sequence[Record], comparisons: Sequence[Comparison] = (), /) -> Table:
    """One row per comparison, one section per switch; records give the memory and what compiling costs. Pure."""
    shown = newest([comparison for comparison in comparisons if switch_of(comparison)])
    order = list(SWITCHES)
    rows = sorted(shown.comparisons, key=lambda comparison: order.index(switch_of(comparison) or ""))
    labels = [label for label in LABELS if label.key == "model" or len({label.fill(row).text for row in rows}) > 1]
    return lay_out(
        NAME,
        TITLE,
        rows,
        [*labels, *_rates(rows), *_findings(records), *_memory(rows, index(records))],
        section=lambda comparison: heading(switch_of(comparison) or ""),
        subject=lambda comparison: comparison.candidate.spec.model,
        remarks=_remarks(shown, labels),
        when_empty=1,
    )


LABELS: tuple[Column[Comparison], ...] = (
    label("model", "model", lambda comparison: comparison.candidate.spec.model.removeprefix("timm:")),
    label("task", "task", lambda comparison: comparison.candidate.spec.task),
    label("image_size", "size", lambda comparison: comparison.candidate.spec.size),
    label("batch_size", "batch", lambda comparison: str(comparison.candidate.spec.batch_size), align="right"),
)
"""What tells comparisons apart; what all of them have in common is said below the table."""

COMMON = {"image_size": "{} px", "batch_size": "batch {}"}
"""How a label reads in a sentence."""

SIDES: tuple[tuple[First, str], ...] = (("baseline", "without"), ("candidate", "with it"))
"""The sides of a comparison, and what stands over their columns."""


def _rates(rows: Sequence[Comparison]) -> Iterator[Column[Comparison]]:
    """Images per second of both sides, from the turns that the ratio is made of."""
    rates = {(id(row), side): images_per_second(row, side) for row in rows for side, _ in SIDES}
    digits = cells.rate_digits(rate for rate in rates.values() if rate)
    for side, head in SIDES:

        def fill(comparison: Comparison, side: First = side) -> Cell:
            rate = rates[id(comparison), side]
            return cells.plain(cells.decimals(rate or 0, digits), rate, comparison, digits=digits)

        yield number(f"throughput_{side}", head, "1/s", fill, group="img/s", rank=2)


def _findings(records: Sequence[Record]) -> Iterator[Column[Comparison]]:
    """The speed-up, and what may be said of it in a word."""
    yield number("speed_up", "speed-up", "1", lambda row: ratio_cell(row, (_break_even(row, records),)), HOW)
    yield Column(
        key="finding",
        head=("finding",),
        align="left",
        rank=1,
        notes=(FOUND,),
        fill=lambda comparison: cells.word(word) if (word := finding(comparison)) else Cell(),
    )


def _break_even(comparison: Comparison, records: Sequence[Record]) -> str:
    """What the first call of a compiled model cost on this machine, and after how many images it has paid."""
    spec, where = comparison.candidate.spec, comparison.environment
    if spec.compile_mode is None:
        return ""
    compiled = (r for r in records if r.spec.compile_mode and r.source == "measured")  # few of a file's records
    same = [r for r in compiled if r.spec == spec and r.environment.device == where.device]
    cost = over_launches(same, lambda record: typical(record, "compile_seconds"))
    slow, fast = images_per_second(comparison, "baseline"), images_per_second(comparison, "candidate")
    if cost is None or slow is None or fast is None:
        return ""
    after = pays_after(cost.centre, slow, fast) if finding(comparison) == "faster" else None
    paid = f"pays after {after:,.0f} images" if after else "is not shown to pay"
    return f"Compiling took {duration(cost.centre)} from an empty cache, and {paid}."


def _memory(rows: Sequence[Comparison], exact: Counts) -> Iterator[Column[Comparison]]:
    """The live peak of a training step without and with the switch, where both have been traced."""
    if not any(exact.of(spec, PEAK) for row in rows for spec in (row.baseline.spec, row.candidate.spec)):
        return
    for side, head in SIDES:

        def fill(comparison: Comparison, side: First = side) -> Cell:
            record = exact.by_spec.get(getattr(comparison, side).spec)
            return cells.computed(record.value(PEAK) if record else None, GIB, 2, record, PEAK)

        group = f"{HEADS['computed']} memory (GiB)"
        yield number(f"memory_{side}", head, "B", fill, MEMORY, source="computed", group=group, rank=1)


MEMORY = Note(
    term="exact memory", text="peak of live tensors over one training step; what a compiler makes of it is not traced."
)


# --- words below the table -------------------------------------------------------------------------------------------


def _remarks(shown: Shown, labels: Sequence[Column[Comparison]]) -> Iterator[str]:
    if not shown.comparisons:
        yield f"Nothing compared yet: `{program_name()} effects convnext_tiny` measures each switch on this machine."
        return
    last = shown.comparisons[-1]
    unsaid = [column for column in LABELS if column not in labels]
    same = [COMMON.get(column.key, "{}").format(column.fill(last).text) for column in unsaid]
    same += ["math attention"] if last.baseline.spec.attention == "math" else []
    numbers = sorted({len(row.launches) for row in shown.comparisons if row.launches})
    launches = f"; {ends(numbers)} launch{'' if numbers == [1] else 'es'} a row" if numbers else ""
    yield f"Measured on {machine(last)}{launches}. Without: fp32, contiguous, eager."
    if same:
        yield f"Every row: {', '.join(same)}."
    if shown.left_out:
        yield f"{plural(shown.left_out, 'comparison')} of other machines, software or clocks not shown."


REPORT = Report(name=NAME, title=TITLE, paper_table="", layout=layout)
