"""A model without its weights, every parameter on the meta device, and inputs that have a shape and no values.

What is left of a model's construction time is its random initialisation, which on meta tensors does nothing at some
cost per call, so it is skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from visionbench.models import ModelError, build, load
from visionbench.models.inputs import Arguments, Maker, arguments
from visionbench.models.randomness import seeded
from visionbench.record.inputs import INTEGERS
from visionbench.record.spec import ImageSize, Spec

_METHODS = "normal_ uniform_ erfinv_ bernoulli_ exponential_ random_ fill_ zero_ clamp_ mul_ add_"
_FILLS = frozenset(
    [getattr(torch.Tensor, name) for name in _METHODS.split()]
    # torch.nn.init hands itself to a function mode, and what it calls inside is then no longer seen
    + [fill for name, fill in vars(torch.nn.init).items() if name.endswith("_") and callable(fill)]
)


class _SkipFills(TorchFunctionMode):
    """In-place fills of meta tensors and of large ones return at once: their values are never read.

    Small tensors with data keep theirs, because a constructor may compute with them
    (`torch.linspace(...).mul_(r).tolist()`).
    """

    SMALL = 4096

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        target = args[0] if args else kwargs.get("tensor")
        if func in _FILLS and isinstance(target, torch.Tensor) and (target.is_meta or target.numel() > self.SMALL):
            return target
        return func(*args, **kwargs)


def skeleton(name: str, image_size: ImageSize, channels: int = 3) -> torch.nn.Module:
    """The module of that name with all parameters and buffers on the meta device. Raises `ModelError`.

    A model whose constructor reads tensor values (`.item()`), which meta tensors do not have, is built without
    initialisation on the CPU and moved; memory that is never written is not taken from the machine either.
    """
    # What importing timm or the user's module makes belongs to the process and not to the trace: before any mode. So
    # does the compiler, which torch loads at its first dispatch to Python, and which torch 2.6 cannot load under one.
    # Flexible attention takes 6 ms more; a network may import it in its forward pass, after `overrides`.
    import torch._dynamo
    import torch.nn.attention.flex_attention

    load(name)
    try:
        with _untouched(), torch.device("meta"):
            module = build(name, image_size, channels)
    except (ModelError, RuntimeError):  # timm 1.0.15 reads values while it builds
        module = weightless(name, image_size, channels)
    to_meta(module)
    return module


def to_meta(module: torch.nn.Module) -> None:
    """Move every registered tensor that is elsewhere to the meta device; one that has several owners stays one.

    `Module.to` would make a parameter of each of them, for the meta device's tensors cannot replace others in place.
    """
    copies: dict[int, Any] = {}
    for owner in module.modules():
        stores: tuple[dict[str, Any], ...] = (owner._parameters, owner._buffers)
        away = [t for store in stores for t in store.values() if t is not None and not t.is_meta]
        if not away:
            continue
        for tensor in away:
            copies.setdefault(id(tensor), _moved(tensor))
        for place in (*stores, vars(owner)):
            place.update({name: copies[id(value)] for name, value in place.items() if id(value) in copies})
        if isinstance(owner, torch.nn.RNNBase):  # it keeps a list of its weights
            owner._init_flat_weights()


def _moved(tensor: torch.Tensor) -> torch.Tensor:
    if torch.nn.parameter.is_lazy(tensor):
        lazy: torch.Tensor = tensor.to("meta")
        return lazy
    moved = tensor.detach().to("meta")
    return torch.nn.Parameter(moved, tensor.requires_grad) if isinstance(tensor, torch.nn.Parameter) else moved


def weightless(name: str, image_size: ImageSize, channels: int = 3) -> torch.nn.Module:
    """The module on the CPU with uninitialised weights: real tensors whose values mean nothing. Raises `ModelError`."""
    with _untouched(), torch.device("cpu"):
        return build(name, image_size, channels)


@contextmanager
def _untouched() -> Iterator[None]:
    """Build without filling weights and without moving the process's random state."""
    with seeded(0), _SkipFills():
        yield


_MOST_READINGS = 1000


@dataclass(slots=True)
class Readings:
    """How many values have been read since the last `restart`, which leaves out a call that a network makes once."""

    count: int = 0

    def restart(self) -> None:
        """Begin anew."""
        self.count = 0


@contextmanager
def values_as_zero() -> Iterator[Readings]:
    """For the time of the `with` block a meta tensor's value is zero; yields how many were asked for.

    A forward pass may read from its tensors (`.item()`, `if x.sum() > 0:`). On a GPU each such reading stops the host
    until the device has caught up, so it is counted. The counts are then those of the path that zeros take.
    A loop that waits for another value than zero would wait forever: after a thousand readings RuntimeError is raised.
    """
    readings = Readings()

    def read(tensor: torch.Tensor) -> bool | int | float:
        readings.count += 1
        if readings.count > _MOST_READINGS:
            raise RuntimeError(f"more than {_MOST_READINGS} values were read, and meta tensors have no data")
        if tensor.dtype == torch.bool:
            return False
        return 0.0 if tensor.is_floating_point() else 0

    library = torch.library.Library("aten", "IMPL")
    try:
        library.impl("_local_scalar_dense", read, "AutogradMeta")  # above autograd, as in `overrides`
        yield readings
    finally:
        library._destroy()


DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
"""What `float` is in a precision, and what `amp_` and a precision cast to; elsewhere it is fp32."""


def inputs_on(spec: Spec, device: str = "meta") -> Arguments:
    """The inputs of one step of `spec`; with values, floats are all zero and integers the lowest of their range.

    Raises `ModelError` for a user's function that fails.
    """
    plain = DTYPES.get(spec.precision, torch.float32)

    def draw(shape: tuple[int, ...], dtype: str, low: int, _high: int) -> torch.Tensor:
        kind = plain if dtype == "float" else getattr(torch, dtype)
        if device == "meta":
            return laid_out(torch.empty(shape, dtype=kind, device=device))
        return laid_out(torch.full(shape, low if dtype in INTEGERS else 0, dtype=kind, device=device))

    def place(tensor: torch.Tensor) -> torch.Tensor:
        kind = plain if tensor.dtype == torch.float32 else tensor.dtype
        return laid_out(tensor.detach().to(device=device, dtype=kind))

    def laid_out(tensor: torch.Tensor) -> torch.Tensor:
        channels_last = spec.memory_format == "channels_last" and tensor.dim() == 4
        return tensor.to(memory_format=torch.channels_last) if channels_last else tensor

    maker = Maker(draw=draw, place=place, born=device)
    return arguments(spec.model, spec.described, spec.batch_size, spec.image_size, maker)
