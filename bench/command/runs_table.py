"""The table of measured rows in a terminal, and what is said below it.

That is how far one launch can be trusted, what more seconds buy, and what would help.

Blocks of one process follow each other, so an interval between them says how steady that launch was. What another
launch would show is not in it: from launch to launch a number moves by more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from textwrap import fill

from visionbench.command import output
from visionbench.command.batch_sizes import saturation
from visionbench.record.record import Record
from visionbench.record.statistics import MIN_LAUNCHES, images_per_second, percentile
from visionbench.record.units import duration, plural, significant

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
