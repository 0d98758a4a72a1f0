"""The recorder: every operator that torch dispatches, with its kind, its cost and the layer that called it.

A `TorchDispatchMode` sits below autograd and sees forward, backward and optimizer alike, after torch has taken
composite operators apart. Views move no data and are counted apart. A kernel must read its inputs and write its outputs
at least once, so their `bytes` are a lower bound of its memory traffic (Williams et al. 2009), exact for unfused
element-wise kernels.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch._C import DispatchKey
from torch.nested._internal.nested_tensor import NestedTensor
from torch.utils._python_dispatch import TorchDispatchMode

from visionbench.tracing.call_cache import (
    Call,
    Operator,
    Outcome,
    Phase,
    describe,
    empty_as,
    empty_resized,
    on_cuda,
    on_meta,
    operands,
    outcome,
    signature,
    tensor_bytes,
)
from visionbench.tracing.formulas import Cost
from visionbench.tracing.hooks import watching as watching_hooks
from visionbench.tracing.live import LiveTensors

_TO_COPY = torch.ops.aten._to_copy.default

# Operators on a list of tensors that return tensors like those.
_LIKE_FIRST = frozenset(f"_foreach_{name}" for name in ("sqrt", "neg", "mul", "add", "div", "pow"))

_RESIZES = frozenset(("upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d"))


def _goal(args: Any, kwargs: Any) -> str:
    """The device that a meta tensor is copied to, "" for a copy that stays. Its values stay unknown everywhere."""
    device = kwargs.get("device")
    return "" if device is None or device.type == "meta" or not args[0].is_meta else device.type


class Recorder(TorchDispatchMode):
    """Records operators while it is entered; `operators` and `views` hold what was seen, `live` the tensors' memory.

    `offloads` is whether a tensor was moved to the host, `hooks` what the detection toolbox's counter would have seen
    (`visionbench.tracing.hooks`).

    It has state because torch calls a dispatch mode once per operator.
    """

    supports_higher_order_operators = True

    def __init__(self, live: LiveTensors | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's, untyped
        self.operators: list[Operator] = []
        self.views = 0
        self.live = live
        self.phase: Phase = "forward"
        self.module = ""
        self.hooks: Counter[str] = Counter()
        self.offloads = False
        self._hosts: set[int] = set()
        self._calls: dict[Any, Call] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if NestedTensor in types:  # it takes itself apart, and what it is made of comes here again
            return NotImplemented
        how = outcome(func)
        if how == "free":
            self.views += func.is_view
            return self._kept(func(*args, **kwargs))
        if how == "composite":  # autograd, which takes such apart, was passed by: tensors of an inference mode
            with self:
                return func.decompose(*args, **kwargs)
        if how == "higher order":
            return _follow(self, func, args, kwargs)
        goal = func is _TO_COPY and _goal(args, kwargs)
        if goal:
            kwargs = {**kwargs, "device": torch.device("meta")}
        if self._hosts and self.live is not None:
            self._come_back(args)
        key = signature(func, args, kwargs)
        if key is None:  # a tensor with data, or an argument that has no key
            args, kwargs = on_meta(func, args, kwargs)
        call = self._calls.get(key) if key else None
        out = call.repeat() if call and call.outputs is not None else self._run(how, func, args, kwargs)
        if call is None:
            call = describe(func, args, kwargs, out)
            if key:
                self._calls[key] = call
        self._append(call.operator)
        return self._on_the_host(out) if goal == "cpu" else self._kept(out)

    def _on_the_host(self, copy: torch.Tensor) -> torch.Tensor:
        """A copy to the host takes no device's memory until something is computed with it."""
        self.offloads = True
        storage = copy.untyped_storage()
        self._hosts.add(storage._cdata)
        weakref.finalize(storage, self._hosts.discard, storage._cdata)
        return copy

    def _come_back(self, args: Any) -> None:
        """What is computed with is on the device: torch sees no way back there between two meta tensors."""
        for arg in args:
            if isinstance(arg, torch.Tensor) and arg.untyped_storage()._cdata in self._hosts:
                self._hosts.discard(arg.untyped_storage()._cdata)
                self._kept(arg)

    @staticmethod
    def _run(how: Outcome, func: Any, args: Any, kwargs: Any) -> Any:
        # An operator in place has nothing to do where there are no values, but to find that the shapes fit.
        if how == "first argument" and args[0].is_meta:
            if any(isinstance(arg, torch.Tensor) for arg in args[1:]):
                func(*args, **kwargs)
            return args[0]
        name = func.overloadpacket.__name__
        if how == "nothing" and name.startswith("_foreach_"):
            return None
        if name in _RESIZES and args[0].is_meta:  # and there by its arithmetic, operator for operator
            return empty_resized(args[0], args[1])
        if name in _LIKE_FIRST:  # torch's own way to find that out takes 100 us per parameter
            return [empty_as(tensor) for tensor in args[0]]
        return on_cuda(name, args, func(*args, **kwargs))

    def fused_kernel(
        self, name: str, inputs: tuple[torch.Tensor, ...], outputs: tuple[torch.Tensor, ...], cost: Cost
    ) -> None:
        """A kernel that stands for several operators and that the dispatcher does not show (see `overrides`)."""
        self._append(
            Operator(
                name=name,
                kind=cost.kind,
                macs=cost.macs,
                activations=cost.activations,
                bytes=tensor_bytes(inputs) + tensor_bytes(outputs),
                counted=True,
                operands=operands(inputs) + operands(outputs),
            )
        )

    def not_counted(self, name: str) -> None:
        """Name something that multiplies and of which the count is not known."""
        self._append(Operator(name=name, kind="other", counted=False, missed=True))

    def _append(self, operator: Operator) -> None:
        module = self.module if self.phase == "forward" else ""
        self.operators.append(replace(operator, module=module, phase=self.phase))

    def _kept(self, out: Any) -> Any:
        if self.live is not None:
            self.live.add(out)
        return out

    @contextmanager
    def watching(self, model: torch.nn.Module) -> Iterator[None]:
        """Attribute operators to the modules of `model` while their forward runs. Hooks are gone afterwards."""
        paths = {module: name for name, module in model.named_modules()}
        stack: list[str] = []

        def enter(module: torch.nn.Module, _inputs: Any) -> None:
            stack.append(self.module)
            self.module = paths.get(module, self.module)

        def leave(_module: torch.nn.Module, _inputs: Any, _output: Any) -> None:
            self.module = stack.pop()

        hooks = (
            torch.nn.modules.module.register_module_forward_pre_hook(enter),
            torch.nn.modules.module.register_module_forward_hook(leave, always_call=True),
        )
        try:
            with watching_hooks(model, self.hooks):
                yield
        finally:
            for hook in hooks:
                hook.remove()


# --- higher-order operators (`torch.cond`, `while_loop`, `scan`), whose arguments are programs ---
#
# A counter cannot pass them over, as what is inside multiplies. Loops of known length are run, and of two branches the
# costlier counts. A loop whose length hangs on values runs once here and is named among what is not counted.


class NotFollowedError(RuntimeError):
    """A higher-order operator that a trace cannot look into."""


def _follow(recorder: Recorder, operator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
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


_FOLLOWED = {"cond": _cond, "while_loop": _while_loop}
