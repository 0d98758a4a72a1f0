"""What `tables` and `run` share: a sweep with its progress, and what is said about it."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from visionbench.command import progress
from visionbench.record.spec import Spec
from visionbench.record.units import plural

if TYPE_CHECKING:
    from visionbench.command.selection import Place
    from visionbench.measuring.sweep import Outcome


def measure(specs: Sequence[Spec], here: Place, options: Namespace) -> Outcome:
    """Make the launches that the records file lacks, as the options say; tells progress and the outcome on stderr."""
    from visionbench.measuring.agenda import Budget
    from visionbench.measuring.sweep import sweep

    where = ", ".join(here.devices)
    progress.say(f"Measuring {plural(len(specs), 'row')} on {where}, protocol {here.protocol.name} ...")
    with _clocks(here, options), progress.shown() as shown:
        outcome = sweep(
            specs,
            here.protocol,
            options.records,
            here.devices,
            threads=options.threads,
            budget=Budget(total=options.max_time, row=options.row_time),
            retry_failures=options.retry_failures,
            progress=shown,
        )
    progress.say(_summary(outcome, options.records))
    return outcome


def _summary(outcome: Outcome, path: Path) -> str:
    parts = [f"{plural(outcome.measured, 'launch', 'launches')} measured"]
    parts += [f"{outcome.failed} failed (--retry-failures tries again)"] if outcome.failed else []
    parts += [f"{outcome.skipped} were recorded before"] if outcome.skipped else []
    if outcome.left:
        cut_off = outcome.interrupted or outcome.cut_off
        why = "the same command goes on from here" if cut_off else "of rows that failed or have had their time"
        parts.append(f"{outcome.left} are left: {why}")
    return f"{', '.join(parts)}. Records: {path}"


@contextmanager
def _clocks(here: Place, options: Namespace) -> Iterator[None]:
    """The GPUs' clocks fixed for the time of a sweep, if asked; nothing is changed otherwise."""
    with ExitStack() as stack:
        if options.lock_clocks:
            from visionbench.machine.telemetry import locked_clocks

            for device in here.devices:
                stack.enter_context(locked_clocks(device))
        yield
