"""Every configuration of a model that was measured: which is fastest, which needs least memory, when compiling pays.

These are launches of a sweep, one configuration after the other, and not turns: the table says which is *fastest* only
where its interval lies apart from the next, and leaves the effect of a single switch to the table of effects.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from visionbench.comparison.comparison import Comparison
from visionbench.comparison.switches import configuration, every_configuration, plain
from visionbench.record.efficiency import images_to_break_even
from visionbench.record.memory_protocol import PEAK
from visionbench.record.record import Record
from visionbench.record.spec import Spec
from visionbench.record.statistics import Estimate, over_launches, throughput, typical
from visionbench.record.units import GIB
from visionbench.reports import cells
from visionbench.reports.paper import rates
from visionbench.reports.paper.counts import Counts, index
from visionbench.reports.paper.report import Report
from visionbench.reports.results.effects import MEMORY, legend
from visionbench.reports.settings import device_name, failure
from visionbench.reports.table import HEADS, Cell, Column, Note, Row, Table

NAME, TITLE = "effects_grid", "Every configuration, one after the other"

MEASURED_MEMORY = ("peak_memory_allocated", "process_memory")
"""What is shown as measured memory: the allocator's peak; where there is none (a CPU), the process's."""

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

    @property
    def newest(self) -> str:
        """When its last launch began."""
        return max(r.environment.started or "" for records in self.launches.values() for r in records)

    @property
    def last(self) -> Record:
        """One of its records, for the machine and the protocol that all share."""
        return next(iter(self.launches.values()))[-1]


def grids(records: Sequence[Record]) -> tuple[Grid, ...]:
    """Per model, task, size and batch the newest grid of at least two configurations. One pass over the records."""
    found: dict[tuple[object, ...], Grid] = {}
    for record in records:
        if record.source != "measured":
            continue
        base = plain(record.spec)
        _, *how = record.key
        grid = found.setdefault((base, *how), Grid(base=base, launches={}))
        grid.launches.setdefault(record.spec, []).append(record)
    wide = [grid for grid in found.values() if len(grid.launches) > 1]
    latest = {grid.base: grid for grid in sorted(wide, key=lambda grid: grid.newest)}
    return tuple(latest.values())


def layout(records: Sequence[Record], _comparisons: Sequence[Comparison] = (), /) -> Table:
    """One section per model, one row per configuration. Pure."""
    shown, exact = grids(records), index(records)
    columns = _columns(shown, exact)
    rows = tuple(row for grid in shown for row in _rows(grid, exact, [column.key for column in columns]))
    return Table(
        name=NAME,
        title=TITLE,
        columns=columns if rows else columns[:1],
        rows=rows,
        legend=legend(rows),
        remarks=tuple(_remarks(shown)),
    )


def _columns(shown: Sequence[Grid], exact: Counts) -> tuple[Column, ...]:
    records = [record for grid in shown for launches in grid.launches.values() for record in launches]
    columns = [
        Column(key="configuration", head=("configuration",), align="left"),
        Column(key="throughput", head=("img/s",), unit="1/s", source="measured"),
        Column(key="against_plain", head=("× plain",), unit="1", source="measured", rank=2, notes=(AGAINST,)),
    ]
    if any(_memory([record]) for record in records):
        columns.append(
            Column(key="memory_measured", group="memory (MiB)", head=("measured",), unit="B", source="measured", rank=3)
        )
    if any(exact.of(record.spec, PEAK) for record in records):
        head = (HEADS["computed"],)
        columns.append(
            Column(
                key="memory_computed",
                group="memory (MiB)",
                head=head,
                unit="B",
                source="computed",
                notes=(MEMORY,),
                rank=3,
            )
        )
    if any(record.spec.compile_mode for record in records):
        columns += [
            Column(key="compile_seconds", group="compiling", head=("cold, s",), unit="s", source="measured", rank=4),
            Column(
                key="pays_after",
                group="compiling",
                head=("pays after",),
                unit="count",
                source="measured",
                rank=4,
                notes=(PAYS,),
            ),
        ]
    return (*columns, Column(key="best", head=("best",), align="left", rank=1))


def _memory(launches: Sequence[Record]) -> float | None:
    """The largest of the launches' peaks: a peak is a bound."""
    for metric in MEASURED_MEMORY:
        found = [value for record in launches if (one := record.get(metric)) for value in one.values]
        if found:
            return max(found)
    return None


