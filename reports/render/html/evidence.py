"""What is said of the records that a cell was made of (`Cell.evidence`), and the commands that make them again."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain

from visionbench.comparison.comparison import Comparison
from visionbench.comparison.switches import switch_of
from visionbench.record.flags import meaning
from visionbench.record.program import program_name
from visionbench.record.record import Environment, Record, Source
from visionbench.record.spec import PROTOCOLS, SIZE, Spec, image_size
from visionbench.reports.launches import grouped
from visionbench.reports.paper.roadmap import steps
from visionbench.reports.table import DASH, HEADS, Cell, Heading, Row

UNITS = {"1/s": "images per second", "B": "bytes", "s": "s", "J": "J", "GB": "GB", "%": "%", "px": "pixels"}


def environments(records: Sequence[Record], comparisons: Sequence[Comparison]) -> list[Environment]:
    """Where each of them was made, in their order."""
    return [*(record.environment for record in records), *(comparison.environment for comparison in comparisons)]


def places_of(environments: Sequence[Environment]) -> dict[Environment, str]:
    """Every environment's id; those that differ in nothing but the launch and the commit share one."""
    ids: dict[Environment, str] = {}
    places: dict[Environment, str] = {}
    for where in dict.fromkeys(environments):
        place = replace(where, started=None, git_commit=None, git_dirty=None, device_index=None)
        places[where] = ids.setdefault(place, f"environment-{len(ids) + 1}")
    return places


def launches_of(cell: Cell) -> tuple[Record, ...]:
    """The records that a cell is made of; () where it is made of something else."""
    return cell.evidence if isinstance(cell.evidence, tuple) else ()


def lines(column: Heading, cell: Cell) -> Iterator[str]:
    """What a reader sees who points at a cell. Nothing for a label or a dash."""
    if cell.source is None:
        yield from cell.notes
        return
    yield f"{cell.source.capitalize()}: {cell.origin}." if cell.origin else f"{cell.source.capitalize()}."
    if cell.source != "published" and isinstance(cell.value, (int, float)):
        yield _value(column, cell, cell.value)
    launches = launches_of(cell)
    if cell.source == "measured" and launches:
        flags = [text for text in flags_of(launches) if not any(text in note.lower() for note in cell.notes)]
        if flags or not cell.notes:  # a doubt that stands in the notes is not followed by "no flags"
            yield f"Flags: {'; '.join(flags)}." if flags else "No flags."
    yield from (note for note in cell.notes if note.rstrip(".").lower() not in cell.origin.lower())


def _value(column: Heading, cell: Cell, value: float) -> str:
    unit = f" {UNITS[column.unit]}" if column.unit in UNITS and column.unit != "%" else ""
    if cell.source == "computed" and isinstance(value, int):
        return f"Exactly {value:,}{unit}."
    low, high = cell.low, cell.high
    level = f"{cell.level * 100:g} % " if cell.level else ""
    interval = f", {level}interval {low:,.6g} to {high:,.6g}" if low is not None and high is not None else ""
    return f"Unrounded {value:,.6g}{unit}{interval}."


def flags_of(launches: Sequence[Record]) -> tuple[str, ...]:
    """Every flag of these launches, in words."""
    flags = (measurement.flags for record in launches for measurement in record.measurements)
    return tuple(map(meaning, dict.fromkeys(chain.from_iterable(flags))))


def commands(row: Row, columns: Sequence[Heading]) -> dict[str, str]:
    """Every command that makes a number of this row again, and which word it makes: measured, computed or predicted."""
    lines: dict[str, str] = {}
    for cell in row.cells:
        if isinstance(cell.evidence, Comparison):
            line = compared(cell.evidence)
            lines |= {line: "measured"} if line else {}
        # A quotient of two rows is also made of the other row's launches, whose commands stand there.
        own = (record for record in launches_of(cell) if record.spec.model == row.subject)
        keys = grouped(own, lambda record: record.key)
        lines |= {line_of(launches): launches[0].source for launches in keys.values()}
    return dict(sorted(lines.items(), key=lambda pair: pair[1], reverse=True)) or _unrecorded(row, columns)


