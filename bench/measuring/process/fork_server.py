"""The process between: it has imported torch and timm, does nothing else, and forks one child per launch.

A fresh process per launch is what the statistics need, and importing torch costs seconds; forking a process that has
imported it costs milliseconds. Forking is safe only while that process has neither started CUDA nor computed anything
(the threads of torch's pools do not survive a fork), so nothing runs here but imports.

Why not `multiprocessing`'s fork server: it runs the program's main script again in every child, puts the working
directory first on the import path (a user's `models/` would be imported for ours), ignores the parent's import
path in Python 3.11, pickles, and prints a traceback for a Ctrl-C that comes too early.

The conversation, one socket per launch, one JSON object per line:

    parent -> child    the request: spec, protocol, device, threads, directory, import path, environment variables
    server -> parent   {"pid": 4711}
    child  -> parent   {"stage": "build"} ... then {"record": "..."} or {"mistake": "..."}
    server -> parent   {"exit": 0}, or minus the signal's number: the last line, whatever happened

When the parent hangs up, the child is killed; when the parent is gone, so is the server; when the server is gone, so
are its children. What the children share: the server's address-space layout and string-hash seed, which a fork does not
draw anew.

The command's own process, which needs torch and timm as well (names, devices), imports them once for both: as long as
it has done nothing else it is as good a server as a new interpreter, so the server is a fork of it (`start(own=True)`).
Anybody else's process may have computed, and gets a server in a new interpreter.
"""

from __future__ import annotations

import gc
import importlib
import json
import math
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import BinaryIO, NoReturn

from visionbench import ROOT
from visionbench.measuring.process import child
from visionbench.measuring.process.light import without_compiler

PRELOAD = ("psutil", "torch", "timm", "visionbench.models", "visionbench.measuring.together")

BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from visionbench.measuring.process.fork_server import serve; serve(int(sys.argv[2]))"
)

STOP_SECONDS = 1.0
"""How long a server may take to see that it is no longer wanted: it does not look while it imports."""

NO_DRIVER = {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
"""Should an import ask for CUDA, the answer must not wake the driver: it cannot be forked."""


class _Fork:
    """A forked process, with what is used of `Popen` here."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._code: int | None = None

    def poll(self) -> int | None:
        """Its exit code, or None while it lives."""
        if self._code is None:
            try:
                pid, status = os.waitpid(self._pid, os.WNOHANG)
            except ChildProcessError:  # somebody else has buried it
                self._code = 0
            else:
                self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code

    def wait(self, timeout: float = math.inf) -> int:
        """Its exit code. Raises `subprocess.TimeoutExpired` as `Popen.wait` does."""
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("the fork server", timeout)
            time.sleep(0.005)
        return code

    def kill(self) -> None:
        """Kill it."""
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)


class ForkServer:
    """The parent's handle: started when first needed, started again should it have died."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | _Fork | None = None
        self._control: socket.socket | None = None
        self._log: BinaryIO | None = None

    def start(self, *, own: bool = False, light: bool = False) -> socket.socket:
        """Start the server unless it runs; returns the line on which children are ordered.

        Returns at once, or, where the server may be a fork of this process, when torch and timm are imported. `own`
        says that this process is the command's, which does nothing beside; `light` leaves the compiler away
        (`without_compiler`).
        """
        with self._lock:
            if self._control is None or self._process is None or self._process.poll() is not None:
                self._stop()
                self._control = self._start_by_fork(light=light) if own and _is_untouched() else self._start()
            return self._control

    def fork(self, channel: int, log: int) -> None:
        """Order a child that talks on the socket `channel` and prints to the file `log` (descriptors)."""
        try:
            socket.send_fds(self.start(), [b"!"], [channel, log])
        except OSError:  # it died between our look and our word
            socket.send_fds(self.start(), [b"!"], [channel, log])

    def log(self) -> BinaryIO | None:
        """What the server printed: why it died, if it did."""
        return self._log

    def stop(self) -> None:
        """End the server and every child of it. A second Ctrl-C has nothing to add."""
        with self._lock, _deaf_to_ctrl_c():
            self._stop()

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # it lives as long as the server
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", BOOT, json.dumps(import_path()), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                start_new_session=True,  # a Ctrl-C in the terminal is the parent's to answer
                env=os.environ | NO_DRIVER,
            )
        return ours

    def _start_by_fork(self, *, light: bool) -> socket.socket:
        with _as_a_server(), without_compiler() if light else nullcontext():
            _preload()
        ours, theirs = socket.socketpair()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # it lives as long as the server
        with theirs:
            pid = os.fork()
            if pid == 0:
                ours.close()
                _be_the_server(theirs.detach(), self._log.fileno())
            self._process = _Fork(pid)
        return ours

    def _stop(self) -> None:
        for end in (self._control, self._log):
            if end is not None:
                end.close()
        self._control = self._log = None
        if self._process is None:
            return
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # whom no signal reaches
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def _is_untouched() -> bool:
    """Whether this process has one thread and no torch: then nothing of it can be in a fork's way."""
    try:
        threads = len([*Path("/proc/self/task").iterdir()])
    except OSError:  # no Linux: Apple's libraries do not survive a fork
        return False
    return threads == 1 and "torch" not in sys.modules


