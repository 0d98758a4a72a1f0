"""One launch, from outside: a fresh process measures one spec, and whatever becomes of it becomes a record.

While the child is timed this process sleeps. It wakes for the child's few lines, for a look at the length of its log
once a second, and at the deadline. A child that hangs is killed with all that it started; one that dies says by its
exit status how.
"""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import signal
import socket
import tempfile
import threading
import time
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cache
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, BinaryIO

from visionbench.measuring.metrics.compilation import cold_cache
from visionbench.measuring.process import child
from visionbench.measuring.process.exit_status import TAIL, ended, memory_kills, tail, timed_out
from visionbench.measuring.process.fork_server import ForkServer, import_path
from visionbench.record.errors import BenchError
from visionbench.record.record import Failure, Record, from_json
from visionbench.record.spec import Protocol, Spec

START_SECONDS = 300.0
"""How long the fork server may take to import torch from a cold disk."""

KILL_SECONDS = 10.0
"""How long a killed child may take to be gone: inside a driver's call a process cannot die."""

LOG_SECONDS = 1.0
"""How often a child's output is looked at."""

LOG_BYTES = 16 * 2**20
"""How long it may get before it is cut: a print in an endless loop would fill the disk that the records are on."""


@dataclass(slots=True, kw_only=True)
class _Story:
    """What is known of a child so far. `deadline` by the monotonic clock; `exit_code` minus a signal's number."""

    deadline: float
    pid: int | None = None
    stage: str = "start"
    record: Record | None = None
    mistake: str | None = None
    exit_code: int | None = None
    timed_out: bool = False


def prepare(*, own: bool = False, light: bool = False) -> None:
    """Start the fork server, unless it runs. It imports torch while the caller does something else; `own` and `light`
    are as for `ForkServer.start`.
    """
    _server().start(own=own, light=light)


def launch(
    spec: Spec,
    protocol: Protocol,
    device: str,
    threads: int | None = None,
    timeout: float | None = None,
    stop: threading.Event | None = None,
) -> Record:
    """Measure `spec` in a fresh process and return its record: a failure, if the process came to grief.

    `timeout` in seconds counts from the process's start; None means `protocol.max_seconds`. Ctrl-C kills the child and
    passes; so does `stop`, for a thread, which no Ctrl-C reaches. Raises `BenchError` for a device or a protocol that
    is a mistake, RuntimeError if no process can be started.
    """
    seconds, kills = protocol.max_seconds if timeout is None else timeout, memory_kills()
    started = datetime.now(UTC).isoformat(timespec="seconds")
    with tempfile.TemporaryFile() as log, _compiler_cache(spec) as variables:
        request = _request(spec, protocol, device, threads, seconds, variables)
        fcntl.fcntl(log, fcntl.F_SETFL, os.O_APPEND)  # or a cut log would grow a hole up to its old length
        story = _live(request, log, seconds, stop)
        if story.pid is None:  # the server was dying when we asked; nothing has started, so ask another
            _server().stop()
            story = _live(request, log, seconds, stop)
        if story.pid is None:
            raise RuntimeError(f"the fork server did not start{tail(_server().log())}")
        if story.mistake is not None:
            raise BenchError(story.mistake)
        if story.record is not None:
            return story.record
        # Imports torch, which the parent of healthy children never needs. Same machine, same torch as the child's.
        from visionbench.machine.environment import describe

        return Record(
            spec=spec,
            protocol=protocol,
            environment=replace(describe(device, threads), started=started),
            failure=_cause(story, seconds, log, kills),
            source="measured",
        )


@cache
def _server() -> ForkServer:
    """This process's fork server, which ends with it."""
    server = ForkServer()
    atexit.register(server.stop)
    return server


def _compiler_cache(spec: Spec) -> AbstractContextManager[dict[str, str]]:
    """Every launch compiles from nothing: its cost, and what autotuning chooses, must not depend on the last launch."""
    return cold_cache() if spec.compile_mode else nullcontext({})


def _request(
    spec: Spec, protocol: Protocol, device: str, threads: int | None, seconds: float, variables: dict[str, str]
) -> bytes:
    request = {
        "spec": asdict(spec),
        "protocol": asdict(protocol),
        "device": device,
        "threads": threads,
        "seconds": seconds,
        "directory": str(Path.cwd()),
        "path": import_path(),
        "environ": dict(os.environ) | variables,
    }
    return json.dumps(request).encode() + b"\n"


def _live(request: bytes, log: BinaryIO, seconds: float, stop: threading.Event | None) -> _Story:
    """The whole life of one child. Leaving early hangs up, and that kills it."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            _server().fork(theirs.fileno(), log.fileno())
        story = _Story(deadline=time.monotonic() + START_SECONDS)
        with suppress(OSError):  # a server that has gone is noticed when it is listened to
            ours.sendall(request)
        _follow(ours, log, story, seconds, stop)
        return story


def _follow(channel: socket.socket, log: BinaryIO, story: _Story, seconds: float, stop: threading.Event | None) -> None:
    """Listen until the child's exit is reported; kill it `seconds` after its start."""
    buffer = b""
    while story.exit_code is None:
        if stop is not None and stop.is_set():
            raise KeyboardInterrupt
        left = story.deadline - time.monotonic()
        if left <= 0:
            if story.timed_out:  # killed, and still there
                return
            if story.pid is not None:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(story.pid, signal.SIGKILL)
            story.timed_out, story.deadline = True, time.monotonic() + KILL_SECONDS
        elif wait([channel], min(left, LOG_SECONDS)):
            received = child.received(channel)
            if not received:  # the server is gone, and its children with it
                return
            messages, buffer = child.messages(buffer + received)
            for message in messages:
                _take(story, message, seconds)
        else:
            _cut(log.fileno())


def _cut(log: int) -> None:
    """Keep of a log that has grown too long what a failure would quote."""
    size = os.fstat(log).st_size
    if size > LOG_BYTES:
        end = os.pread(log, 4 * TAIL, size - 4 * TAIL)
        os.ftruncate(log, 0)
        os.write(log, end)


_WORDS: dict[str, int | str] = {"pid": 0, "exit": 0, "stage": "", "record": "", "mistake": ""}
"""What a message may say, by the type of its value. What a model writes is passed over."""


def _take(story: _Story, message: dict[str, Any], seconds: float) -> None:
    """Add one message to the story; its clock starts when the child does."""
    if not all(isinstance(message.get(word, value), type(value)) for word, value in _WORDS.items()):
        return
    if "pid" in message and story.pid is None:
        story.pid, story.deadline = message["pid"], time.monotonic() + seconds
    elif "stage" in message:
        story.stage = message["stage"]
    elif "record" in message:
        with suppress(ValueError):
            story.record = from_json(message["record"])
    elif "mistake" in message:
        story.mistake = message["mistake"]
    elif "exit" in message:
        story.exit_code = message["exit"]


def _cause(story: _Story, seconds: float, log: BinaryIO, kills: int) -> Failure:
    """Why there is no record, from how the child ended."""
    if story.timed_out:
        return timed_out(seconds, story.stage, log)
    if story.exit_code is None:
        return Failure(kind="crashed", stage=story.stage, message="the fork server died and took it along")
    return ended(story.exit_code, story.stage, log, kills)
