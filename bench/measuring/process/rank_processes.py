"""The processes of one launch that train together, as their parent sees them: forked, listened to, and ended together.

The launch's own process becomes the parent: it computes nothing, so its fork is as clean as the fork server's. Each
rank gets torchrun's contract in its environment. When a rank dies, or says that it failed, the others wait for it in
a collective operation and would do so until torch's patience ends; so they get a moment to say what they know, and are
killed. When the time is up all are, and the failure names where each of them was.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import wait
from typing import BinaryIO, NoReturn

from visionbench.measuring.process.child import leave_after, limit_memory, messages, received, tell
from visionbench.measuring.process.exit_status import ended, memory_kills
from visionbench.record.lifetime import die_with
from visionbench.record.record import Failure

Tell = Callable[[str], None]
Work = Callable[[int, int | None, Tell], str]
"""What a rank does: its number, rank 0's listening socket (a descriptor), how to tell its stage; its answer as text."""

GRACE = 1.0
"""Seconds in which the other ranks may say what they know, once the first has failed."""

STAGES = ("start", "check", "join", "build", "first call", "warm-up", "time", "memory")
"""In their order: a launch is at the stage of its last rank."""


@dataclass(slots=True, kw_only=True)
class _Rank:
    """What is known of a rank so far. `code` is its exit status, minus a signal's number."""

    number: int
    pid: int
    line: socket.socket
    stage: str = STAGES[0]
    answer: str | None = None
    mistake: str | None = None
    code: int | None = None
    rest: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What the ranks came to: the text of each (or None), the mistake of a user, or the failure of a rank that
    died, or of all that were not done in time.
    """

    texts: tuple[str | None, ...]
    mistake: str | None = None
    failure: Failure | None = None


def run_together(
    work: Work,
    processes: int,
    *,
    seconds: float,
    failed: Callable[[str], bool] = lambda _: False,
    tell_stage: Tell = lambda _: None,
    limited: bool = False,
) -> Answers:
    """Run `work` in so many new processes until all have answered, one has failed, or `seconds` have passed.

    `failed` says of an answer that it is a failure. With `limited` a rank takes no more than its share of the memory
    that is free (on a CPU). No rank outlives this call.
    """
    kills, deadline = memory_kills(), time.monotonic() + seconds
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:  # kept, so no other program takes its port
        ranks = [_forked(work, number, processes, listener, limited=limited) for number in range(processes)]
    timed_out = False
    try:
        timed_out = not _listen(ranks, deadline, failed, tell_stage)
    finally:
        for rank in ranks:
            _end(rank)
    texts = tuple(rank.answer for rank in ranks)
    mistake = next((rank.mistake for rank in ranks if rank.mistake is not None), None)
    if timed_out:
        return Answers(texts=texts, failure=_hung(ranks, seconds))
    dead = [rank for rank in ranks if rank.answer is None and rank.mistake is None and rank.code is not None]
    return Answers(texts=texts, mistake=mistake, failure=_died(dead[0], processes, kills) if dead else None)


def contract(rank: int, processes: int, port: int) -> dict[str, str]:
    """The environment variables of a rank on one machine, as torchrun sets them."""
    number, size = str(rank), str(processes)
    return {
        "RANK": number,
        "LOCAL_RANK": number,
        "WORLD_SIZE": size,
        "LOCAL_WORLD_SIZE": size,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def _forked(work: Work, number: int, processes: int, listener: socket.socket, *, limited: bool) -> _Rank:
    ours, theirs = socket.socketpair()
    parent = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        ours.close()
        os.environ.update(contract(number, processes, listener.getsockname()[1]))
        _be_rank(work, number, theirs, listener, parent, share=processes if limited else None)
    theirs.close()
    return _Rank(number=number, pid=pid, line=ours)


def _be_rank(
    work: Work, number: int, line: socket.socket, listener: socket.socket, parent: int, share: int | None
) -> NoReturn:
    """Do the work, tell the answer, and leave."""
    from visionbench.record.errors import BenchError

    def answer() -> None:
        die_with(parent)
        if share is not None:
            limit_memory(share)
        descriptor = listener.detach() if number == 0 else None
        if number != 0:
            listener.close()
        try:
            tell(line, {"answer": work(number, descriptor, lambda stage: tell(line, {"stage": stage}))})
        except BenchError as mistake:
            tell(line, {"mistake": str(mistake)})

    leave_after(answer)


def _listen(ranks: Sequence[_Rank], deadline: float, failed: Callable[[str], bool], tell_stage: Tell) -> bool:
    """Hear what the ranks say, until each has ended or a moment after the first has failed. False: timed out."""
    stage, first_failure = "", None
    while open_lines := {rank.line: rank for rank in ranks if rank.line.fileno() >= 0}:
        until = deadline if first_failure is None else min(deadline, first_failure + GRACE)
        left = until - time.monotonic()
        if left <= 0:
            return first_failure is not None
        for line in wait(list(open_lines), left):
            _hear(open_lines[line])  # type: ignore[index]  # what was waited for are sockets
        if first_failure is None and any(_has_failed(rank, failed) for rank in ranks):
            first_failure = time.monotonic()
        last = min((rank.stage for rank in ranks), key=_place)
        if last != stage:
            tell_stage(stage := last)
    return True


def _place(stage: str) -> int:
    return STAGES.index(stage) if stage in STAGES else len(STAGES)


def _has_failed(rank: _Rank, failed: Callable[[str], bool]) -> bool:
    if rank.answer is not None:
        return failed(rank.answer)
    return rank.mistake is not None or rank.line.fileno() < 0


def _hear(rank: _Rank) -> None:
    """Take in what a rank says; a line that has been closed is a process that has ended."""
    text = received(rank.line)
    if not text:
        rank.line.close()
        return
    said, rank.rest = messages(rank.rest + text)
    for message in said:
        rank.stage = message.get("stage", rank.stage)
        rank.answer = message.get("answer", rank.answer)
        rank.mistake = message.get("mistake", rank.mistake)


def _end(rank: _Rank) -> None:
    """Kill a rank unless it has ended, and keep its exit status. What was killed here says nothing of its cause."""
    ended_itself = rank.line.fileno() < 0
    rank.line.close()
    with suppress(OSError):
        if not ended_itself and os.waitid(os.P_PID, rank.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            os.kill(rank.pid, signal.SIGKILL)
            os.waitpid(rank.pid, 0)
            return
        rank.code = os.waitstatus_to_exitcode(os.waitpid(rank.pid, 0)[1])


def _died(rank: _Rank, processes: int, kills: int) -> Failure:
    """The failure of a rank that ended by itself without an answer."""
    with _printed() as log:
        cause = ended(rank.code or 0, rank.stage, log, kills)
    return replace(cause, message=f"rank {rank.number} of {processes} {cause.message}")


@contextmanager
def _printed() -> Iterator[BinaryIO | None]:
    """What the ranks have printed, where that is a file: a launch's log is."""
    with os.fdopen(os.dup(1), "rb") as log:
        yield log if log.seekable() else None


