"""A call in a child process: what a foreign network prints, crashes, hangs on or leaves behind stays there.

The child is forked, which costs no imports. It prints to standard error, from Python or past it, uses one thread (of a
pool of threads a fork has nothing but the memory that there was one) and touches no GPU.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, ParamSpec, TypeVar

import torch

from visionbench.models import ModelError
from visionbench.models.reasons import said
from visionbench.record.errors import BenchError

LIMIT = 600.0
"""Seconds: a count takes one, a large network with a slow constructor a minute."""

_NO_AUTOGRAD = "autograd's threading in combination with fork-based multiprocessing"
"""torch's words in a child whose parent has trained on a GPU, as in a notebook: no child of it can train. Then the call
is made here, without the wall."""

P = ParamSpec("P")
T = TypeVar("T")


class ChildError(BenchError):
    """A child died, hung, or raised something else; the sentence begins with "it"."""


def guarded(model: str, function: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
    """What `function` returns of `model`: called `apart` for one of the user's. Raises as `apart`, and names it."""
    if not model.startswith("user:"):
        return function(*args, **options)
    try:
        return apart(function, *args, **options)
    except ChildError as error:
        raise BenchError(f"{model}: {error}") from error


def apart(function: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
    """What `function` returns, called in a child; in our own child, called at once.

    In a process whose children cannot train (`_NO_AUTOGRAD`) it is called here instead.
    Raises what it raises, if that is a `BenchError` or a `ModelError`, and `ChildError` for a child that died, hung, or
    met anything else.
    """
    if multiprocessing.parent_process() is not None:
        return function(*args, **options)
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(theirs, function, args, options))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of forking a process that has threads
        process.start()
    theirs.close()
    try:
        value = _answer(ours, process)
    finally:
        process.kill()
        process.join()
        ours.close()
    if isinstance(value, BaseException):
        if _NO_AUTOGRAD in str(value):
            return function(*args, **options)
        raise value
    return value  # type: ignore[no-any-return]  # what the child's call returned


def _answer(line: Connection, process: Any) -> Any:
    try:
        if not line.poll(LIMIT):
            return ChildError(f"it did not end within {LIMIT:.0f} s: mend the model.")
        return line.recv()
    except EOFError:
        process.join()
        return ChildError(f"it ended the process that counted it ({_how(process.exitcode)}): mend the model.")


def _how(code: int) -> str:
    if code == -signal.SIGKILL:
        return "killed, perhaps for want of memory"
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _serve(line: Connection, function: Callable[..., Any], args: Any, options: Any) -> None:
    gc.freeze()
    torch.set_num_threads(1)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    try:
        line.send(function(*args, **options))
    except (BenchError, ModelError) as error:
        line.send(error)
    except BaseException as error:
        line.send(ChildError(f"it raised {said(error)}: mend the model."))
    finally:
        line.close()
        os._exit(0)
