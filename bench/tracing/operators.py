"""The recorder: every operator that torch dispatches, with its kind, its cost and the layer that called it.

A `TorchDispatchMode` sits below autograd and sees forward, backward and optimizer alike, after torch has taken
composite operators apart; so whatever a model is written with, it arrives here as the few hundred operators that
have kernels. Views move no data and are counted apart.

The physics behind `bytes`: a kernel must read its inputs and write its outputs at least once, so their sizes are a
lower bound of its memory traffic (the roofline's horizontal axis; Williams et al. 2009), exact for unfused element-
wise kernels.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.nested._internal.nested_tensor import NestedTensor
from torch.utils._python_dispatch import TorchDispatchMode

from visionbench.tracing.call_cache import (
    Call,
    Operand,
    Outcome,
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
from visionbench.tracing.higher_order import follow
from visionbench.tracing.hooks import watching as watching_hooks
from visionbench.tracing.kinds import Kind
from visionbench.tracing.live import LiveTensors

_TO_COPY = torch.ops.aten._to_copy.default

Phase = Literal["forward", "backward", "optimizer"]


# Operators on a list of tensors that return tensors like those.
_LIKE_FIRST = frozenset(f"_foreach_{name}" for name in ("sqrt", "neg", "mul", "add", "div", "pow"))


_RESIZES = frozenset(("upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """One dispatched operator: whole batch, bytes read plus bytes written.

    `counted` says whether the MAC rule has a formula for it, `missed` whether it multiplies, or may, and has none.
    `module` is the path of the innermost module whose forward called it ("" for the model itself; for backward and
    optimizer always ""). `operands` are the tensors it was called with, in order, then those it returned: what the
    speed of a kernel depends on beside its size.
    """

    name: str
    kind: Kind
    module: str
    phase: Phase
    macs: int
    activations: int
    bytes: int
    counted: bool
    operands: tuple[Operand, ...] = ()
    missed: bool = False


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
            return follow(self, func, args, kwargs)
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
        self._append(call.name, call.cost, call.bytes, call.counted, call.operands, call.missed)
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
        moved = tensor_bytes(inputs) + tensor_bytes(outputs)
        self._append(name, cost, moved, True, operands(inputs) + operands(outputs))

    def not_counted(self, name: str) -> None:
        """Name something that multiplies and of which the count is not known."""
        self._append(name, Cost(kind="other", macs=0, activations=0), 0, False, (), missed=True)

    def _append(
        self, name: str, cost: Cost, moved: int, counted: bool, tensors: tuple[Operand, ...], missed: bool = False
    ) -> None:
        self.operators.append(
            Operator(
                name=name,
                kind=cost.kind,
                module=self.module if self.phase == "forward" else "",
                phase=self.phase,
                macs=cost.macs,
                activations=cost.activations,
                bytes=moved,
                counted=counted,
                operands=tensors,
                missed=missed,
            )
        )

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
