"""Every configuration of a model that was measured: which is fastest, which needs least memory, when compiling pays.

These are launches of a sweep, one configuration after the other, and not turns: the table says which is *fastest* only
where its interval does not overlap the next, and leaves the effect of a single switch to the table of effects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from visionbench.comparison.comparison import Comparison
from visionbench.comparison.switches import configuration, every_configuration, plain
from visionbench.record.efficiency import images_to_break_even
from visionbench.record.memory_protocol import PEAK
from visionbench.record.program import program_name
from visionbench.record.record import Record, is_unfit
from visionbench.record.spec import Spec
from visionbench.record.statistics import Estimate, over_launches, throughput, typical
from visionbench.record.units import GIB
from visionbench.reports import cells
from visionbench.reports.column import Column, label, lay_out, number
from visionbench.reports.launches import quick_key
from visionbench.reports.paper.counts import Counts, index
from visionbench.reports.paper.report import Report
from visionbench.reports.results.effects import MEMORY
from visionbench.reports.settings import device_name, failure
from visionbench.reports.table import HEADS, Cell, Note, Table, Unit

NAME, TITLE = "effects_grid", "Every configuration, one after the other"

MEASURED_MEMORY = ("peak_memory_allocated", "process_memory")
"""What is shown as measured memory: the allocator's peak; without one (a CPU), the process's."""

PAYS = Note(
    term="pays after",
    text="images until the compiled run has made up for its first call (from an empty cache), against the same eager.",
)
AGAINST = Note(term="× plain", text="img/s over that of fp32, contiguous, eager: a quotient of two centres.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The launches of one model, task, size and batch under one protocol on one machine, by configuration."""

    base: Spec
    launches: dict[Spec, list[Record]]


def grids(records: Sequence[Record]) -> tuple[Grid, ...]:
    """Per model, task, size and batch the newest grid of at least two configurations. One pass over the records."""
    found: dict[tuple[object, ...], Grid] = {}
    places: dict[object, list[Record]] = {}
    for record in records:
        timed = record.source == "measured" and record.protocol and "throughput" in record.protocol.metrics
        if not timed or is_unfit(record):  # no launch that was timed: memory alone makes no grid
            continue
        if (key := quick_key(record)) not in places:
            spec, *how = record.key
            base = plain(spec)
            grid = found.setdefault((base, *how), Grid(base=base, launches={}))
            places[key] = grid.launches.setdefault(spec, [])
        places[key].append(record)
    wide = [grid for grid in found.values() if len(grid.launches) > 1]
    return tuple({grid.base: grid for grid in sorted(wide, key=_newest)}.values())


def _newest(grid: Grid) -> str:
    """When its last launch began."""
    return max(record.environment.started or "" for launches in grid.launches.values() for record in launches)


