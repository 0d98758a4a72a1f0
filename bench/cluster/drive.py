"""The loop: what is missing is queued, what has ended is looked at, and the records alone say what is done.

A look costs one `squeue`, however many shifts there are, and reads only files that have grown. Nothing that the loop
knows is lost with it: started again, it finds its jobs by their names and its tries in `jobs.jsonl`.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from visionbench.cluster.shifts import (
    TRIES,
    Shift,
    Spread,
    missing,
    read_records,
    records_file,
    without_names,
    write_shift,
)
from visionbench.cluster.slurm import Engine, Job, NoAnswerError, Node
from visionbench.record import store
from visionbench.record.errors import BenchError
from visionbench.record.files import decode, reason, typed
from visionbench.record.record import Environment, Failure, Record
from visionbench.record.units import plural

EVERY = 10.0
"""Seconds between two looks at the queue."""

LATE = 60.0
"""Seconds that a shared disk may keep a finished job's last record from us."""

AT_ONCE = 200
"""Shifts queued in one look: the next look must not wait for a thousand `sbatch`."""

MOVED, UNFIT, UNBEGUN = "its node took no jobs", "its node was unfit", "its job never began"
"""Why a shift is sent again; none of them is a further try."""

NO_TRY = frozenset((MOVED, UNFIT, UNBEGUN))

LOG_END = 300
"""Characters at the end of a log that a failure quotes: they stand in a table's footnote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One line of `jobs.jsonl`: a shift went to the queue. `why` is empty for the first time."""

    shift: str
    job: str
    node: str | None
    time: str
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfit:
    """What a job found before it measured: why nothing may be measured on its node."""

    node: str
    job: str
    reasons: tuple[str, ...]
    name: str = ""
    """The node's name for the queue, where records hide it."""


