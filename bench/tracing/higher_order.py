"""Higher-order operators (`torch.cond`, `while_loop`, `scan`): operators whose arguments are programs.

A counter cannot pass them over, as what is inside multiplies. Loops of known length are run, and of two branches the
costlier counts. A loop whose length hangs on values runs once here and is named among what is not counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch._C import DispatchKey

if TYPE_CHECKING:
    from visionbench.tracing.operators import Recorder

Follow = Callable[["Recorder", tuple[Any, ...], dict[str, Any]], Any]


class NotFollowedError(RuntimeError):
    """A higher-order operator that a trace cannot look into."""


def follow(recorder: Recorder, operator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Record what a higher-order operator does and return what it returns. Raises `NotFollowedError`."""
    name = operator.name()
    # With a gradient, autograd calls it without one: here nobody does, and parameters inside would have none.
    if recorder.live is not None and torch.is_grad_enabled():
        raise NotFollowedError(f"no gradient is followed through the higher-order operator {name}")
    if name in _FOLLOWED:
        return _FOLLOWED[name](recorder, args, kwargs)
    composed = operator.py_kernels.get(DispatchKey.CompositeExplicitAutograd)
    if composed is None:
        raise NotFollowedError(f"the higher-order operator {name} cannot be followed")
    # torch's own implementations refuse to run under a mode; this one is meant.
    names = composed.__globals__
    mode = names.get("_get_current_dispatch_mode")
    names["_get_current_dispatch_mode"] = lambda: None
    try:
        with recorder:
            return composed(*args, **kwargs)
    finally:
        names["_get_current_dispatch_mode"] = mode


def _cond(recorder: Recorder, args: tuple[Any, ...], _kwargs: dict[str, Any]) -> Any:
    """Both branches are run; the operators of the one with more multiply-accumulates are kept."""
    begin = len(recorder.operators)
    branches = []
    for branch in args[1:3]:
        with recorder:
            out = branch(*args[3])
        branches.append((out, recorder.operators[begin:]))
        del recorder.operators[begin:]
    out, kept = max(branches, key=lambda outcome: sum(op.macs for op in outcome[1]))
    recorder.operators += kept
    return out


def _while_loop(recorder: Recorder, args: tuple[Any, ...], _kwargs: dict[str, Any]) -> Any:
    condition, body, carried, others = args[:4]
    with recorder:
        condition(*carried, *others)
        out = body(*carried, *others)
    recorder.not_counted("while_loop")
    return out


_FOLLOWED: dict[str, Follow] = {"cond": _cond, "while_loop": _while_loop}