def layout(records: Sequence[Record], _comparisons: Sequence[Comparison] = (), /) -> Table:
    """One section per model, one row per configuration. Pure."""
    shown, exact = grids(records), index(records)
    rows = [row for grid in shown for row in _rows(grid, exact)]
    return lay_out(
        NAME,
        TITLE,
        rows,
        tuple(_columns(rows)),
        section=lambda row: _section(row.grid.base),
        subject=lambda row: row.spec.model,
        remarks=_remarks(shown),
        when_empty=1,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """One row: a configuration of a grid, its images per second and those of the plain one, what it is best at."""

    spec: Spec
    grid: Grid
    launches: Sequence[Record]
    rate: Estimate | None
    plain_rate: Estimate | None
    digits: int
    best: str
    counted: Record | None
    live_memory: float | None


def _rows(grid: Grid, exact: Counts) -> list[Configuration]:
    usual = [spec for spec in every_configuration(grid.base) if spec in grid.launches]
    order = list(dict.fromkeys((*usual, *grid.launches)))
    estimates = {spec: rate for spec in order if (rate := throughput(grid.launches[spec]))}
    best = _best(grid, estimates, exact)
    digits = cells.rate_digits(rate.centre for rate in estimates.values())
    return [
        Configuration(
            spec=spec,
            grid=grid,
            launches=grid.launches[spec],
            rate=estimates.get(spec),
            plain_rate=estimates.get(grid.base),
            digits=digits,
            best=best.get(spec, ""),
            counted=exact.by_spec.get(spec),
            live_memory=exact.of(spec, PEAK),
        )
        for spec in order
    ]


def _columns(rows: Sequence[Configuration]) -> Iterator[Column[Configuration]]:
    yield label("configuration", "configuration", lambda row: configuration(row.spec))
    yield number("throughput", "img/s", "1/s", _rate)

    def against_plain(row: Configuration) -> float | None:
        return row.rate.centre / row.plain_rate.centre if row.rate and row.plain_rate else None

    yield _number("against_plain", "", "× plain", "1", 2, against_plain, AGAINST, mark="×", digits=2)
    memory = "memory (MiB)"
    if any(_memory(row.launches) for row in rows):
        yield _number(
            "memory_measured", memory, "measured", "B", 3, lambda row: _memory(row.launches), scale=GIB / 1024
        )
    if any(row.live_memory for row in rows):

        def live(row: Configuration) -> Cell:
            return cells.computed(row.live_memory, GIB / 1024, 0, row.counted, PEAK)

        head = HEADS["computed"]
        yield number("memory_computed", head, "B", live, MEMORY, source="computed", group=memory, rank=3)
    if any(row.spec.compile_mode for row in rows):
        yield _number("compile_seconds", "compiling", "cold, s", "s", 4, _compiling, digits=1)
        yield _number("pays_after", "compiling", "pays after", "count", 4, _pays_after, PAYS)
    yield Column(
        key="best",
        head=("best",),
        align="left",
        rank=1,
        fill=lambda row: Cell(text="") if not row.best else cells.word(row.best),
    )


def _number(
    key: str,
    group: str,
    head: str,
    unit: Unit,
    rank: int,
    of: Callable[[Configuration], float | None],
    *notes: Note,
    scale: float = 1.0,
    digits: int = 0,
    mark: str = "",
) -> Column[Configuration]:
    """A column of measured numbers without intervals."""

    def fill(row: Configuration) -> Cell:
        value = of(row)
        text = mark + cells.decimals((value or 0) / scale, digits)
        return cells.plain(text, value, row.launches, digits=digits)

    return number(key, head, unit, fill, *notes, group=group, rank=rank)


def _rate(row: Configuration) -> Cell:
    if row.rate is not None:
        return cells.measured(row.rate, row.digits, (), row.launches)
    why = failure(row.launches)
    return cells.failed(row.launches, (cells.sentence(why.message),) if why else ())


def _memory(launches: Sequence[Record]) -> float | None:
    """The largest of the launches' peaks: a peak is a bound."""
    for metric in MEASURED_MEMORY:
        values = [value for record in launches if (peak := record.get(metric)) for value in peak.values]
        if values:
            return max(values)
    return None


def _compiling(row: Configuration) -> float | None:
    cost = over_launches(row.launches, lambda record: typical(record, "compile_seconds"))
    return cost.centre if cost and row.spec.compile_mode else None


def _pays_after(row: Configuration) -> float | None:
    eager = row.grid.launches.get(replace(row.spec, compile_mode=None), ())
    return images_to_break_even(eager, row.launches) if row.spec.compile_mode else None


def _section(spec: Spec) -> str:
    math = ", math attention" if spec.attention == "math" else ""
    return f"{spec.model.removeprefix('timm:')}, {spec.task}, {spec.size} px, batch {spec.batch_size}{math}"


def _best(grid: Grid, estimates: dict[Spec, Estimate], exact: Counts) -> dict[Spec, str]:
    """What a configuration is best at, in words; whatever cannot be told apart from the fastest is said too."""
    said: dict[Spec, list[str]] = {}
    ranked = sorted(estimates, key=lambda spec: -estimates[spec].centre)
    if len(ranked) > 1:
        top = estimates[ranked[0]]
        said[ranked[0]] = ["fastest" if top.low is not None else "fastest, by its centre"]
        for spec in ranked[1:]:
            high = estimates[spec].high
            if top.low is not None and (high is None or high >= top.low):
                said[spec] = ["as fast, within the intervals"]
    for words, memory in (
        ("least memory", {spec: _memory(grid.launches[spec]) for spec in estimates}),
        ("least live memory", {spec: exact.of(spec, PEAK) for spec in estimates}),
    ):
        known = {spec: value for spec, value in memory.items() if value}
        if len(known) > 1:
            said.setdefault(min(known, key=lambda spec: known[spec]), []).append(words)
    return {spec: "; ".join(words) for spec, words in said.items()}


def _remarks(shown: Sequence[Grid]) -> Iterator[str]:
    if not shown:
        yield (
            f"No model measured in more than one configuration: `{program_name()} effects convnext_tiny --grid` "
            "measures all of them on this machine."
        )
        return
    last = [next(iter(grid.launches.values()))[-1] for grid in shown]  # all records of a grid share what is said here
    places = dict.fromkeys((record.environment.device, device_name(record.environment)) for record in last)
    how = dict.fromkeys(record.protocol.name for record in last if record.protocol)
    torch = dict.fromkeys(record.environment.torch or "unknown" for record in last)
    where = " and ".join(name for _, name in places)
    yield f"Measured on {where}, torch {' and '.join(torch)}, protocol {' and '.join(how)}."


REPORT = Report(name=NAME, title=TITLE, paper_table="", layout=layout)
