"""What `run` measured: one row per key, one column per metric that anybody has a number for.

Nothing here is about a paper: the rows are the records' own keys, in the order of the file. What all rows share (the
precision, the device, the protocol) is said once below the table, what tells them apart is a column; so two rows are
comparable where those columns agree. A number is over the launches of one key (`visionbench.record.statistics`), a
failure is a word with its cause in a footnote, and a doubt that holds for every row is said once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from visionbench.record.record import Environment, Record
from visionbench.record.spec import Protocol, Spec
from visionbench.record.statistics import MIN_LAUNCHES, Estimate
from visionbench.record.units import GIB, significant
from visionbench.reports import cells
from visionbench.reports.results.run_columns import LABELS, METRICS, Label, Metric, Run
from visionbench.reports.settings import CAUSES, device_name, failure, flags
from visionbench.reports.table import DASH, Cell, Column, Note, Row, Table

NAME, TITLE = "runs", "Measured"

NO_INTERVAL = f"fewer than {MIN_LAUNCHES} launches, so no interval"


def layout(records: Sequence[Record]) -> Table:
    """The table of all that was measured; computed records among `records` give the MACs. Pure."""
    runs = runs_of(records)
    labels = [label for label in LABELS if label.always or len({label.text(run) for run in runs}) > 1]
    found = [(metric, [metric.of(run) for run in runs]) for metric in METRICS]
    # A failure's word stands where the throughput would, so that column is always there.
    shown = [(metric, its) for metric, its in found if metric is METRICS[0] or any(its)]
    common = _common([_doubts(run, METRICS[0], estimate) for run, estimate in zip(runs, found[0][1], strict=True)])
    filled = [_fill(metric, runs, its, common) for metric, its in shown]
    rows = tuple(
        Row(
            cells=(*(cells.word(label.text(run)) for label in labels), *(column[place] for column in filled)),
            subject=run.spec.model,
        )
        for place, run in enumerate(runs)
    )
    dash = any(cell.text == DASH for row in rows for cell in row.cells)
    return Table(
        name=NAME,
        title=TITLE,
        columns=(*map(_label, labels), *(_column(metric, its) for metric, its in shown)),
        rows=rows,
        legend=(Note(term=DASH, text="not measured or not known"),) if dash else (),
        remarks=tuple(_remarks(runs, labels, common)),
    )


def runs_of(records: Iterable[Record]) -> tuple[Run, ...]:
    """The measured records by key, in the order of their first appearance. One pass over the records."""
    keys: dict[object, list[Record]] = {}
    traces: dict[tuple[str, int, str], Record] = {}
    for record in records:
        if record.source == "measured":
            keys.setdefault(record.key, []).append(record)
        elif record.source == "computed" and record.failure is None:
            traces[_step(record.spec)] = record
    return tuple(Run(launches=tuple(its), counted=traces.get(_step(its[0].spec))) for its in keys.values())


def _step(spec: Spec) -> tuple[str, int, str]:
    """What the MACs of an image depend on."""
    return (spec.model, spec.image_size, spec.task)


def _fill(metric: Metric, runs: Sequence[Run], its: Sequence[Estimate | None], common: frozenset[str]) -> list[Cell]:
    """The cells of one column, rounded alike."""
    scale, _, digits = _measure(metric, its)
    filled = []
    for run, estimate in zip(runs, its, strict=True):
        if estimate is None:
            filled.append(_failed(run) if metric is METRICS[0] else Cell())
            continue
        notes = tuple(cells.sentence(doubt) for doubt in _doubts(run, metric, estimate) if doubt not in common)
        filled.append(cells.measured(estimate, digits, notes, _origin(run), scale=scale, spans=metric.spans))
    return filled


def _measure(metric: Metric, its: Iterable[Estimate | None]) -> tuple[float, str, int]:
    """What a whole column is shown in: its unit in base units, that unit's name, and decimals."""
    values = [estimate.centre for estimate in its if estimate is not None]
    scale, unit = _UNITS[metric.unit](min((value for value in values if value > 0), default=1.0))
    return scale, unit, 0 if metric.unit == "count" else cells.rate_digits(value / scale for value in values)


_UNITS: dict[str, Callable[[float], tuple[float, str]]] = {
    "1/s": lambda _: (1.0, ""),
    "count": lambda _: (1.0, ""),
    "1": lambda _: (1e-2, "%"),
    "s": lambda smallest: (1.0, "s") if smallest >= 1 else (1e-3, "ms"),
    "J": lambda smallest: (1.0, "J") if smallest >= 1 else (1e-3, "mJ"),
    "B": lambda smallest: (GIB, "GiB") if smallest >= GIB else (2.0**20, "MiB"),
}
"""The smallest value of a column decides in which unit all of it is shown."""


