"""What each switch alone does to the speed of a model: paired ratios, measured in turns, and what may be said of them.

The ratios are measured in turns (`visionbench.reports.paired_ratio`); memory is exact, and what compiling costs comes
from a sweep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from visionbench.comparison.comparison import Comparison, First
from visionbench.comparison.switches import ABOUT, SWITCHES, switch_of
from visionbench.record.efficiency import pays_after
from visionbench.record.memory_protocol import PEAK
from visionbench.record.record import Record
from visionbench.record.spec import Spec
from visionbench.record.statistics import over_launches, typical
from visionbench.record.units import GIB, duration, plural
from visionbench.reports import cells
from visionbench.reports.paired_ratio import TIE, Shown, finding, images_per_second, machine, newest, origin, ratio_cell
from visionbench.reports.paper.counts import Counts, index
from visionbench.reports.paper.report import Report
from visionbench.reports.table import DASH, HEADS, Cell, Column, Note, Row, Table

NAME, TITLE = "effects", "What each switch alone does to speed"

HOW = Note(
    term="speed-up",
    text="time of an iteration without the switch over that with it, both taking turns; ×2 is twice as fast. "
    "[ ] 95 % interval over launches. Turn by turn, so it is not quite the quotient of the img/s, each a median alone.",
)
FOUND = Note(
    term="finding",
    text=f"faster, slower: the interval leaves 1 out; tie: all of it within {TIE * 100:g} % of 1; cannot tell: "
    "it holds 1, and more launches might show an effect; doubtful: a footnote says why.",
)


def layout(records: Sequence[Record], comparisons: Sequence[Comparison] = (), /) -> Table:
    """One row per comparison, one section per switch; records give the memory and what compiling costs. Pure."""
    shown = newest([one for one in comparisons if switch_of(one)])
    order = list(SWITCHES)
    found = sorted(shown.comparisons, key=lambda one: order.index(switch_of(one) or ""))
    labels = [label for label in LABELS if label.key == "model" or len({label.text(one) for one in found}) > 1]
    exact = index(records)
    fills = (*_rates(found), _ratio(records), _finding(), *_memory(found, exact))
    rows = tuple(
        Row(
            cells=(*(cells.word(label.text(one)) for label in labels), *(fill.cell(one) for fill in fills)),
            section=_section(one),
            subject=one.candidate.spec.model,
        )
        for one in found
    )
    columns = (*map(_label, labels), *(fill.column for fill in fills))
    return Table(
        name=NAME,
        title=TITLE,
        columns=columns if rows else columns[:1],
        rows=rows,
        legend=legend(rows),
        remarks=tuple(_remarks(shown, labels)),
    )


# --- labels ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A column of words that tells comparisons apart; what all have in common is said below the table."""

    key: str
    head: str
    text: Callable[[Comparison], str]
    common: Callable[[str], str] = str


LABELS = (
    Label(key="model", head="model", text=lambda one: one.candidate.spec.model.removeprefix("timm:")),
    Label(key="task", head="task", text=lambda one: one.candidate.spec.task),
    Label(key="image_size", head="size", text=lambda one: str(one.candidate.spec.image_size), common="{} px".format),
    Label(
        key="batch_size", head="batch", text=lambda one: str(one.candidate.spec.batch_size), common="batch {}".format
    ),
)


def _label(label: Label) -> Column:
    return Column(key=label.key, head=(label.head,), align="left" if label.key in ("model", "task") else "right")


def _section(one: Comparison) -> str:
    name = switch_of(one) or ""
    return f"{name}: {ABOUT[name]}"


# --- numbers ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """A column and what stands in it for a comparison."""

    column: Column
    cell: Callable[[Comparison], Cell]


def _rates(found: Sequence[Comparison]) -> Iterator[Fill]:
    """Images per second of both sides, from the turns that the ratio is made of."""
    sides: tuple[tuple[First, str], ...] = (("baseline", "without"), ("candidate", "with it"))
    rates = {(id(one), side): images_per_second(one, side) for one in found for side, _ in sides}
    digits = cells.rate_digits(rate for rate in rates.values() if rate)
    for side, head in sides:
        column = Column(key=f"throughput_{side}", group="img/s", head=(head,), unit="1/s", source="measured", rank=2)

        def cell(one: Comparison, side: First = side) -> Cell:
            rate = rates[id(one), side]
            if rate is None:
                return Cell()
            text = cells.decimals(rate, digits)
            return Cell(text=text, value=rate, digits=digits, source="measured", origin=origin(one))

        yield Fill(column=column, cell=cell)


