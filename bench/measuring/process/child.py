"""The child process of one launch: detaches from the fork server, receives the request, measures, reports, exits."""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, NoReturn

from visionbench.machine import host
from visionbench.record.lifetime import die_with

PR_SET_CHILD_SUBREAPER = 36  # <sys/prctl.h>


def run(channel: int, log: int, server: int) -> NoReturn:
    """Be the launch that talks on `channel` and prints to `log`. Never returns: `server`'s loop is not ours."""

    def work() -> None:
        _cut_loose(log, server)
        with socket.socket(fileno=channel) as line:
            _answer(line)

    leave_after(work)


def leave_after(work: Callable[[], None]) -> NoReturn:
    """Do the work of a forked process, and end it without the exit handlers, which are its parent's.

    What the work raises goes to the log, whose end goes into the failure.
    """
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def tell(line: socket.socket, message: dict[str, Any]) -> None:
    """Say one thing to the parent. The leading newline ends a line in the middle of which a process died."""
    with suppress(OSError):  # nobody listens any more
        line.sendall(b"\n" + json.dumps(message).encode() + b"\n")


def received(line: socket.socket) -> bytes:
    """What has come on the line, waited for; nothing once the other end has gone, even before it had read all."""
    try:
        return line.recv(65536)
    except OSError:
        return b""


def messages(text: bytes) -> tuple[list[dict[str, Any]], bytes]:
    """What whole lines of `text` say, and its unfinished end.

    A line that is no JSON object is passed over: its writer died meanwhile, or a model writes to every descriptor.
    """
    *lines, end = text.split(b"\n")
    said = []
    for line in lines:
        with suppress(ValueError, RecursionError):
            message = json.loads(line)
            if isinstance(message, dict):
                said.append(message)
    return said, end


def adopt_orphans() -> None:
    """Become the parent of whatever a child leaves behind, daemons with their own session included."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_orphans(kept: Iterable[int]) -> None:
    """Kill this process's children but those that are `kept`, and whatever they leave behind in their turn."""
    import psutil

    me, spared = psutil.Process(), frozenset(kept)
    for _ in range(100):
        orphans = [child.pid for child in me.children() if child.pid not in spared]
        if not orphans:
            return
        for pid in orphans:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def _cut_loose(log: int, server: int) -> None:
    """Leave the server's group, its signals and its output, but not its life."""
    with suppress(OSError):
        os.setpgid(0, 0)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears a Ctrl-C and ends us
    os.dup2(log, 1)
    os.dup2(log, 2)
    die_with(server)


def limit_memory(share: int = 1) -> None:
    """Take no more memory than the machine has free, so that what does not fit is an exception and not a kill.

    Of several processes beside each other each takes one part of `share`.

    Without a limit Linux promises any amount, and then kills whom it likes, or swaps for an hour. Not on a GPU: its
    driver reserves address space by the terabyte.
    """
    taken = host.data_memory()
    if taken is not None:
        with suppress(OSError, ValueError):  # a limit lower than ours is in force: it stays
            resource.setrlimit(resource.RLIMIT_DATA, (taken + host.available_memory() // share, resource.RLIM_INFINITY))


def _answer(line: socket.socket) -> None:
    """Read the request, become like the process that sent it, measure, send the record."""
    with line.makefile("r", encoding="utf-8") as lines:
        request = json.loads(lines.readline())
    os.chdir(request["directory"])
    os.environ.clear()
    os.environ.update(request["environ"])
    sys.path[:] = request["path"]
    importlib.invalidate_caches()
    if request["device"].startswith("cpu") and request["spec"]["processes"] is None:
        limit_memory()
    # Preloaded by the server; imported here so that this module, which the server needs first, is light.
    from visionbench.measuring.together import measure
    from visionbench.record.errors import BenchError
    from visionbench.record.record import to_json
    from visionbench.record.spec import Protocol, Spec

    spec = Spec(**request["spec"])
    protocol = Protocol(**request["protocol"] | {"metrics": tuple(request["protocol"]["metrics"])})

    def tell_stage(stage: str) -> None:
        tell(line, {"stage": stage})

    try:
        record = measure(spec, protocol, request["device"], request["threads"], request["seconds"], tell_stage)
    except BenchError as mistake:
        tell(line, {"mistake": str(mistake)})
    else:
        tell(line, {"record": to_json(record)})