def _label(label: Label) -> Column:
    return Column(key=label.key, head=(label.head,), align="left" if label.key == "model" else "right", rank=label.rank)


def _column(metric: Metric, its: Sequence[Estimate | None]) -> Column:
    _, unit, _ = _measure(metric, its)
    head = f"{metric.head}, {unit}" if unit else metric.head
    term = ", ".join(part for part in (metric.group, metric.head) if part)
    return Column(
        key=metric.key,
        group=metric.group,
        head=(head,),
        unit=metric.unit,
        source="measured",
        rank=metric.rank,
        notes=(Note(term=term, text=metric.note),) if metric.note else (),
    )


def _failed(run: Run) -> Cell:
    """The cause in place of the throughput, its message as a footnote; a dash where throughput was not asked for."""
    record = failure(run.launches)
    if record is None or record.failure is None:
        return Cell()
    why = record.failure
    note = f"{CAUSES[why.kind]} in stage '{why.stage}': {why.message}"
    return Cell(text=CAUSES[why.kind], source="measured", notes=(cells.sentence(note),), origin=_origin(run))


def _doubts(run: Run, metric: Metric, estimate: Estimate | None) -> tuple[str, ...]:
    """What a reader must know of this number. What is said beside the throughput is not said again in its row."""
    if estimate is None:
        return ()
    if metric is not METRICS[0]:
        said = flags(run.launches, METRICS[0].flagged)
        return tuple(flag for flag in flags(run.launches, metric.flagged) if flag not in said)
    few = (NO_INTERVAL,) if estimate.low is None else ()
    lost = [record.failure for record in run.launches if record.failure]
    causes = ", ".join(dict.fromkeys(CAUSES[why.kind] for why in lost))
    gone = (f"{len(lost)} of {len(run.launches)} launches failed ({causes})",) if lost else ()
    warnings = [text for record in run.launches if (one := record.get(metric.flagged)) for text in one.warnings]
    return (*few, *flags(run.launches, metric.flagged), *gone, *dict.fromkeys(warnings))


def _common(doubts: Sequence[tuple[str, ...]]) -> frozenset[str]:
    """The doubts that every row with a throughput has, if there are several."""
    having = [frozenset(its) for its in doubts if its]
    return frozenset.intersection(*having) if len(having) == len(doubts) > 1 else frozenset()


def _origin(run: Run) -> str:
    days = sorted({(record.environment.started or "")[:10] for record in run.launches} - {""})
    when = f"; {' to '.join(dict.fromkeys((days[0], days[-1])))}" if days else ""
    protocol = f"protocol {run.protocol.name}; " if run.protocol else ""
    return f"{run.environment.device}; {run.spec}; {protocol}launches: {run.successes}{when}"


def _remarks(runs: Sequence[Run], labels: Sequence[Label], common: frozenset[str]) -> Iterator[str]:
    if not runs:
        yield "Nothing measured yet: `python bench.py run` measures models on this machine."
        return
    unsaid = ("device", "protocol", "torch")  # the sentences below say them
    alike = [label.text(runs[0]) for label in LABELS if label not in labels and label.key not in unsaid]
    if told := (*filter(None, alike), *sorted(common)):
        yield f"Every row: {'; '.join(told)}."
    yield from dict.fromkeys(_where(run.environment) for run in runs)
    yield from dict.fromkeys(_how(run.protocol) for run in runs if run.protocol)


def _where(environment: Environment) -> str:
    """One line about the machine, as far as it is known."""
    memory = f"{significant(environment.device_memory / GIB, 3)} GiB" if environment.device_memory else None
    known = (
        environment.device_name or environment.cpu,
        memory,
        f"driver {environment.driver}" if environment.driver else None,
        f"CUDA {environment.cuda}" if environment.device_type == "cuda" and environment.cuda else None,
        f"torch {environment.torch}" if environment.torch else None,
        f"{environment.threads} thread{'' if environment.threads == 1 else 's'}" if environment.threads else None,
        f"power limit {environment.power_limit:g} W" if environment.power_limit else None,
    )
    return f"{device_name(environment)}: {'; '.join(part for part in known if part)}."


def _how(protocol: Protocol) -> str:
    """One line about the protocol; the rest of it is in the records."""
    warm = f"{protocol.warmup_iterations} warm-up iterations"
    warm += f" and at least {protocol.warmup_seconds:g} s" if protocol.warmup_seconds else ""
    length = f"{protocol.block_seconds:g} s"
    if protocol.block_iterations is not None:
        length = f"{protocol.block_iterations} iterations"
    blocks = f"{protocol.blocks} block{'' if protocol.blocks == 1 else 's'} of {length}"
    return f"Protocol {protocol.name}: {warm}, then {blocks}; interval: 95 %, over launches (n), within this session."
