"""Autocast on the meta device, as on a GPU: every open region counts, and operands are cast.

The meta device has no autocast. So what CUDA's does to an operator is done here, above autograd, by torch's
own state of the region: nested ones, ones that switch it off, and those that a network opens itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

Operation = Callable[..., torch.Tensor]

_aten = torch.ops.aten

# What CUDA's autocast does to an operator (torch/csrc, aten/src/ATen/autocast_mode.h), for operators that torch
# composes of others and that may therefore be replaced above autograd. The others see operands these have already
# cast.
_LOWER = (
    "linear",
    "matmul",
    "einsum",
    "scaled_dot_product_attention",
    *(f"conv{n}d{overload}" for n in (1, 2, 3) for overload in ("", ".padding")),
    *("conv_transpose1d", "conv_transpose2d.input", "conv_transpose3d.input"),
)
_FP32 = ("layer_norm", "group_norm", "cross_entropy_loss", "cosine_similarity")


class Casts:
    """Casts for one trace. A parameter's low-precision copy is made once per region, as autocast's cache does."""

    def __init__(self) -> None:
        self._copies: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    @property
    def dtype(self) -> torch.dtype | None:
        """What the region that is open casts to; None outside of any."""
        return torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else None

    def lower(self, value: Any, dtype: torch.dtype) -> Any:
        """`value` in `dtype` where it is an fp32 tensor, or a sequence of such."""
        if isinstance(value, (list, tuple)):
            return type(value)(self.lower(v, dtype) for v in value)
        if not isinstance(value, torch.Tensor) or value.dtype != torch.float32:
            return value
        # Views are made anew at each use (autocast_mode.cpp, cached_cast, leaves them out, too).
        if not (value.is_leaf and value.requires_grad) or value._is_view() or not torch.is_autocast_cache_enabled():
            return value.to(dtype)
        source, copy = self._copies.get(id(value), (None, value))
        if source is not value or copy.dtype != dtype:
            copy = value.to(dtype)
            self._copies[id(value)] = (value, copy)  # whoever is kept here keeps its id to itself
        return copy

    def raised(self, value: Any) -> Any:
        """`value` in fp32 where it is a tensor of halves and a region is open."""
        floating = isinstance(value, torch.Tensor) and value.dtype in (torch.float16, torch.bfloat16)
        return value.float() if floating and self.dtype else value

    def forget(self) -> None:
        """Drop the copies, as leaving the outermost region does."""
        self._copies.clear()


def softmax(casts: Casts, former: bool) -> Operation:
    """Softmax as autocast runs it; `former`: one that keeps its input, too."""
    run = SoftmaxOfOld.apply if former else _aten._softmax.default

    def softmax(x: torch.Tensor, dim: int, dtype: torch.dtype | None = None) -> torch.Tensor:
        # fp16 in, fp32 out in one kernel; bf16 has no such kernel and is copied first (ATen/native/SoftMax.cpp).
        if x.dtype == torch.float16 and dtype in (None, torch.float32) and casts.dtype:
            return run(x, dim, True)  # type: ignore[no-any-return]
        given = x.to(dtype) if dtype else casts.raised(x)
        return run(given, dim, False)  # type: ignore[no-any-return]

    return softmax


def cast_operators(casts: Casts, attention: Operation) -> dict[str, Callable[..., Any]]:
    """The operators that autocast casts the operands of; outside a region they are as torch composes them."""

    def lowered(run: Callable[..., Any]) -> Callable[..., Any]:
        def lowered_run(*args: Any, **options: Any) -> Any:
            dtype = casts.dtype
            if dtype is None:
                return run(*args, **options)
            return run(*casts.lower(args, dtype), **{k: casts.lower(v, dtype) for k, v in options.items()})

        return lowered_run

    def raised(run: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **options: run(*map(casts.raised, args), **options)

    table: dict[str, Callable[..., Any]] = {"bmm": lowered(_Bmm.apply)}
    for name in _LOWER:
        table[name] = lowered(attention if name == "scaled_dot_product_attention" else _composed(name))
    for name in _FP32:
        table[name] = raised(_composed(name))
    return table


def gelu(casts: Casts) -> Operation:
    """GELU as autocast ran it before torch 1.11: in fp32."""

    def gelu(x: torch.Tensor, *, approximate: str = "none") -> torch.Tensor:
        out: torch.Tensor = GeluOfOld.apply(casts.raised(x), approximate)
        return out

    return gelu


def _composed(name: str) -> Callable[..., Any]:
    """How torch composes an operator (`conv2d.padding`) of others."""
    packet, _, overload = name.partition(".")
    run: Callable[..., Any] = getattr(getattr(_aten, packet), overload or "default").decompose
    return run


class _Bmm(torch.autograd.Function):
    """The one matrix product that torch does not compose of others: with its own gradient, it may be replaced too."""

    @staticmethod
    def forward(ctx: Any, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(left, right)
        return _bmm(left, right)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        left, right = ctx.saved_tensors
        return (
            _bmm(grads[0], right.transpose(1, 2)) if ctx.needs_input_grad[0] else None,
            _bmm(left.transpose(1, 2), grads[0]) if ctx.needs_input_grad[1] else None,
        )


def _bmm(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    with torch._C._AutoDispatchBelowAutograd():  # or it would find the replacement again
        out: torch.Tensor = _aten.bmm.default(left, right)
        return out


@contextmanager
def regions(*, entered: Callable[[], None], left: Callable[[], None]) -> Iterator[None]:
    """For the time of the `with` block `torch.autocast` of "cuda" works without a GPU, and that of "meta" means it.

    `entered` is called when a region that casts opens, `left` when the outermost closes. An inference mode is a
    `no_grad` meanwhile: its tensors pass by autograd, above which the meta device's operators are replaced.
    """
    autocast, inference_mode = torch.amp.autocast_mode.autocast, torch.autograd.grad_mode.inference_mode
    begin, enter, leave = autocast.__init__, autocast.__enter__, autocast.__exit__
    depth = 0

    def init(self: Any, device_type: str, dtype: Any = None, enabled: bool = True, cache_enabled: Any = None) -> None:
        if device_type not in ("meta", "cuda"):
            begin(self, device_type, dtype, enabled, cache_enabled)
            return
        self.device, self.custom_backend_name, self._enabled = "cuda", None, enabled
        self.fast_dtype = torch.get_autocast_dtype("cuda") if dtype is None else dtype
        self._cache_enabled = torch.is_autocast_cache_enabled() if cache_enabled is None else cache_enabled

    def enter_region(self: Any) -> Any:
        nonlocal depth
        depth += 1
        if self.device == "cuda" and self._enabled:
            entered()
        return enter(self)  # type: ignore[no-untyped-call]  # torch's, untyped

    def leave_region(self: Any, *exception: Any) -> Any:
        nonlocal depth
        depth -= 1
        if depth == 0:
            left()
        return leave(self, *exception)

    def enter_no_grad(self: Any) -> None:
        self.grad_before = torch.is_grad_enabled()
        torch.set_grad_enabled(not self.mode)

    def leave_no_grad(self: Any, *_exception: Any) -> None:
        torch.set_grad_enabled(self.grad_before)

    available = _of_cuda(torch.amp.is_autocast_available)
    of_cuda = {"is_autocast_enabled": _of_cuda(torch.is_autocast_enabled)}
    of_cuda |= {"get_autocast_dtype": _of_cuda(torch.get_autocast_dtype)}
    with (
        replaced(autocast, __init__=init, __enter__=enter_region, __exit__=leave_region),
        replaced(inference_mode, __enter__=enter_no_grad, __exit__=leave_no_grad),
        replaced(torch, **of_cuda),
        replaced(torch.amp, is_autocast_available=available),
        replaced(torch.amp.autocast_mode, is_autocast_available=available),
    ):
        yield


@contextmanager
def replaced(owner: Any, **values: Any) -> Iterator[None]:
    """For the time of the `with` block these attributes of a class or module have other values."""
    before = {name: getattr(owner, name) for name in values}
    try:
        for name, value in values.items():
            setattr(owner, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(owner, name, value)


def _of_cuda(asked: Callable[..., Any]) -> Callable[..., Any]:
    """What torch says of a kind of device, for "meta" what it says of "cuda"."""
    return lambda *kind: asked(*("cuda" if word == "meta" else word for word in kind))


# --- attention written out step by step, and what releases of torch before 1.11 kept for its gradient ---
#
# Before `scaled_dot_product_attention` every program multiplied, took a softmax and multiplied again. Under autocast
# the steps have different types: the products take and give halves, the softmax gives fp32 and keeps that for its
# gradient, and the second product keeps a copy in halves beside it. Torch's composite operator, one entry of autocast's
# list, leaves out both the fp32 and the copy.
#
# Two savings came later. The softmax kept its input too, of which its gradient needs the type alone (pytorch issue
# 64000, mended by pull request 65242). And autocast ran GELU in fp32, which keeps its input in fp32 (pull request
# 59639).


def stepwise(softmax: Operation, otherwise: Operation) -> Operation:
    """Attention in steps, with that softmax; what no program of the time asked for is left to `otherwise`."""

    def attention(
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        *rest: Any,
        scale: float | None = None,
        **options: Any,
    ) -> torch.Tensor:
        if any(rest) or any(options.values()) or (attn_mask is not None and attn_mask.dtype == torch.bool):
            return otherwise(query, key, value, attn_mask, *rest, scale=scale, **options)
        factor = query.shape[-1] ** -0.5 if scale is None else scale
        scores = torch.matmul(query * factor, key.transpose(-2, -1))
        return torch.matmul(softmax(scores if attn_mask is None else scores + attn_mask, -1), value)

    return attention


class SoftmaxOfOld(torch.autograd.Function):
    """A softmax that keeps what it was given beside what it gives."""

    @staticmethod
    def forward(ctx: Any, given: torch.Tensor, dim: int, to_fp32: bool) -> torch.Tensor:
        """The softmax, in fp32 if asked to."""
        with torch._C._AutoDispatchBelowAutograd():
            out: torch.Tensor = _aten._softmax.default(given, dim, to_fp32)
        ctx.save_for_backward(given, out)
        ctx.dim = dim
        return out

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        """The gradient of what was given."""
        given, out = ctx.saved_tensors
        return _aten._softmax_backward_data.default(grads[0], out, ctx.dim, given.dtype), None, None


class GeluOfOld(torch.autograd.Function):
    """GELU with its own gradient, so that it may be replaced by itself on fp32."""

    @staticmethod
    def forward(ctx: Any, given: torch.Tensor, approximate: str) -> torch.Tensor:
        """GELU of what was given, which it keeps."""
        ctx.save_for_backward(given)
        ctx.approximate = approximate
        with torch._C._AutoDispatchBelowAutograd():
            out: torch.Tensor = _aten.gelu.default(given, approximate=approximate)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        """The gradient of what was given."""
        (given,) = ctx.saved_tensors
        return _aten.gelu_backward.default(grads[0], given, approximate=ctx.approximate), None
