"""Many launches, one after another: what is missing, in which order, when to stop, kept as it comes.

A sweep of hours is cut short by a deadline, a Ctrl-C or a power cut more often than it ends. So every record is on the
disk before the next launch starts, a second sweep measures only what the first has left, and the order is such that
every row is measured once before any row is measured twice. With a target for the interval, rounds go on for the rows
that have not reached it; the rule looks at the interval's width alone, never at what a comparison would say, because
stopping when something becomes significant triples false alarms.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol as Interface

from visionbench.measuring.process.launch import launch, prepare
from visionbench.record.errors import BenchError
from visionbench.record.record import Environment, Failure, Record, to_json
from visionbench.record.spec import ImageSize, Protocol, Spec
from visionbench.record.statistics import throughput
from visionbench.record.store import Place, append, changed, check_writable, read_if_there
from visionbench.record.units import plural

MAX_LAUNCHES = 20
"""Launches after which a row's interval is what it is, however wide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Seconds after which no launch is started any more: of the whole sweep, and of one row. None is no limit."""

    total: float | None = None
    row: float | None = None


class Agenda:
    """The launches of a sweep, handed out one at a time to one or several workers (one per GPU).

    `missing` are the launches that the protocol still wants, in order; `rows` are the specs that a target for the
    interval is about, and `done` the records of earlier sweeps that count towards it.
    """

    def __init__(
        self,
        missing: Sequence[Spec],
        rows: Sequence[Spec],
        done: Iterable[Record],
        protocol: Protocol,
        budget: Budget,
        now: Callable[[], float] | None = None,
    ) -> None:
        self._queue = deque(missing)
        self._rows = tuple(rows)
        self._protocol, self._budget, self._now = protocol, budget, now or time.monotonic
        self._records: dict[Spec, list[Record]] = {}
        self._spent: dict[Spec, float] = {}
        self._out: set[Spec] = set()
        self._failed: set[Spec] = set()
        self._start = self._now()
        self._lock = threading.Lock()
        self.cut_off = False
        for record in done:
            self._records.setdefault(record.spec, []).append(record)

    def take(self) -> Spec | None:
        """The next launch, or None: nothing is left, or the time is up (`cut_off`)."""
        with self._lock:
            if not self.left:
                self._queue.extend(self._imprecise())
            spec = next((spec for spec in self._queue if self._may(spec)), None)
            if spec is None:
                return None
            if self._over(self._budget.total, self._now() - self._start):
                self.cut_off = True
                return None
            self._queue.remove(spec)
            self._out.add(spec)
            return spec

    def give(self, spec: Spec, record: Record, seconds: float) -> None:
        """A launch has ended after so many seconds."""
        with self._lock:
            self._out.discard(spec)
            self._records.setdefault(spec, []).append(record)
            self._spent[spec] = self._spent.get(spec, 0.0) + seconds
            if record.failure is not None:  # what did not fit, crashed or hung would again, and a hang costs minutes
                self._failed.add(spec)

    def put_back(self, spec: Spec) -> None:
        """A launch was taken and not made."""
        with self._lock:
            self._out.discard(spec)
            self._queue.appendleft(spec)

    @property
    def left(self) -> int:
        """Launches that are still wanted and may still be made."""
        return sum(self._may(spec) for spec in self._queue)

    @property
    def not_made(self) -> int:
        """Launches that were wanted and not made."""
        return len(self._queue)

    def _may(self, spec: Spec) -> bool:
        return spec not in self._failed and not self._over(self._budget.row, self._spent.get(spec, 0.0))

    @staticmethod
    def _over(limit: float | None, spent: float) -> bool:
        return limit is not None and spent >= limit

    def _imprecise(self) -> list[Spec]:
        """One more round for the rows whose interval is wider than the protocol's target."""
        target = self._protocol.target_rel_ci
        if target is None:
            return []
        rows = [spec for spec in self._rows if spec not in self._out and self._may(spec)]
        return [spec for spec in rows if not precise(self._records.get(spec, []), target)]


def precise(launches: Sequence[Record], target: float) -> bool:
    """Whether half of the throughput's interval is at most `target` of its centre, or `MAX_LAUNCHES` have been made."""
    if len(launches) >= MAX_LAUNCHES:
        return True
    estimate = throughput(launches)
    if estimate is None or estimate.low is None or estimate.high is None:
        return False
    return (estimate.high - estimate.low) / 2 <= target * estimate.centre


NO_LIMIT = Budget()

