"""What `run` measured: one row per key, one column per metric that anybody has a number for.

Nothing here is about a paper: the rows are the records' own keys, in the order of the file. What all rows share (the
precision, the device, the protocol) is said once below the table, what tells them apart is a column; so two rows are
comparable where those columns agree. A number is over the launches of one key (`visionbench.record.statistics`), a
failure is a word with its cause in a footnote, and a doubt that holds for every row is said once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from visionbench.comparison.comparison import Comparison
from visionbench.record.program import program_name
from visionbench.record.record import Environment, Record, is_unfit
from visionbench.record.spec import Protocol
from visionbench.record.statistics import Estimate
from visionbench.record.units import GIB, plural, significant
from visionbench.reports import cells
from visionbench.reports.cells import CAUSES
from visionbench.reports.column import Column, label, lay_out
from visionbench.reports.launches import Launches, quick_key, unfit_nodes
from visionbench.reports.paper.report import Report
from visionbench.reports.results.metrics import METRICS, NOTES, Metric, Run
from visionbench.reports.settings import device_name, failure, flags
from visionbench.reports.table import DASH, Cell, Note, Table

NAME, TITLE = "runs", "Measured"

WEAK = "Measured; of several processes: weak scaling, the batch and img/s are each process's"
"""The title where a row is of several processes."""

CODE = "network"
"""The label that says which state of a user's code a row is of; shown where nothing else tells two rows apart."""

ALWAYS = ("model", "image_size", "task", "batch_size", "launches")
"""The labels that are always there; another one is shown where two runs differ in it."""


def _label(key: str, head: str, text: Callable[[Run], str], rank: int = 0) -> Column[Run]:
    return label(key, head, text, align="left" if key == "model" else "right", rank=rank)


OF_CODE = Note(
    term="code", text="a hash of what your function made and of its sources: another one is another network."
)

LABELS: tuple[Column[Run], ...] = (
    _label("model", "model", lambda run: run.spec.model.removeprefix("timm:")),
    _label("image_size", "size", lambda run: run.spec.pixels),
    _label("task", "task", lambda run: run.spec.task, rank=4),
    _label("batch_size", "batch", lambda run: str(run.spec.batch_size)),
    # The rest of a key: one that tells two rows apart is not folded away (see `_foldable`).
    _label("precision", "precision", lambda run: run.spec.precision),
    _label("memory_format", "format", lambda run: run.spec.memory_format),
    _label("compile_mode", "compiled", lambda run: run.spec.compile_mode or "eager"),
    _label("attention", "attention", lambda run: f"{run.spec.attention} attention"),
    _label("inputs", "inputs", lambda run: ", ".join(run.spec.inputs or ())),
    _label("loss", "loss", lambda run: run.spec.loss or ""),
    _label("processes", "processes", lambda run: str(run.spec.processes or "")),
    _label("parallel", "parallel", lambda run: run.spec.parallel or ""),
    _label("backend", "backend", lambda run: run.spec.backend or ""),
    _label("device", "device", lambda run: device_name(run.environment)),
    _label("protocol", "protocol", lambda run: run.protocol.name if run.protocol else DASH),
    _label("torch", "torch", lambda run: run.environment.torch or DASH),
    _label("malloc", "malloc", lambda run: f"malloc {run.environment.malloc}" if run.environment.malloc else ""),
    _label("variables", "variables", lambda run: run.environment.variables or ""),
    _label("nodes", "nodes", lambda run: str(run.launches.nodes or ""), rank=3),
    replace(_label("network", "code", lambda run: (run.launches[-1].network or DASH)[:7]), notes=(OF_CODE,)),
    _label("launches", "n", lambda run: str(run.launches.successes), rank=3),
)
"""What says which run a row is."""


def layout(records: Sequence[Record], _comparisons: Sequence[Comparison] = (), /) -> Table:
    """The table of all that was measured; computed records among `records` give the MACs. Pure."""
    runs = runs_of(records)
    together = any(run.spec.processes is not None for run in runs)
    labels = _labels(runs, together)
    estimates = {metric.key: {run: _estimate(metric, run) for run in runs} for metric in METRICS}
    main = METRICS[0]
    doubts = [frozenset(_doubts(run, main, estimate)) for run, estimate in estimates[main.key].items()]
    common = frozenset.intersection(*doubts) if len(doubts) > 1 else frozenset()  # is said once
    # A failure's word stands where the throughput would, so that column is always there.
    shown = [metric for metric in METRICS if metric is main or any(estimates[metric.key].values())]
    return lay_out(
        NAME,
        WEAK if together else TITLE,
        runs,
        [*labels, *(_column(metric, estimates[metric.key], common) for metric in shown)],
        subject=lambda run: run.spec.model,
        remarks=_remarks(runs, labels, common, [found for found in estimates[main.key].values() if found]),
        caveats=unfit_nodes(records),
    )


