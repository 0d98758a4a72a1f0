"""Between a caller and one of its sides: a process that kills what the side leaves behind.

A side that is killed ends none of its daemons, and nothing marks one with another session and environment. Linux gives
it to the nearest ancestor that adopts orphans. That is this process, which has no other children and so may kill them
all. It starts the side, sleeps until that has ended, and ends in the same way. Elsewhere than on Linux it kills the
side's process group only.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from contextlib import suppress
from typing import NoReturn

from visionbench.measuring.process.child import adopt_orphans, end_orphans
from visionbench.record.lifetime import die_with

BOOT = (
    "import json, sys; path, *order = json.loads(sys.argv[1]); sys.path[:] = path; "
    "from visionbench.measuring.process.keeper import keep; keep(*order)"
)

KEEPER = "KEEPER"
"""A word of the command that stands for this process's number."""


class _Stopped(BaseException):
    """The caller wants no more of the side, or is gone."""


def keep(parent: int, line: int, command: list[str]) -> NoReturn:
    """Run `command` in a new session until it ends, or `parent` does, or a SIGTERM comes. Never returns.

    `line` is the descriptor on which it talks, and which must hang up when it ends.
    """
    signal.signal(signal.SIGTERM, _stop)
    adopt_orphans()
    die_with(parent, signal.SIGTERM)
    words, status, side = [str(os.getpid()) if word == KEEPER else word for word in command], 0, 0
    try:
        side = os.fork()
        if side == 0:
            _become(words)
        os.close(line)
        os.waitid(os.P_PID, side, os.WEXITED | os.WNOWAIT)  # it stays a zombie, which holds the group's number
    except _Stopped:
        pass
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if side:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(side, signal.SIGKILL)  # compilers and data loaders go too
            with suppress(ProcessLookupError):
                os.kill(side, signal.SIGKILL)  # it may not have its group yet
            status = os.waitpid(side, 0)[1]
        end_orphans(())
    _end_as(os.waitstatus_to_exitcode(status))


def _stop(_number: int, _frame: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the caller's death sends another, which must not end the cleaning
    raise _Stopped


def _become(words: list[str]) -> NoReturn:
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.setsid()
        os.execvp(words[0], words)  # noqa: S606  # no shell is wanted
    except BaseException as error:  # a forked process must not go on as its parent
        print(f"{words[0]} cannot be started: {error}", file=sys.stderr, flush=True)
        os._exit(127)


def _end_as(code: int) -> NoReturn:
    """End with an exit code, or, where it is negative, of that signal, without a dump of this process."""
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with suppress(OSError):  # of SIGKILL there is no handler to restore
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(abs(code))