Network = tuple[str, ImageSize, tuple[str, ...] | None]
"""What `Spec.network` is: a user's factory may build by the image's size."""

Networks = Mapping[Network, str]
"""What users' names stand for now, as `Record.network` has it."""


class Progress(Interface):
    """Receives the sweep's progress. `index` counts launches from 1 to `total`."""

    def started(self, spec: Spec, index: int, total: int) -> None:
        """A launch begins."""

    def finished(self, record: Record, index: int, total: int, eta_seconds: float) -> None:
        """A launch has ended and its record is on the disk; the rest takes about `eta_seconds`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a sweep did. Counts are launches: of those wanted, `skipped` were recorded before, `left` remain.

    `records` are this sweep's, `measured` and `failed` count them. `left` counts what a cut-off sweep did not come to
    and the further launches of a spec that failed. `interrupted`: ended by Ctrl-C; `cut_off`: by its own deadline.
    `remarks` say what another process did to the file.
    `lost` are the devices that stopped answering: the launch that each was at counts as not made. `networks` is what
    users' names stood for.
    """

    records: tuple[Record, ...]
    measured: int
    failed: int
    skipped: int
    left: int
    interrupted: bool
    cut_off: bool
    remarks: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    networks: Networks = field(default_factory=dict)


def plan(
    specs: Iterable[Spec],
    protocol: Protocol,
    done: Sequence[Record],
    environment: Environment,
    *,
    retry_failures: bool = False,
    networks: Networks | None = None,
) -> list[Spec]:
    """The launches still missing, in the order in which to make them: a spec appears once per launch.

    `done` are the records there are and `environment` is this one: only records that a launch would repeat count, those
    with its key, and of what users' names stand for now, as far as `networks` says (`of_now`). A spec that failed once
    is done, unless `retry_failures`.
    """
    believed = of_now(done, networks or {})
    launched = Counter(_key(record) for record in believed if record.failure is None)
    failed = {_key(record) for record in believed if record.failure is not None}
    missing: list[tuple[int, Spec]] = []
    for spec in dict.fromkeys(specs):
        key = Record(spec=spec, protocol=protocol, environment=environment, source="measured").key
        if retry_failures or key not in failed:
            missing += [(ordinal, spec) for ordinal in range(launched[key], protocol.launches)]
    return [spec for _, spec in sorted(missing, key=lambda launch: launch[0])]


def of_now(records: Iterable[Record], networks: Networks) -> list[Record]:
    """The records without those of a network that a user's name stood for once. A name that is not among `networks` is
    believed.
    """
    return [record for record in records if networks.get(record.spec.network, record.network) == record.network]


def _key(record: Record) -> tuple[object, ...]:
    """The key of a record that is `of_now`: of which network it is has been asked."""
    return (record if record.network is None else replace(record, network=None)).key


def sweep(
    specs: Iterable[Spec],
    protocol: Protocol,
    path: Path | str,
    devices: Sequence[str],
    *,
    threads: int | None = None,
    budget: Budget = NO_LIMIT,
    retry_failures: bool = False,
    progress: Progress | None = None,
    networks: Networks | None = None,
) -> Outcome:
    """Make the launches that `path` lacks and append their records to it.

    Rows are spread over `devices`, one worker each; they must be alike, because a row's launches may fall on any of
    them. When the budget ends no launch is started; the one that runs is not cut short, for its time limit is the
    protocol's. `networks` is as for `plan`. Raises `BenchError` before the first launch if the file cannot be read or
    written or a device is no device, and later if a record cannot be written: the records before it are safe.
    """
    wanted = tuple(dict.fromkeys(specs))
    check_writable(path)
    prepare()
    from visionbench.machine.environment import describe  # imports torch, while the fork server does the same

    here = describe(devices[0], threads)
    known = read_if_there(path).records
    networks = networks or {}
    missing = plan(wanted, protocol, known, here, retry_failures=retry_failures, networks=networks)
    keys = {spec: Record(spec=spec, protocol=protocol, environment=here, source="measured").key for spec in wanted}
    ours = [record for record in of_now(known, networks) if _key(record) == keys.get(record.spec)]
    failed_before = set() if retry_failures else {record.spec for record in ours if record.failure is not None}
    rows = [spec for spec in wanted if spec not in failed_before]
    agenda = Agenda(missing, rows, (r for r in ours if r.failure is None), protocol, budget)
    crew = _Crew(agenda, protocol, path, threads, progress, total=len(missing), networks=networks)
    interrupted = crew.work(devices)
    crew.look_at_the_file()
    failed = sum(record.failure is not None for record in crew.records)
    return Outcome(
        records=tuple(crew.records),
        measured=len(crew.records) - failed,
        failed=failed,
        skipped=len(wanted) * protocol.launches - len(missing),
        left=agenda.not_made,
        interrupted=interrupted,
        cut_off=agenda.cut_off,
        remarks=tuple(crew.remarks),
        lost=tuple(crew.lost),
        networks=networks,
    )


