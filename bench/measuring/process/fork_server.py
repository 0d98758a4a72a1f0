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
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from visionbench import ROOT
from visionbench.measuring.process import child

PRELOAD = ("psutil", "torch", "timm", "visionbench.models", "visionbench.measuring.together")

BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from visionbench.measuring.process.fork_server import serve; serve(int(sys.argv[2]))"
)

STOP_SECONDS = 1.0
"""How long a server may take to see that it is no longer wanted: it does not look while it imports."""


class ForkServer:
    """The parent's handle: started when first needed, started again should it have died."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._log: BinaryIO | None = None

    def start(self) -> socket.socket:
        """Start the server unless it runs. Returns at once with the line on which children are ordered."""
        with self._lock:
            if self._control is None or self._process is None or self._process.poll() is not None:
                self._stop()
                self._control = self._start()
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
                # Should an import ask for CUDA, the answer must not wake the driver: it cannot be forked.
                env=os.environ | {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"},
            )
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


def import_path() -> list[str]:
    """Where a child imports from: as this process, but our own packages for sure, and not the working directory.

    A user's factory is found in the working directory all the same: `models` looks there, last.
    """
    here, root = str(Path.cwd()), str(ROOT)
    path = [entry for entry in sys.path if entry not in ("", here) or entry == root]
    return path if root in path else [root, *path]


def serve(control_descriptor: int) -> None:
    """The server: fork for every pair of descriptors that arrives, until the parent hangs up."""
    child.adopt_orphans()
    _preload()
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
    # What lives now lives for ever: the children's collector need not walk it, nor copy the pages it is on.
    gc.collect()
    gc.freeze()


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
