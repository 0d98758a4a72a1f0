"""Calls in child processes: of one foreign network, whose prints, crashes and leftovers stay there, or over all cores.

A child is forked, which costs no imports. It prints to standard error, from Python or past it, uses one thread (of a
pool of threads a fork has nothing but the memory that there was one), touches no GPU, and ends with its parent.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, ParamSpec, TypeVar

import torch

from visionbench.models import ModelError
from visionbench.models.reasons import said
from visionbench.record.errors import BenchError
from visionbench.record.lifetime import die_with

LIMIT = 600.0
"""Seconds: a count takes one, a large network with a slow constructor a minute."""

NO_AUTOGRAD = "autograd's threading in combination with fork-based multiprocessing"
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

    In a process whose children cannot train (`NO_AUTOGRAD`) it is called here instead.
    Raises what it raises, if that is a `BenchError` or a `ModelError`, and `ChildError` for a child that died, hung, or
    met anything else.
    """
    if multiprocessing.parent_process() is not None:
        return function(*args, **options)
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(theirs, os.getpid(), function, args, options))
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
        if NO_AUTOGRAD in str(value):
            return function(*args, **options)
        raise value
    return value  # type: ignore[no-any-return]  # what the child's call returned


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


@contextmanager
def forks(most: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of children, one per core and `most` at most. Left by an exception, it waits for none of them."""
    context = multiprocessing.get_context("fork")
    processes = max(1, min(most, cores()))
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_settle_in, initargs=(os.getpid(),))
    try:
        yield pool
    except BaseException:
        end(pool)
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def end(pool: ProcessPoolExecutor) -> None:
    """Kill the children of a pool."""
    for process in list((pool._processes or {}).values()):
        process.kill()


def _settle_in(parent: int) -> None:
    """A fork's first act. What the parent made is not garbage: looking at it for some would copy its pages. And of its
    pool of threads, if it has one, nothing is here but the memory that says so: waiting for it would never end. A
    Ctrl-C is the parent's to answer.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with(parent)
    gc.freeze()
    torch.set_num_threads(1)
    os.dup2(2, 1)
    sys.stdout = sys.stderr


def _answer(line: Connection, process: Any) -> Any:
    try:
        if not line.poll(LIMIT):
            return ChildError(f"it did not end within {LIMIT:.0f} s: mend the model.")
        return line.recv()
    except EOFError:
        process.join()
        code: int = process.exitcode
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        how = "killed, perhaps for want of memory" if code == -signal.SIGKILL else how
        return ChildError(f"it ended the process that counted it ({how}): mend the model.")


def _serve(line: Connection, parent: int, function: Callable[..., Any], args: Any, options: Any) -> None:
    _settle_in(parent)
    try:
        line.send(function(*args, **options))
    except (BenchError, ModelError) as error:
        line.send(error)
    except BaseException as error:
        line.send(ChildError(f"it raised {said(error)}: mend the model."))
    finally:
        line.close()
        os._exit(0)
