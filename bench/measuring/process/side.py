"""One side of a paired run, from outside: a process that we send orders to, hear, and always end.

Unlike a launch of a sweep it is started anew and not forked: what a fork would share, the layout of the address space
and the seed of string hashes, can make a program some percent faster or slower (Mytkowicz et al. 2009), and would do
so in every launch of one side. Here both are drawn anew for each launch, and the environment's size with them.
"""

from __future__ import annotations

import json
import os
import random
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from visionbench import ROOT
from visionbench.measuring.process import keeper
from visionbench.measuring.process.child import messages, received
from visionbench.measuring.process.exit_status import ended, memory_kills, timed_out
from visionbench.measuring.process.fork_server import import_path
from visionbench.record.record import Failure

BOOT = (
    "import json, sys; request = json.loads(sys.argv[3]); sys.path[:] = request['path'] + sys.path * request['own']; "
    "from visionbench.measuring.process.side_process import serve; serve(int(sys.argv[1]), int(sys.argv[2]), request)"
)

STOP_SECONDS = 2.0
"""How long a side may take to see that it is no longer wanted, before it is killed."""

KILL_SECONDS = 10.0
"""How long the keeper may take to kill it: inside a driver's call a process cannot die."""

MARK = "VISIONBENCH_SIDE"
"""A variable of a side's environment, and of all that it starts: elsewhere than on Linux, daemons are known by it."""


def end_marked(mark: str) -> None:
    """Kill every process of this user that a side with that mark has left behind."""
    import psutil

    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == mark:
                process.kill()


class SideError(Exception):
    """A side that failed: its `failure` says at what, `died` whether its process is gone with it."""

    def __init__(self, failure: Failure, *, died: bool) -> None:
        super().__init__(failure.message)
        self.failure, self.died = failure, died


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where one side's code comes from. `tree` is its work tree, None for what is installed; `python` runs it.

    `repository` is the checkout that the caller runs in, whose places on the import path the tree replaces.
    """

    tree: Path | None = None
    python: str = sys.executable
    repository: Path | None = None

    def request(self, device: str) -> dict[str, Any]:
        """Where its process imports from, and for which device: what `side_process.settle_in` reads."""
        own = self.python != sys.executable  # in another environment ours must not be importable
        return {
            "path": [str(ROOT)] if own else import_path(),
            "own": own,
            "tree": str(self.tree) if self.tree else None,
            "repository": str(self.repository) if self.repository else None,
            "device": device,
        }


class SideProcess:
    """A side's process and its keeper's. Enter it to start them; leaving it ends them and all that the side started."""

    def __init__(self, source: Source, device: str, threads: int | None, rng: random.Random) -> None:
        self._source, self._device, self._threads, self._rng = source, device, threads, rng
        self._process: subprocess.Popen[bytes] | None = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # it lives as long as the process
        self._line: socket.socket | None = None
        self._mark = ""
        self._buffer, self._heard = b"", deque[dict[str, Any]]()

    def __enter__(self) -> SideProcess:
        request = self._source.request(self._device) | {"threads": self._threads}
        self._kills = memory_kills()
        self._line, theirs = socket.socketpair()
        with theirs:
            words = [str(theirs.fileno()), keeper.KEEPER, json.dumps(request)]
            side = [self._source.python, "-P", "-c", BOOT, *words]
            kept = json.dumps([import_path(), os.getpid(), theirs.fileno(), side])
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", keeper.BOOT, kept],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                start_new_session=True,  # a Ctrl-C in the terminal is the parent's to answer
                env=os.environ | self._random_environment(),
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._line is not None:
            self._line.close()
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                if kind is None:
                    self._process.wait(STOP_SECONDS)
            self._process.terminate()  # the keeper ends the side with all that it started
            try:
                self._process.wait(KILL_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            end_marked(self._mark)
        self._log.close()

    def _random_environment(self) -> dict[str, str]:
        """What is random about a process and costs nothing: its hash seed, and where its stack begins."""
        padding = "x" * self._rng.randrange(4096)
        self._mark = f"{os.getpid()}-{os.urandom(8).hex()}"
        return {"PYTHONHASHSEED": str(self._rng.randrange(2**32)), "VISIONBENCH_PADDING": padding, MARK: self._mark}

    def order(self, **order: Any) -> None:
        """Give an order; `answer` waits for what comes of it. Orders to two sides can be under way together."""
        assert self._line is not None, "a side is entered first"
        with suppress(OSError):  # it died: `answer` says so
            self._line.sendall(json.dumps(order).encode() + b"\n")

    def answer(self, stage: str, seconds: float) -> dict[str, Any]:
        """The answer to the last order (or to having been started). Raises `SideError`."""
        assert self._line is not None, "a side is entered first"
        deadline = time.monotonic() + seconds
        while not self._heard:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._line], [], [], left)[0]:
                raise SideError(timed_out(seconds, stage, self._log), died=True)
            text = received(self._line)
            if not text:
                raise SideError(self._ending(stage), died=True)
            said, self._buffer = messages(self._buffer + text)
            self._heard += said
        message = self._heard.popleft()
        if "failed" in message:
            raise SideError(Failure(**message["failed"]), died=False)
        return message

    def _ending(self, stage: str) -> Failure:
        assert self._process is not None
        try:
            return ended(self._process.wait(STOP_SECONDS), stage, self._log, self._kills)
        except subprocess.TimeoutExpired:
            return ended(1, stage, self._log)