def _kept_beside(record: Record) -> str:
    """Where a record is that its file did not take: in the system's temporary folder, else in this sentence."""
    line = to_json(record)
    try:
        descriptor, name = tempfile.mkstemp(prefix="visionbench-unsaved-", suffix=".jsonl")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{line}\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        return f"The launch that was under way: {line}"
    return f"The launch that was under way is in {name}."


class _Crew:
    """One worker per device, all taking from one agenda and writing to one file."""

    def __init__(
        self,
        agenda: Agenda,
        protocol: Protocol,
        path: Path | str,
        threads: int | None,
        progress: Progress | None,
        total: int,
        networks: Networks,
    ) -> None:
        self._agenda, self._protocol, self._path, self._threads = agenda, protocol, path, threads
        self._progress, self._total, self._networks = progress, total, networks
        self._start = time.monotonic()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._made = 0
        self._place: Place | None = None
        self.records: list[Record] = []
        self.remarks: list[str] = []
        self.lost: list[str] = []

    def work(self, devices: Sequence[str]) -> bool:
        """Work until nothing is left; True if a Ctrl-C came first. What ends one worker ends all, and is raised."""
        try:
            if len(devices) == 1:
                self._worker(devices[0])
                return False
            with ThreadPoolExecutor(max_workers=len(devices)) as pool:
                # A thread has no context of its own: whether the user wants to hear of progress is in the caller's.
                futures = [pool.submit(copy_context().run, self._worker, device) for device in devices]
                try:
                    for future in as_completed(futures):
                        future.result()
                finally:
                    self._stop.set()
        except KeyboardInterrupt:
            return True
        return False

    def _worker(self, device: str) -> None:
        answered = answers(device)
        while not self._stop.is_set():
            spec = self._agenda.take()
            if spec is None:
                return
            start = time.monotonic()
            try:
                if self._progress is not None:
                    with self._lock:
                        self._made += 1
                        self._progress.started(spec, self._made, max(self._total, self._made))
                record = launch(spec, self._protocol, device, self._threads, stop=self._stop)
                if record.network is None and spec.network in self._networks:  # it died before it could say
                    record = replace(record, network=self._networks[spec.network])
            except BaseException:
                self._agenda.put_back(spec)
                raise
            if is_gone(record.failure, device, answered):
                self._agenda.put_back(spec)
                self.lost.append(device)
                return
            with self._lock:
                self._keep(record)
                self.records.append(record)
                self._agenda.give(spec, record, time.monotonic() - start)
                if self._progress is not None:
                    made = len(self.records)
                    left = self._agenda.left * (time.monotonic() - self._start) / made
                    self._progress.finished(record, made, max(self._total, made), left)

    def _keep(self, record: Record) -> None:
        """Append the record; where that cannot be, keep it beside, and stop."""
        self.look_at_the_file()
        try:
            self._place = append(self._path, record)
        except BenchError as error:
            raise BenchError(f"{error} {_kept_beside(record)}") from error

    def look_at_the_file(self) -> None:
        """Remark what another process has done to the file since the last record."""
        if self._place is not None and (what := changed(self._path, self._place)):
            made = plural(len(self.records), "record")
            self.remarks.append(f"{self._path} {what} during the sweep: it may lack the {made} made before.")


def answers(device: str) -> bool:
    """Whether the driver answers about that GPU; a CPU is not asked."""
    if not device.startswith("cuda"):
        return False
    from visionbench.machine import nvml

    return nvml.answers(device)


def is_gone(failure: Failure | None, device: str, answered: bool) -> bool:
    """Whether a launch failed because its GPU fell off the bus: the driver `answered` before and does not now, or torch
    sees it no more. What such a launch met says nothing of its row.
    """
    if failure is None or not device.startswith("cuda"):
        return False
    from visionbench.machine.support import NOT_HERE

    return (failure.stage in ("check", "build") and NOT_HERE in failure.message) or (answered and not answers(device))