def _hung(ranks: Sequence[_Rank], seconds: float) -> Failure:
    """The failure of ranks that were not done in time: where each of them was."""
    last = min((rank.stage for rank in ranks if rank.answer is None), key=_place, default=STAGES[0])
    where = ", ".join(f"rank {rank.number} at {'its end' if rank.answer is not None else rank.stage}" for rank in ranks)
    return Failure(kind="timeout", stage=last, message=f"stopped after {seconds:g} s: {where}")


LOST = re.compile(
    r"[Cc]onnection (closed|reset|refused)|gloo|NCCL|Broken pipe|ProcessGroup|Dist(Network|Store|Backend)Error"
)
"""What torch says on a rank whose partner has gone: the consequence, and not the cause."""


def is_consequence(failure: Failure) -> bool:
    """Whether a rank failed because another had gone."""
    return bool(LOST.search(failure.message))


def root_cause(failures: Mapping[int, Failure], processes: int) -> Failure:
    """Of the failures by rank the one that the others follow from. It names its rank unless all say the same."""
    own = {rank: failure for rank, failure in failures.items() if not is_consequence(failure)} or failures
    rank, failure = next(iter(sorted(own.items())))
    alike = len(own) == processes and len({one.message for one in own.values()}) == 1
    return failure if alike else replace(failure, message=f"rank {rank} of {processes}: {failure.message}")
