"""Each different operator call is worked out once.

The output of an operator that aliases nothing depends on the shapes, strides and types of its inputs alone. Models
repeat their blocks, and torch's shape functions for meta tensors are slow Python, so what a call returns and costs is
remembered under its signature, and a repetition allocates its (dataless) outputs directly.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch._ops import HigherOrderOperator
from torch._prims_common import suggest_memory_format
from torch.utils._pytree import tree_any, tree_map_only

from visionbench.tracing.formulas import Kind, cost_of, kind_of, multiplies

Template = tuple[tuple[int, ...], tuple[int, ...], torch.dtype] | None
"""Shape, strides and type of one output; None for an output that was not asked for."""

Operand = tuple[tuple[int, ...], tuple[int, ...], int]
"""A tensor that a kernel reads or writes: shape, strides, bytes per element."""

Outcome = Literal["free", "first argument", "nothing", "new", "unknown", "composite", "higher order"]
"""What an operator returns. "free": it launches nothing (a view, an allocation); "unknown": only running it tells."""


Phase = Literal["forward", "backward", "optimizer"]


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
    module: str = ""
    phase: Phase = "forward"
    macs: int = 0
    activations: int = 0
    bytes: int = 0
    counted: bool
    operands: tuple[Operand, ...] = ()
    missed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What a call does, and the outputs that a repetition of it returns.

    `outputs` is None where only running the call gives them; `container` is the type they come in (None: bare).
    """

    operator: Operator
    outputs: list[Template] | None
    container: type | None

    def repeat(self) -> Any:
        """Fresh outputs, made without running the call."""
        assert self.outputs is not None
        made = [
            None if template is None else torch.empty_strided(*template[:2], dtype=template[2], device="meta")
            for template in self.outputs
        ]
        return made[0] if self.container is None else self.container(made)


def empty_as(tensor: torch.Tensor) -> torch.Tensor:
    """A meta tensor like `tensor`; `torch.empty_like` takes ten times as long there."""
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")


