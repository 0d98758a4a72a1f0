"""The table of measured rows in a terminal, and what is said below it."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill

from visionbench.command import output
from visionbench.command.batch_sizes import saturation
from visionbench.command.one_launch import crowded, spreads
from visionbench.record.record import Record


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