def _labels(runs: Sequence[Run], together: bool) -> list[Column[Run]]:
    """The labels that are always there, and those in which two runs differ."""
    always = (*ALWAYS, "processes") if together else ALWAYS
    always = (*always, "nodes") if any(run.launches.nodes > 1 for run in runs) else always
    said = {column.key: [column.fill(run).text for run in runs] for column in LABELS}
    telling = {key for key, texts in said.items() if len(set(texts)) > 1}
    if len(set(zip(*(said[key] for key in said if key not in ("launches", CODE)), strict=True))) == len(runs):
        telling.discard(CODE)  # something else tells all rows apart
    return list(_foldable([c for c in LABELS if c.key in always or c.key in telling], said))


FOLDED = {
    "variables": 16, "malloc": 15, "torch": 14, "attention": 13, "memory_format": 12, "compile_mode": 11,
    "protocol": 10, "precision": -1, "device": -2,
}  # fmt: skip
"""In which order labels go where a terminal is too narrow, if others tell the rows apart: the first before any number,
those below nought after all of them.
"""

SETTINGS = ("precision", "memory_format", "compile_mode", "attention")
"""What the rows of a machine share of these is said with it, because the columns may be left out."""


def _foldable(labels: Sequence[Column[Run]], said: Mapping[str, list[str]]) -> Iterator[Column[Run]]:
    """The labels, with a rank for those that follow from others, whatever the network.

    All rows of one card have one precision, one torch, one protocol: then the card's name is enough in 80 columns.
    """
    needed = [column.key for column in labels if column.key not in ALWAYS and column.key != "nodes"]

    def told_apart(keys: Iterable[str]) -> int:
        return len(set(zip(*(said[key] for key in keys), strict=True)))

    rows = told_apart(needed)
    for key in FOLDED:
        others = [other for other in needed if other != key]
        if key in needed and told_apart(others) == rows:
            needed = others
    for column in labels:
        spare = column.key in FOLDED and column.key not in needed
        yield replace(column, rank=FOLDED[column.key]) if spare else column


def _estimate(metric: Metric, run: Run) -> Estimate | None:
    """The run's number; a walk over its launches is spared where none of them has the metric."""
    return metric.of(run) if not metric.flagged or metric.flagged in run.launches.metrics else None


def runs_of(records: Iterable[Record]) -> tuple[Run, ...]:
    """The measured records by key, in the order of their first appearance. One pass over the records."""
    keys: dict[object, list[Record]] = {}
    places: dict[object, list[Record]] = {}
    traces: dict[tuple[object, ...], Record] = {}  # by what the MACs of an image depend on
    for record in records:
        if record.source == "measured" and not is_unfit(record):
            if (key := quick_key(record)) not in places:
                places[key] = keys.setdefault(record.key, [])
            places[key].append(record)
        elif record.source == "computed" and record.failure is None:
            traces[*record.spec.network, record.spec.task] = record
    runs = ((its, its[0].spec) for its in keys.values())
    return tuple(Run(launches=Launches(its), counted=traces.get((*spec.network, spec.task))) for its, spec in runs)


_UNITS: dict[str, Callable[[float], tuple[float, str]]] = {
    "1/s": lambda _: (1.0, ""),
    "count": lambda _: (1.0, ""),
    "1": lambda _: (1e-2, "%"),
    "s": lambda smallest: (1.0, "s") if smallest >= 1 else (1e-3, "ms"),
    "J": lambda smallest: (1.0, "J") if smallest >= 1 else (1e-3, "mJ"),
    "B": lambda smallest: (GIB, "GiB") if smallest >= GIB else (2.0**20, "MiB"),
}
"""The smallest value of a column decides in which unit all of it is shown."""


def _column(metric: Metric, estimates: dict[Run, Estimate | None], common: frozenset[str]) -> Column[Run]:
    """The column of one metric, in one unit and rounded alike in all of its cells."""
    values = [abs(estimate.centre) for estimate in estimates.values() if estimate]  # a difference may be negative
    scale, unit = _UNITS[metric.unit](min((value for value in values if value > 0), default=1.0))
    digits = 0 if metric.unit == "count" else cells.rate_digits(value / scale for value in values)

    def fill(run: Run) -> Cell:
        estimate = estimates[run]
        if estimate is None:
            return _failed(run) if metric is METRICS[0] else Cell()
        notes = [cells.sentence(doubt) for doubt in _doubts(run, metric, estimate) if doubt not in common]
        return cells.measured(estimate, digits, notes, run.launches, scale=scale, spans=metric.spans)

    term = ", ".join(part for part in (metric.group, metric.head) if part)
    return Column(
        key=metric.key,
        group=metric.group,
        head=(f"{metric.head}, {unit}" if unit else metric.head,),
        unit=metric.unit,
        source="measured",
        rank=metric.rank,
        notes=(Note(term=term, text=NOTES[metric.key]),) if metric.key in NOTES else (),
        fill=fill,
    )