@contextmanager
def _as_a_server() -> Iterator[None]:
    """Import as a server does: from its path, and without waking the driver."""
    path, variables = list(sys.path), {name: os.environ.get(name) for name in NO_DRIVER}
    sys.path[:] = import_path()
    os.environ.update(NO_DRIVER)
    try:
        yield
    finally:
        sys.path[:] = path
        for name, value in variables.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _be_the_server(control: int, log: int) -> NoReturn:
    """Become what `_start` starts: another session, no input, and a log for output."""

    def work() -> None:
        os.setsid()  # a Ctrl-C in the terminal is the parent's to answer
        os.environ.update(NO_DRIVER)
        for descriptor, target in ((os.open(os.devnull, os.O_RDONLY), 0), (log, 1), (log, 2)):
            os.dup2(descriptor, target)
        _serve(control)

    child.leave_after(work)


def import_path() -> list[str]:
    """Where a child imports from: as this process, but our own packages for sure, and not the working directory.

    A user's factory is found in the working directory all the same: `models` looks there, last.
    """
    here, root = str(Path.cwd()), str(ROOT)
    path = [entry for entry in sys.path if entry not in ("", here) or entry == root]
    return path if root in path else [root, *path]


def serve(control_descriptor: int) -> None:
    """The server: fork for every pair of descriptors that arrives, until the parent hangs up."""
    _preload()
    _serve(control_descriptor)


def _serve(control_descriptor: int) -> None:
    child.adopt_orphans()
    # What lives now lives for ever: the children's collector need not walk it, nor copy the pages it is on.
    gc.collect()
    gc.freeze()
    wake = _wake_on_child_exit()
    channels: dict[int, socket.socket] = {}  # child's pid -> the line on which its exit will be told
    with socket.socket(fileno=control_descriptor) as control:
        while True:
            poll = select.poll()
            poll.register(control, select.POLLIN)
            poll.register(wake, select.POLLIN)
            for channel in channels.values():
                if channel.fileno() >= 0:
                    poll.register(channel, 0)  # what is said on it is the child's; a hang-up is always reported
            ready = {descriptor for descriptor, _ in poll.poll()}
            if wake in ready:
                os.read(wake, 4096)
            _hang_up(channels, ready)
            if _reap(channels) and not channels:  # beside other launches nobody knows whose an orphan is
                child.end_orphans(kept=())
            if control.fileno() in ready:
                message, descriptors, _, _ = socket.recv_fds(control, 1, 2)
                if not message:
                    break
                _fork(control, channels, *descriptors)
    for pid in channels:
        _kill_group(pid)
    child.end_orphans(kept=())


def _preload() -> None:
    for name in PRELOAD:
        with suppress(Exception):  # the child meets the same exception, and there it is reported
            importlib.import_module(name)
    with suppress(Exception):  # asked once, remembered by every child
        sys.modules["visionbench.machine.environment"].describe("meta")


def _wake_on_child_exit() -> int:
    """A descriptor that becomes readable when a child has ended."""
    readable, writable = os.pipe()
    os.set_blocking(readable, False)
    os.set_blocking(writable, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # without a handler the descriptor is not written to
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    return readable


def _fork(control: socket.socket, channels: dict[int, socket.socket], channel: int, log: int) -> None:
    server, line = os.getpid(), socket.socket(fileno=channel)
    pid = os.fork()
    if pid == 0:
        for other in (control, *channels.values()):  # or their other ends would never hear a hang-up
            other.close()
        child.run(line.detach(), log, server)
    with suppress(OSError):  # both sides do it: whichever comes first, the group is there to be killed
        os.setpgid(pid, pid)
    os.close(log)
    channels[pid] = line
    child.tell(line, {"pid": pid})


def _hang_up(channels: dict[int, socket.socket], ready: set[int]) -> None:
    """Kill the children whose launches are no longer waited for."""
    for pid, channel in channels.items():
        if channel.fileno() in ready:
            _kill_group(pid)
            channel.close()  # or it would be reported again and again until the child is dead


def _reap(channels: dict[int, socket.socket]) -> bool:
    """Bury the children that have ended, with all they have left behind, and tell how; whether there was one."""
    before = len(channels)
    for pid in tuple(channels):
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            continue
        _kill_group(pid)  # compilers and data loaders go too, while the zombie still holds the group's number
        _, status = os.waitpid(pid, 0)
        with channels.pop(pid) as channel:
            child.tell(channel, {"exit": os.waitstatus_to_exitcode(status)})
    return len(channels) < before


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