def empty_resized(maps: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """A meta tensor of maps (N, C, h, w) at another `size` (height, width), in their memory order, as CUDA makes it."""
    order = torch.channels_last if _channels_last(maps) else torch.contiguous_format
    return torch.empty((*maps.shape[:2], *size), dtype=maps.dtype, device="meta", memory_format=order)


def on_cuda(name: str, args: Sequence[Any], out: Any) -> Any:
    """The output of a convolution, laid out as cuDNN lays it out: channels last if the input or the weight is.

    On the meta device torch returns it contiguous whatever it is given; what follows would be counted on other strides
    than a GPU sees (ATen/native/ConvUtils.h, `cudnn_conv_suggest_memory_format`).
    """
    if name != "convolution" or out.dim() != 4 or not any(map(_channels_last, args[:2])):
        return out
    return out.to(memory_format=torch.channels_last)


def _channels_last(tensor: torch.Tensor) -> bool:
    return tensor.dim() == 4 and suggest_memory_format(tensor) == torch.channels_last


def signature(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Any, ...] | None:
    """A key under which calls with equal outcomes are equal; None if an argument's values may decide the outcome."""
    try:
        key = (func, *map(_facts, args), *[(name, _facts(value)) for name, value in kwargs.items()])
        hash(key)
    except TypeError:
        return None
    return key


def on_meta(func: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The arguments with all tensors on the meta device, where some are and others are not.

    A network may keep constants that it does not register, and make tensors on the CPU; beside its parameters they
    are operands like any other. A number as a tensor may be anywhere, on a GPU too, and stays.
    """
    name = func.overloadpacket.__name__
    on_any = tree_any(lambda value: isinstance(value, torch.Tensor) and value.is_meta, (args, kwargs))
    if not on_any or name in _ON_THE_HOST:
        return args, kwargs
    if name in _INDEXED:
        args = (args[0], list(_indices(args[1])), *args[2:])

    def moved(tensor: torch.Tensor) -> torch.Tensor:
        return tensor if tensor.is_meta or tensor.dim() == 0 else tensor.to("meta")

    both: tuple[Any, dict[str, Any]] = tree_map_only(torch.Tensor, moved, (args, kwargs))
    return both


# Operators that take lengths on the host, wherever the rest is.
_ON_THE_HOST = frozenset({"_pack_padded_sequence", "_pack_padded_sequence_backward"})

_INDEXED = frozenset({"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put"})


def _indices(indices: Sequence[Any]) -> Iterator[Any]:
    """Indices with each mask that has values as the places that it marks: on the meta device it is unknown."""
    for index in indices:
        if isinstance(index, torch.Tensor) and index.dtype == torch.bool and not index.is_meta:
            yield from index.nonzero(as_tuple=True)
        else:
            yield index


def _facts(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        if not value.is_meta:
            raise TypeError("a tensor with data may decide the outcome by its values")
        return (value.shape, value.stride(), value.dtype)
    if isinstance(value, (list, tuple)):
        return tuple(map(_facts, value))
    return (type(value), value)  # 1, 1.0 and True are equal, yet give different types


@functools.cache
def outcome(func: Any) -> Outcome:
    """What an operator returns, by its schema."""
    if isinstance(func, HigherOrderOperator):
        return "higher order"
    if func.is_view or torch.Tag.inplace_view in func.tags or func.overloadpacket.__name__ in _FREE:
        return "free"
    # `silu_backward` has a composition, too, but on CPU and CUDA a kernel.
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    if has_kernel(func.name(), "CompositeImplicitAutograd") and not has_kernel(func.name(), "CPU"):
        return "composite"
    schema = func._schema
    aliases = [output.alias_info for output in schema.returns]
    if not aliases:
        return "nothing"
    if not any(aliases):
        return "new"
    first = schema.arguments[0].alias_info
    return "first argument" if len(aliases) == 1 and first is not None and first.is_write else "unknown"


# Operators that launch nothing on a device: allocation and bookkeeping.
_FREE = frozenset(
    """
    empty empty_like empty_strided new_empty new_empty_strided detach lift_fresh alias as_strided_ resize_ set_
    _unsafe_view _reshape_alias is_same_size _local_scalar_dense _record_function_enter_new _record_function_exit
    """.split()  # noqa: SIM905 -- a list of names is read more easily without quotes
)


# Operators that write their first argument, or one like it, without reading it.
_WRITE_ONLY = frozenset(
    """
    zero_ fill_ copy_ normal_ uniform_ bernoulli_ exponential_ random_ zeros_like ones_like full_like rand_like
    randn_like new_zeros new_ones new_full
    """.split()  # noqa: SIM905 -- as above
)


def describe(func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> Call:
    """Work out a call from its arguments and the outputs that it returned."""
    cost = cost_of(func, args, kwargs, out)
    outputs = out if isinstance(out, (list, tuple)) else (out,)
    returns = outcome(func)
    repeatable = returns == "new" and all(o is None or (isinstance(o, torch.Tensor) and o.is_meta) for o in outputs)
    read = args[1:] if func.overloadpacket.__name__ in _WRITE_ONLY else args
    # An operator that returns nothing (`_foreach_add_`) writes its first argument.
    written = (args[0],) if returns == "nothing" and args else outputs
    operator = Operator(
        name=str(func.overloadpacket).removeprefix("aten."),
        kind=cost.kind if cost else kind_of(func),
        macs=cost.macs if cost else 0,
        activations=cost.activations if cost else 0,
        bytes=tensor_bytes(read) + tensor_bytes(kwargs.values()) + tensor_bytes(written),
        counted=cost is not None,
        operands=(*operands(args), *operands(kwargs.values()), *operands(outputs)),
        missed=cost is None and multiplies(func),
    )
    templates = [None if o is None else (tuple(o.shape), o.stride(), o.dtype) for o in outputs] if repeatable else None
    return Call(operator=operator, outputs=templates, container=type(out) if outputs is out else None)


def operands(values: Any) -> tuple[Operand, ...]:
    """All tensors among `values`, in order, lists included."""
    found: list[Operand] = []
    for value in values:
        if isinstance(value, torch.Tensor):
            found.append((tuple(value.shape), value.stride(), value.element_size()))
        elif isinstance(value, (list, tuple)):
            found.extend(operands(value))
    return tuple(found)


def tensor_bytes(values: Any) -> int:
    """Bytes of all tensors among `values`, lists included; an expanded dimension (stride 0) is one element."""
    total = 0
    for value in values:
        if isinstance(value, torch.Tensor):
            elements = value.numel()
            strides = value.stride()
            if 0 in strides:
                for length, stride in zip(value.shape, strides, strict=True):
                    elements = elements // length if stride == 0 and length else elements
            total += elements * value.element_size()
        elif isinstance(value, (list, tuple)):
            total += tensor_bytes(value)
    return total