def _failed(run: Run) -> Cell:
    """The cause in place of the throughput, its message as a footnote; a dash where throughput was not asked for."""
    why = failure(run.launches)
    note = f"{CAUSES[why.kind]} in stage '{why.stage}': {why.message}" if why else ""
    return cells.failed(run.launches, (cells.sentence(note),))


def _doubts(run: Run, metric: Metric, estimate: Estimate | None) -> tuple[str, ...]:
    """What a reader must know of this number. What is said beside the throughput is not said again in its row."""
    if estimate is None:
        return ()
    if metric is not METRICS[0]:
        said = flags(run.launches, METRICS[0].flagged)
        return tuple(flag for flag in flags(run.launches, metric.flagged) if flag not in said)
    lost = [record.failure for record in run.launches if record.failure]
    causes = ", ".join(dict.fromkeys(CAUSES[why.kind] for why in lost))
    gone = (f"{len(lost)} of {len(run.launches)} launches failed ({causes})",) if lost else ()
    warnings = [text for measurement in run.launches.measurements(metric.flagged) for text in measurement.warnings]
    return (*cells.few(estimate), *flags(run.launches, metric.flagged), *gone, *dict.fromkeys(warnings))


def _remarks(
    runs: Sequence[Run], labels: Sequence[Column[Run]], common: frozenset[str], rates: Sequence[Estimate]
) -> Iterator[str]:
    if not runs:
        yield f"Nothing measured yet: `{program_name()} run` measures models on this machine."
        return
    unsaid = ("device", "protocol", "torch", "nodes", CODE)  # the sentences below say them
    shown = {column.key for column in labels}
    alike = [column.fill(runs[0]).text for column in LABELS if column.key not in shown and column.key not in unsaid]
    if shared := (*filter(None, alike), *sorted(common)):
        yield f"Every row: {'; '.join(shared)}."
    foldable = [column for column in labels if column.rank and column.key in SETTINGS]
    places: dict[str, list[Run]] = {}
    for run in runs:
        # Of one machine the newest environment alone is said.
        seen = reversed(run.launches.environments) if run.launches.nodes > 1 else (run.environment,)
        for place in seen:
            places.setdefault(_where(place), []).append(run)
    for machine, here in places.items():
        there = [column.fill(here[0]).text for column in foldable if len({column.fill(run).text for run in here}) == 1]
        yield f"{machine}; rows: {', '.join(filter(None, there))}." if there else f"{machine}."
    over = cells.over(rates)
    over = "over launches (n), within this session" if over == "over launches" else over
    yield from dict.fromkeys(_how(run.protocol, over) for run in runs if run.protocol)


def _where(environment: Environment) -> str:
    """The machine, as far as it is known."""
    memory = f"{significant(environment.device_memory / GIB, 3)} GiB" if environment.device_memory else None
    known = (
        environment.device_name or environment.cpu,
        memory,
        f"driver {environment.driver}" if environment.driver else None,
        f"CUDA {environment.cuda}" if environment.device_type == "cuda" and environment.cuda else None,
        f"torch {environment.torch}" if environment.torch else None,
        plural(environment.threads, "thread") if environment.threads else None,
        f"gradients by {environment.communication} {environment.nccl or ''}".rstrip()
        if environment.communication
        else None,
        f"power limit {environment.power_limit:g} W" if environment.power_limit else None,
    )
    return f"{device_name(environment)}: {'; '.join(part for part in known if part)}"


def _how(protocol: Protocol, over: str) -> str:
    """One line about the protocol, and what intervals are over; the rest of it is in the records."""
    warm = f"{protocol.warmup_iterations} warm-up iterations"
    warm += f" and at least {protocol.warmup_seconds:g} s" if protocol.warmup_seconds else ""
    iterations = protocol.block_iterations
    length = f"{protocol.block_seconds:g} s" if iterations is None else f"{iterations} iterations"
    interval = f"; interval: 95 %, {over}" if over else ""
    return f"Protocol {protocol.name}: {warm}, then {plural(protocol.blocks, 'block')} of {length}{interval}."


REPORT = Report(name=NAME, title=TITLE, paper_table="", layout=layout)
