"""The table of measured rows in a terminal, and what is said below it; and what a notebook shows of records.

Below it is said how far one launch can be trusted, what more seconds buy, and what would help.

Blocks of one process follow each other, so an interval between them says how steady that launch was. What another
launch would show is not in it: from launch to launch a number moves by more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from textwrap import fill
from typing import TYPE_CHECKING

from visionbench.command import output
from visionbench.command.batch_sizes import saturation
from visionbench.comparison.verdict import Judgement
from visionbench.record.record import Record
from visionbench.record.statistics import MIN_LAUNCHES, images_per_second, percentile
from visionbench.record.units import duration, plural, significant

if TYPE_CHECKING:
    from visionbench.reports.table import Table

START_SECONDS = 0.5
"""What a further launch takes beside its steps: a fork, the network's weights, a look at the machine."""

WANTING = ("busy_machine", "noisy_env")
"""Flags of a CPU whose cores were wanted by others."""


def print_runs(measured: Sequence[Record], computed: Sequence[Record] = (), *, threads: int | None = None) -> None:
    """Print it; computed records give the MACs, and `threads` are those that were asked for."""
    from visionbench.reports import render
    from visionbench.reports.results import runs

    if measured:
        table = runs.layout([*computed, *measured])
        print(render(table, "terminal", output.width(None), colour=output.colour()), end="")
    for sentence in (*spreads(measured), *saturation(measured), crowded(measured, threads)):
        if sentence:
            print(fill(sentence, output.width(None) or 100, subsequent_indent="  ", break_on_hyphens=False))


def spreads(records: Sequence[Record]) -> Iterator[str]:
    """For each row of one launch a sentence on its blocks, and what the launches that an interval needs would take."""
    rows: dict[object, list[Record]] = {}
    for record in records:
        if record.failure is None:
            rows.setdefault(record.key, []).append(record)
    for launches in rows.values():
        if len(launches) == 1 and (sentence := _spread(launches[0])):
            yield sentence


def _spread(record: Record) -> str:
    rate, blocks = images_per_second(record), record.get("throughput")
    middle = percentile(blocks.values, 0.5) if blocks else None
    if rate is None or blocks is None or middle is None:
        return ""
    images = record.spec.batch_size * blocks.iterations
    low, high = (significant(images / seconds, 3) for seconds in (middle.high, middle.low))
    more = duration((MIN_LAUNCHES - 1) * launch_seconds(record))
    return (
        f"{record.spec.model}: {significant(rate, 3)} img/s is of one launch; the median of its "
        f"{plural(len(blocks.values), 'block')} is in [{low}, {high}] (95 %). Another launch may be outside: "
        f"--launches {MIN_LAUNCHES} takes about {more} more and gives an interval over launches."
    )


def launch_seconds(record: Record) -> float:
    """Seconds that such a launch took, from its own times."""
    blocks, first = record.get("throughput"), record.get("first_call")
    if blocks is None:
        return START_SECONDS
    step = min(blocks.values) / blocks.iterations
    return START_SECONDS + sum(blocks.values) + blocks.warmups * step + (first.values[0] if first else 0.0)


def crowded(records: Iterable[Record], threads: int | None) -> str:
    """One sentence where several threads measured on cores that others wanted too; "" elsewhere. `threads` as asked."""
    flags = {
        flag
        for record in records
        if record.environment.device_type == "cpu" and (record.environment.threads or 1) > 1
        for measurement in record.measurements
        for flag in measurement.flags
    }
    if threads == 1 or not flags.intersection(WANTING):
        return ""
    return (
        "More threads wanted cores than there are, and threads that wait for each other are slow: "
        "with --threads 1 the same command is steadier."
    )


def html_of_records(records: Sequence[Record]) -> str:
    """A notebook's view: the table of what was measured, one of what was predicted, and one for each count."""
    return "".join(_fragment(table, sentences) for table, sentences in _tables(records)) or "<p>No records.</p>"


def html_of_judgement(judgement: Judgement) -> str:
    """A notebook's view: the table of verdicts."""
    from visionbench.reports.results import verdicts

    return _fragment(verdicts.layout(judgement), ())


def _tables(records: Sequence[Record]) -> Iterable[tuple[Table, Sequence[str]]]:
    from visionbench.reports.results import model_card, predictions, runs

    measured = [record for record in records if record.source == "measured"]
    if measured:
        yield runs.layout(records), tuple(spreads(measured))
    predicted = [record for record in records if record.source == "predicted"]
    if predicted:
        yield predictions.layout(predicted, "Predicted"), ()
    for record in records:
        if record.source == "computed" and record.failure is None and not measured:
            origin = f"counted by torch {record.environment.torch} on its meta device"
            yield model_card.facts(record, str(record.spec), origin), ()


def _fragment(table: Table, sentences: Sequence[str]) -> str:
    """A table without a style sheet: a notebook has one."""
    from visionbench.reports.render.fragment import fragment
    from visionbench.reports.table import cleaned

    return fragment(cleaned(table)) + "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)
