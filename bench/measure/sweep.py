"""Many launches, one after another: what is missing, in which order, kept as it comes.

A sweep of hours is cut short by a deadline, a Ctrl-C or a power cut more often than it ends. So every record is on the
disk before the next launch starts, a second sweep measures only what the first has left, and the order is such that
every row is measured once before any row is measured twice.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol as Interface

from bench.measure.launch import launch, prepare
from bench.record.record import Environment, Record
from bench.record.spec import Protocol, Spec
from bench.record.store import append, check_writable, read_if_there


class Progress(Interface):
    """Who is told how the sweep goes. `index` counts launches from 1 to `total`."""

    def started(self, spec: Spec, index: int, total: int) -> None:
        """A launch begins."""

    def finished(self, record: Record, index: int, total: int, eta_seconds: float) -> None:
        """A launch has ended and its record is on the disk; the rest takes about `eta_seconds`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a sweep did. Counts are launches: of those wanted, `skipped` were recorded before, `left` remain.

    `records` are this sweep's, `measured` and `failed` count them. `left` counts what a cut-off sweep did not come to
    and the further launches of a spec that failed. `interrupted`: ended by Ctrl-C or by its own deadline.
    """

    records: tuple[Record, ...]
    measured: int
    failed: int
    skipped: int
    left: int
    interrupted: bool


def plan(
    specs: Iterable[Spec],
    protocol: Protocol,
    done: Sequence[Record],
    environment: Environment,
    *,
    retry_failures: bool = False,
) -> list[Spec]:
    """The launches still missing, in the order in which to make them: a spec appears once per launch.

    `done` are the records there are and `environment` is this one: only records that a launch would repeat count, those
    with its key. A spec that failed once is done, unless `retry_failures`.
    """
    launched = Counter(record.key for record in done if record.failure is None)
    failed = {record.key for record in done if record.failure is not None}
    missing: list[tuple[int, Spec]] = []
    for spec in dict.fromkeys(specs):
        key = Record(spec=spec, protocol=protocol, environment=environment, source="measured").key
        if retry_failures or key not in failed:
            missing += [(ordinal, spec) for ordinal in range(launched[key], protocol.launches)]
    return [spec for _, spec in sorted(missing, key=lambda launch: launch[0])]


def sweep(
    specs: Iterable[Spec],
    protocol: Protocol,
    path: Path | str,
    device: str,
    *,
    threads: int | None = None,
    max_seconds: float | None = None,
    retry_failures: bool = False,
    progress: Progress | None = None,
) -> Outcome:
    """Make the launches that `path` lacks and append their records to it.

    After `max_seconds` no launch is started; the one that runs is not cut short, for its time limit is the protocol's.
    Raises `BenchError` before the first launch if the file cannot be read or written or the device is no device, and
    later if a record cannot be written: the records before it are safe.
    """
    wanted = tuple(dict.fromkeys(specs))
    check_writable(path)
    prepare()
    from bench.measure.environment import describe  # imports torch, while the fork server does the same

    here = describe(device, threads)
    missing = plan(wanted, protocol, read_if_there(path).records, here, retry_failures=retry_failures)
    records, interrupted = _launch_all(missing, protocol, path, device, threads, max_seconds, progress)
    failed = sum(record.failure is not None for record in records)
    return Outcome(
        records=tuple(records),
        measured=len(records) - failed,
        failed=failed,
        skipped=len(wanted) * protocol.launches - len(missing),
        left=len(missing) - len(records),
        interrupted=interrupted,
    )


def _launch_all(
    missing: Sequence[Spec],
    protocol: Protocol,
    path: Path | str,
    device: str,
    threads: int | None,
    max_seconds: float | None,
    progress: Progress | None,
) -> tuple[list[Record], bool]:
    """The records made, and whether it was cut off."""
    records: list[Record] = []
    failed: set[Spec] = set()
    start = time.monotonic()
    try:
        for index, spec in enumerate(missing, start=1):
            if spec in failed:  # what did not fit, crashed or hung would again, and a hang costs minutes
                continue
            if max_seconds is not None and time.monotonic() - start >= max_seconds:
                return records, True
            if progress is not None:
                progress.started(spec, index, len(missing))
            record = launch(spec, protocol, device, threads)
            append(path, record)
            records.append(record)
            failed |= {spec} if record.failure is not None else set()
            if progress is not None:
                left = sum(later not in failed for later in missing[index:])
                progress.finished(record, index, len(missing), left * (time.monotonic() - start) / len(records))
    except KeyboardInterrupt:
        return records, True
    return records, False