def _unrecorded(row: Row, columns: Sequence[Heading]) -> dict[str, str]:
    """A row of which nothing is recorded can be counted all the same, if it names a model and a size."""
    sizes = [cell.text for column, cell in zip(columns, row.cells, strict=True) if column.key == "image_size"]
    if ":" not in row.subject or not sizes or not SIZE.fullmatch(sizes[0]):
        return {}
    return {traced(Spec(model=row.subject, image_size=image_size(sizes[0]))): "computed"}


def sources(rows: Sequence[Row]) -> dict[Source, int]:
    """How many numbers there are of each source."""
    found = Counter(cell.source for row in rows for cell in row.cells if cell.source and cell.text != DASH)
    return {source: found[source] for source in HEADS if found[source]}


# --- from a spec to the command that makes its number again ----------------------------------------------------------

Option = tuple[str, object]

ROADS = {"10": "t", "11": "b"}
"""The paper's table of a road -> its name for `effects --roadmap`."""


def line_of(records: Sequence[Record]) -> str:
    """The command that makes these records of one key again."""
    record = records[-1]
    if record.source == "predicted":
        card = record.environment.device_key or record.environment.device
        return _line("predict", record.spec.model, [("gpu", card), *_spec(record.spec)])
    return traced(record.spec) if record.source == "computed" else measured(records)


def traced(spec: Spec) -> str:
    """The command that counts a spec."""
    return _line("trace", spec.model, _spec(spec))


def measured(launches: Sequence[Record]) -> str:
    """The command that measures the spec of these launches in the same way. It insists on the GPU, if it was one."""
    last = launches[-1]
    options: list[Option] = [*_spec(last.spec, always=True)]
    if last.protocol and last.protocol.name in PROTOCOLS:
        options.append(("protocol", last.protocol.name))
    return _line("run", last.spec.model, [*options, ("launches", len(launches)), *_where(last.environment)])


def compared(comparison: Comparison) -> str | None:
    """The command that measures a switch's or a step's effect again; None where a comparison was of something else."""
    name, spec = switch_of(comparison), comparison.baseline.spec
    pair = (spec.model, comparison.candidate.spec.model)
    roads = (road for table, road in ROADS.items() if pair in {(one.model, two.model) for one, two in steps(table)})
    road = next(roads, None)
    if name is None and road is None:
        return None
    size = [("image-size", spec.image_size)] if name else []  # a road has sizes and models of its own
    launches = [("launches", len(comparison.launches))] if comparison.launches else []
    what = [*size, *_spec(spec)[1:], *launches, ("seed", comparison.seed)]
    gpu = comparison.environment.device_type != "cpu"
    where = [("device", comparison.environment.device_type)] if gpu else _where(comparison.environment)
    first: Option = ("switches", name) if name else ("roadmap", road)
    return _line("effects", spec.model if name else None, [first, *what, *where])


def _spec(spec: Spec, *, always: bool = False) -> list[Option]:
    """What a spec is; `always`: also what a command would take for granted on some machine and not on another."""
    plain = Spec(model=spec.model)
    fields = [
        ("task", spec.task, plain.task),
        ("precision", spec.precision, None if always else plain.precision),
        ("memory-format", spec.memory_format, None if always else plain.memory_format),
        ("compile", spec.compile_mode, None),
        ("attention", spec.attention, plain.attention),
        ("processes", spec.processes, None),
        ("parallel", spec.parallel, None),
    ]
    told = [(name, value) for name, value, granted in fields if value not in (None, granted)]
    given = [*(("input", one) for one in spec.inputs or ()), *([("loss", spec.loss)] if spec.loss else [])]
    return [("image-size", spec.image_size), *given, ("batch-size", spec.batch_size), *told]


def _where(environment: Environment) -> list[Option]:
    if environment.device_type == "cpu":
        return [("device", "cpu"), *([("threads", environment.threads)] if environment.threads else [])]
    return [("gpu", environment.device_key)] if environment.device_key else [("device", environment.device_type)]


def _line(verb: str, model: str | None, options: Sequence[Option]) -> str:
    words = [word for name, value in options for word in (f"--{name}", str(value))]
    return shlex.join([*program_name().split(), verb, *([model] if model else []), *words])