def _rows(grid: Grid, exact: Counts, keys: Sequence[str]) -> Iterator[Row]:
    order = [spec for spec in every_configuration(grid.base) if spec in grid.launches]
    order += [spec for spec in grid.launches if spec not in order]
    estimates = {spec: found for spec in order if (found := throughput(grid.launches[spec]))}
    best = _best(grid, estimates, exact)
    for spec in order:
        made = _cells(spec, grid, estimates, exact) | {
            "best": cells.word(best[spec]) if spec in best else Cell(text="")
        }
        yield Row(cells=tuple(made[key] for key in keys), section=_section(grid), subject=spec.model)


def _section(grid: Grid) -> str:
    spec = grid.base
    math = ", math attention" if spec.attention == "math" else ""
    name = spec.model.removeprefix("timm:")
    return f"{name}, {spec.task}, {spec.image_size} px, batch {spec.batch_size}{math}"


def _cells(spec: Spec, grid: Grid, estimates: dict[Spec, Estimate], exact: Counts) -> dict[str, Cell]:
    launches, origin = grid.launches[spec], f"{grid.last.environment.device}; {spec}"
    its, base = estimates.get(spec), estimates.get(grid.base)
    digits = cells.rate_digits(one.centre for one in estimates.values())
    memory, cost = _memory(launches), over_launches(launches, lambda record: typical(record, "compile_seconds"))
    after = images_to_break_even(grid.launches.get(replace(spec, compile_mode=None), ()), launches)
    peak = exact.of(spec, PEAK)

    def number(value: float | None, scale: float, places: int, mark: str = "") -> Cell:
        if value is None:
            return Cell()
        text = mark + cells.decimals(value / scale, places)
        return Cell(text=text, value=value, digits=places, source="measured", origin=origin)

    return {
        "configuration": cells.word(configuration(spec)),
        "throughput": cells.measured(its, digits, (), origin) if its else _failed(launches),
        "against_plain": number(its.centre / base.centre if its and base else None, 1, 2, "×"),
        "memory_measured": number(memory, GIB / 1024, 0),
        "memory_computed": cells.computed(peak, GIB / 1024, 0, f"trace of {spec}: {PEAK}"),
        "compile_seconds": number(cost.centre if cost and spec.compile_mode else None, 1, 1),
        "pays_after": number(after if spec.compile_mode else None, 1, 0),
    }


def _failed(launches: Sequence[Record]) -> Cell:
    record, shown = failure(launches), rates.failed(launches)
    if record is None or record.failure is None:
        return shown
    return replace(shown, notes=(cells.sentence(record.failure.message),))


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
                said[spec] = ["as fast, for all that can be told"]
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
            "No model measured in more than one configuration: `python bench.py effects convnext_tiny --grid` "
            "measures all of them on this machine."
        )
        return
    places = dict.fromkeys((grid.last.environment.device, device_name(grid.last.environment)) for grid in shown)
    how = dict.fromkeys(grid.last.protocol.name for grid in shown if grid.last.protocol)
    torch = dict.fromkeys(grid.last.environment.torch or "unknown" for grid in shown)
    where = " and ".join(name for _, name in places)
    yield f"Measured on {where}, torch {' and '.join(torch)}, protocol {' and '.join(how)}."


REPORT = Report(name=NAME, title=TITLE, paper_table="", layout=layout)