def _ratio(records: Sequence[Record]) -> Fill:
    column = Column(key="speed_up", head=("speed-up",), unit="1", source="measured", notes=(HOW,))
    return Fill(column=column, cell=lambda one: ratio_cell(one, (_break_even(one, records),)))


def _finding() -> Fill:
    def cell(one: Comparison) -> Cell:
        word = finding(one)
        return cells.word(word) if word else Cell()

    return Fill(column=Column(key="finding", head=("finding",), align="left", rank=1, notes=(FOUND,)), cell=cell)


def _break_even(one: Comparison, records: Sequence[Record]) -> str:
    """What the first call of a compiled model cost on this machine, and after how many images it has paid."""
    spec, where = one.candidate.spec, one.environment
    if spec.compile_mode is None:
        return ""
    same = [r for r in records if r.source == "measured" and r.spec == spec and r.environment.device == where.device]
    cost = over_launches(same, lambda record: typical(record, "compile_seconds"))
    slow, fast = images_per_second(one, "baseline"), images_per_second(one, "candidate")
    if cost is None or slow is None or fast is None:
        return ""
    after = pays_after(cost.centre, slow, fast) if finding(one) == "faster" else None
    paid = f"pays after {after:,.0f} images" if after else "is not shown to pay"
    return f"Compiling took {duration(cost.centre)} from an empty cache, and {paid}."


def _memory(found: Sequence[Comparison], exact: Counts) -> tuple[Fill, ...]:
    """The live peak of a training step without and with the switch, where both have been traced."""

    def of(spec: Spec) -> float | None:
        return exact.of(spec, PEAK)

    def without(one: Comparison) -> Spec:
        return one.baseline.spec

    def with_it(one: Comparison) -> Spec:
        return one.candidate.spec

    sides = (("without", without), ("with it", with_it))
    if not any(of(pick(one)) for one in found for _, pick in sides):
        return ()

    def fill(head: str, pick: Callable[[Comparison], Spec]) -> Fill:
        column = Column(
            key=f"memory_{'baseline' if head == 'without' else 'candidate'}",
            group=f"{HEADS['computed']} memory (GiB)",
            head=(head,),
            unit="B",
            source="computed",
            rank=1,
            notes=(MEMORY,),
        )

        def cell(one: Comparison) -> Cell:
            return cells.computed(of(pick(one)), GIB, 2, origin=f"trace of {pick(one)}: {PEAK}")

        return Fill(column=column, cell=cell)

    return tuple(fill(head, pick) for head, pick in sides)


MEMORY = Note(
    term="exact memory",
    text="peak of live tensors over one training step; what a compiler makes of it is not traced.",
)


# --- words below the table -------------------------------------------------------------------------------------------


def legend(rows: Sequence[Row]) -> tuple[Note, ...]:
    """The dash, where there is one."""
    dash = any(cell.text == DASH for row in rows for cell in row.cells)
    return (Note(term=DASH, text="not measured or not known"),) if dash else ()


def _remarks(shown: Shown, labels: Sequence[Label]) -> Iterator[str]:
    if not shown.comparisons:
        yield "Nothing compared yet: `python bench.py effects convnext_tiny` measures each switch on this machine."
        return
    last = shown.comparisons[-1]
    same = [label.common(label.text(last)) for label in LABELS if label not in labels]
    same += ["math attention"] if last.baseline.spec.attention == "math" else []
    numbers = sorted({len(one.launches) for one in shown.comparisons if one.launches})
    launches = f"; {_counted(numbers)} a row" if numbers else ""
    yield f"Measured on {machine(last)}{launches}. Without: fp32, contiguous, eager."
    if same:
        yield f"Every row: {', '.join(same)}."
    if shown.left_out:
        yield f"{plural(shown.left_out, 'comparison')} of other machines, software or clocks not shown."


def _counted(numbers: Sequence[int]) -> str:
    """`8 launches`, `7 to 10 launches`."""
    most = plural(numbers[-1], "launch", "launches")
    return most if len(numbers) == 1 else f"{numbers[0]} to {most}"


REPORT = Report(name=NAME, title=TITLE, paper_table="", layout=layout)