class Driver:
    """One request's loop. `say` gets sentences; `clock` and `sleep` are a test's to replace."""

    def __init__(
        self,
        folder: Path,
        shifts: Sequence[Shift],
        engine: Engine,
        say: Callable[[str], None],
        *,
        spread: bool = True,
        every: float = EVERY,
        late: float = LATE,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._folder, self._engine, self._say, self._spread = folder, engine, say, spread
        self._every, self._late, self._clock, self._sleep = every, late, clock, sleep
        self._shifts = {shift.name: shift for shift in shifts}
        self.open = dict(self._shifts)
        self._rows = {shift.name: len(shift.rows) for shift in shifts}
        self._left = dict(self._rows)
        self._seen: dict[str, tuple[int, int]] = {}
        self._sent: dict[str, list[Sent]] = defaultdict(list)
        for sent in _read_sent(folder / "jobs.jsonl"):
            self._sent[sent.shift].append(sent)
        self._ended: dict[str, float] = {}
        self._cancelled: set[str] = set()
        self._unbegun: set[str] = set()
        self._refusals = 0
        self._told: tuple[set[str], set[str]] = (set(), set())
        self._environments: dict[str, Environment] = {}
        self.devices: dict[str, Counter[str]] = defaultdict(Counter)
        self.unfit: dict[str, Unfit] = {}
        self._nodes = {sent.node for shift in self._sent.values() for sent in shift if sent.node}

    def run(self) -> None:
        """Look until every shift is done. A Ctrl-C is raised on: what is queued stays queued."""
        while not self.look():
            self._sleep(self._every)

    def look(self) -> bool:
        """One look at the queue and at the records; whether all is done."""
        self._told = (self._told[1], set())
        try:
            jobs = self._jobs()  # first: a job that has ended has written all that it will
            self._read()
            if not self.open:
                return True
            cards = {shift.card for shift in self.open.values()}
            nodes = {card: tuple(self._engine.nodes(card)) for card in sorted(cards)}
            self._nodes |= {node.name for present in nodes.values() for node in present}
        except NoAnswerError as error:
            self._read()
            self._tell(f"The queue does not answer ({error}); jobs go on meanwhile.")
            return not self.open
        self._go_on(jobs, nodes)
        self._tell_state(jobs)
        return not self.open

    def look_at_records(self) -> bool:
        """Whether the records alone say that all is done."""
        self._read()
        return not self.open

    def active(self) -> list[Job]:
        """This request's jobs that are not over; [] where the queue does not answer."""
        try:
            return [job for queued in self._jobs().values() for job in queued]
        except (NoAnswerError, BenchError):
            return []

    def _jobs(self) -> dict[str, list[Job]]:
        by_shift: dict[str, list[Job]] = defaultdict(list)
        for job in self._engine.jobs():
            if not job.over and job.shift in self.open:
                by_shift[job.shift].append(job)
            if not job.begun:
                self._unbegun.add(job.number)
        return by_shift

    # --- records ---

    def _read(self) -> None:
        """Look at the files that have changed since the last look, and at what nodes said of themselves."""
        for name, stamp in _stamps(self._folder / "records"):
            if name in self.open and self._seen.get(name) != stamp:
                self._seen[name] = stamp
                self._take(self.open[name], read_records(self._folder, name))
        for path in sorted((self._folder / "unfit").glob("*.json")):
            if path.stem not in self.unfit:
                with suppress(OSError, ValueError):  # half written, or shown late: the next look reads it
                    self.unfit[path.stem] = typed(decode(path.read_bytes()), Unfit, "node's state")
                if unfit := self.unfit.get(path.stem):
                    self._say(f"Node {unfit.node} is left out: {'; '.join(unfit.reasons)}.")

    def _take(self, shift: Shift, records: Sequence[Record]) -> None:
        self._left[shift.name] = sum(len(part.specs) for part in missing(shift, records))
        for record in records:
            if record.environment.device_name:
                self._environments[shift.card] = record.environment
                break
        if not self._left[shift.name]:
            self.devices[shift.card][self._environments[shift.card].device if records else ""] += 1
            del self.open[shift.name]
            self._ended.pop(shift.name, None)

    # --- the queue ---

    def _go_on(self, jobs: dict[str, list[Job]], nodes: dict[str, tuple[Node, ...]]) -> None:
        excluded = {unfit.name or unfit.node for unfit in self.unfit.values()}
        good = {
            card: [node.name for node in present if node.takes_jobs and node.name not in excluded]
            for card, present in nodes.items()
        }
        every = {card: [node.name for node in present if node.name not in excluded] for card, present in nodes.items()}
        spread = Spread(good, self._taken(jobs))
        budget = AT_ONCE
        for name, shift in list(self.open.items()):
            queued = jobs.get(name, [])
            if queued:
                self._watch(shift, queued, good[shift.card])
                continue
            why = self._why_anew(shift)
            if why is None or budget == 0:
                continue
            if not every[shift.card] and nodes[shift.card]:
                reasons = dict.fromkeys(reason for unfit in self.unfit.values() for reason in unfit.reasons)
                self._give_up(shift, f"every node of {shift.card} is unfit: {'; '.join(reasons)}")
                continue
            if not good[shift.card]:
                self._tell(f"No node of {shift.card} takes jobs now; waiting for one.")
                continue
            if self._tries(name) >= TRIES and why not in NO_TRY:
                self._give_up(shift, f"{plural(TRIES, 'job')} ended without all records")
                continue
            node = spread.next(shift.card) if self._spread else None
            if not self._send(shift, node, sorted(excluded), why):
                break
            budget -= 1

    def _taken(self, jobs: dict[str, list[Job]]) -> Counter[tuple[str, str]]:
        """Shifts of a card that a node has had or is about to have."""
        taken: Counter[tuple[str, str]] = Counter()
        for name, sent in self._sent.items():
            shift = self._shifts.get(name)
            if shift is not None and (name not in self.open or name in jobs) and sent[-1].node:
                taken[shift.card, sent[-1].node] += 1
        return taken

    def _watch(self, shift: Shift, jobs: list[Job], good: Sequence[str]) -> None:
        """A shift is in the queue. A second job of it (a `sbatch` that timed out had gone through) is cancelled, and so
        is one that waits for a node that takes no jobs: it would wait for ever.
        """
        self._ended.pop(shift.name, None)
        job, *others = sorted(jobs, key=lambda job: (job.state == "PENDING", len(job.number), job.number))
        if others:
            self._cancel([other.number for other in others])
        if not self._sent[shift.name]:
            self._note(Sent(shift=shift.name, job=job.number, node=job.pinned or None, time=_now()))
        if job.never:
            self._tell(
                f"{shift.name} waits for a job that cannot end as its --dependency asks: `scancel {job.number}`, and "
                "start again without it."
            )
        if job.held:
            self._tell(f"{shift.name} is held: `scontrol release {job.number}` lets it go on.")
        elif job.state == "PENDING" and job.pinned and job.pinned not in good and good:
            self._cancel([job.number])
            self._cancelled.add(shift.name)

    def _cancel(self, numbers: Sequence[str]) -> None:
        try:
            self._engine.cancel(numbers)
        except (NoAnswerError, BenchError) as error:
            self._tell(f"The queue keeps {', '.join(numbers)} ({error}).")

    def _why_anew(self, shift: Shift) -> str | None:
        """Why a shift that is not in the queue is sent now ("" for the first time), or None: it is not yet."""
        sent = self._sent[shift.name]
        if not sent:
            return ""
        if shift.name in self._cancelled:
            return MOVED
        job = sent[-1].job
        if any(unfit.job == job for unfit in self.unfit.values()):
            return UNFIT
        if job in self._unbegun:
            return UNBEGUN
        since = self._ended.setdefault(shift.name, self._clock())
        if self._clock() - since < self._late:
            return None
        return f"job {job} ended before all its records were there"

    def _tries(self, name: str) -> int:
        return sum(sent.why not in NO_TRY for sent in self._sent[name])

    def _send(self, shift: Shift, node: str | None, excluded: Sequence[str], why: str) -> bool:
        """Queue a shift; False where the queue takes no more for now."""
        write_shift(self._folder, shift)
        try:
            job = self._engine.submit(shift.name, shift.card, node, excluded)
        except NoAnswerError as error:  # it may have gone through: the next look finds it by its name
            self._tell(f"The queue does not answer ({error}).")
            return False
        except BenchError as error:
            self._refusals += 1
            if self._refusals > TRIES and len(self.open) == len(self._shifts) and not self.active():
                raise
            self._tell(str(error))
            return False
        self._refusals = 0
        self._note(Sent(shift=shift.name, job=job, node=node, time=_now(), why=why))
        self._cancelled.discard(shift.name)
        self._ended.pop(shift.name, None)
        if why:
            again = f" ({self._tries(shift.name)} of {TRIES} tries)" if why not in NO_TRY else ""
            self._say(f"{shift.name} is sent again{again}: {why}.")
        return True

    def _note(self, sent: Sent) -> None:
        self._sent[sent.shift].append(sent)
        with (self._folder / "jobs.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(sent)) + "\n")

    def _give_up(self, shift: Shift, why: str) -> None:
        """The rows that a shift lacks are failures, with its log's end. No job of it runs: this alone writes."""
        log = _log_end(self._folder / "logs" / f"{shift.name}.log")
        message = without_names(f"{why}.{log}", self._nodes, shift.salt)
        usual = Environment(device_type=shift.device.partition(":")[0], device_name=shift.card)
        environment = replace(self._environments.get(shift.card, usual), started=_now(), node=None, job=None)
        for part in missing(shift, read_records(self._folder, shift.name)):
            for spec in part.specs:
                record = Record(
                    spec=spec,
                    protocol=replace(part.protocol, launches=1),
                    environment=environment,
                    failure=Failure(kind="crashed", stage="cluster", message=message),
                    source="measured",
                )
                store.append(records_file(self._folder, shift.name), record)
        self._say(f"{shift.name} has failed: {why}. See {self._folder / 'logs' / shift.name}.log.")
        self._left[shift.name] = 0
        del self.open[shift.name]

    # --- what is said ---

    def _tell(self, sentence: str) -> None:
        """Say it, unless the last look said it, too."""
        before, now = self._told
        if sentence not in before | now:
            self._say(sentence)
        now.add(sentence)

    def _tell_state(self, jobs: dict[str, list[Job]]) -> None:
        flat = [queued[0] for queued in jobs.values()]
        running = sorted(f"{job.shift} on {job.node}" for job in flat if job.state != "PENDING" and job.node)
        named = f" ({', '.join(running[:8])}{', ...' if len(running) > 8 else ''})" if running else ""
        launched = sum(self._rows.values()) - sum(self._left.values())
        done = len(self._shifts) - len(self.open)
        launches = f"{launched} of {plural(sum(self._rows.values()), 'launch', 'launches')}"
        self._tell(
            f"{done} of {plural(len(self._shifts), 'shift')} done, {len(running)} running{named}, "
            f"{len(self.open) - len(running)} waiting; {launches}."
        )

    def split_cards(self) -> Iterator[str]:
        """A sentence for each word that stood for two cards."""
        for word, keys in self.devices.items():
            if len(keys) > 1:
                which = ", ".join(f"{key} ({plural(count, 'shift')})" for key, count in sorted(keys.items()))
                yield f"--gpu {word} was more than one card: {which}. Each has a column."


def _stamps(folder: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".jsonl"):
                status = entry.stat()
                yield entry.name.removesuffix(".jsonl"), (status.st_mtime_ns, status.st_size)


def _read_sent(path: Path) -> Iterator[Sent]:
    """The lines of `jobs.jsonl`; one that was torn by a power cut is left out."""
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            yield typed(decode(line), Sent, "line of jobs")
        except ValueError:
            continue


def _log_end(path: Path) -> str:
    """The end of a job's log, as a sentence; "" without one."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - 4 * LOG_END))
            words = " ".join(log.read().decode("utf-8", errors="replace").split())
    except OSError:
        return ""
    return f" Its log ends: {words[-LOG_END:].strip()}" if words else ""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep a second driver out of the folder. Raises `BenchError` where one works in it."""
    path = folder / "driver.lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise BenchError(f"cannot write {path} ({reason(error)}): name another folder with --records.") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            who = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "unknown"
            raise BenchError(
                f"another visionbench works in {folder} ({who}): wait for it, or end it and start this again."
            ) from None
        except OSError:
            pass  # a file system without locks: two drivers still find each other's jobs by their names
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield
    finally:
        os.close(descriptor)
