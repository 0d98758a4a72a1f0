"""What a GPU would do, on tensors that are on none: fused attention and automatic mixed precision for the meta device.

On the meta device torch takes `scaled_dot_product_attention` apart into matrix products and a softmax that keeps the
N x N matrix, and autocast does not exist. Both matter: for memory above all. So while a trace runs, those operators get
an implementation of ours for meta tensors, registered one level above autograd (dispatch key `AutogradMeta`). There it
is found whoever calls, `nn.MultiheadAttention` included, and nothing but meta tensors ever sees it. It is taken
out again at the end of the trace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from visionbench.tracing.formulas import Cost, attention_backward_cost, attention_cost
from visionbench.tracing.old_torch import GeluOfOld, Softmax, SoftmaxOfOld, stepwise

Kernel = Callable[[str, tuple[torch.Tensor, ...], tuple[torch.Tensor, ...], Cost], None]
"""Receives a kernel that torch's dispatcher does not show: (name, inputs, outputs, cost)."""

_aten = torch.ops.aten


class _FusedAttention(torch.autograd.Function):
    """One kernel forward, one backward; keeps q, k, v, the output and one fp32 log-sum-exp per query and head.

    Dao et al. 2022 (FlashAttention), algorithms 1 and 4. Shapes: (B, H, N, d).
    """

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, seen: Kernel
    ) -> torch.Tensor:
        # The kernels lay their output out as (B, N, H, d), so that merging the heads afterwards is a view.
        batch, heads, length, _ = query.shape
        out = query.new_empty((batch, length, heads, value.shape[-1])).transpose(1, 2)
        lse = query.new_empty(query.shape[:-1], dtype=torch.float32)
        seen("fused_attention", _present(query, key, value, mask), (out, lse), attention_cost(query, key, value))
        ctx.save_for_backward(query, key, value, mask, out, lse)
        ctx.seen = seen
        return out

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        query, key, value, mask, out, lse = ctx.saved_tensors
        gradients = tuple(torch.empty_like(t) for t in (query, key, value))
        # The mask of window attention is a parameter's gather: it has a gradient of its own shape.
        masks = (torch.empty_like(mask),) if ctx.needs_input_grad[3] else ()
        inputs = _present(grads[0], query, key, value, mask, out, lse)
        ctx.seen("fused_attention_backward", inputs, gradients + masks, attention_backward_cost(query, key, value))
        return (*gradients, masks[0] if masks else None, None)


def _present(*tensors: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
    return tuple(t for t in tensors if t is not None)


def _in_steps(*args: Any, **options: Any) -> torch.Tensor:
    """Attention as torch composes it of matrix products and a softmax."""
    out: torch.Tensor = _aten.scaled_dot_product_attention.default.decompose(*args, **options)
    return out


def _fused(seen: Kernel) -> Callable[..., torch.Tensor]:
    def attention(
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        *rest: Any,
        **options: Any,
    ) -> torch.Tensor:
        # Only (B, H, N, d) has fused kernels; for other shapes CUDA runs the math path too.
        if query.dim() != 4:
            return _in_steps(query, key, value, attn_mask, *rest, **options)
        out: torch.Tensor = _FusedAttention.apply(query, key, value, attn_mask, seen)
        return out

    return attention


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


class _Casts:
    """Casts for one trace. A parameter's low-precision copy is made once per step, as autocast's cache does."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._copies: dict[int, torch.Tensor] = {}

    def lower(self, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return type(value)(self.lower(v) for v in value)
        if not isinstance(value, torch.Tensor) or value.dtype != torch.float32:
            return value
        if not (value.is_leaf and value.requires_grad):
            return value.to(self.dtype)
        if id(value) not in self._copies:
            self._copies[id(value)] = value.to(self.dtype)
        return self._copies[id(value)]

    @staticmethod
    def raised(value: Any) -> Any:
        floating = isinstance(value, torch.Tensor) and value.dtype in (torch.float16, torch.bfloat16)
        return value.float() if floating else value

    def forget(self) -> None:
        self._copies.clear()


def _softmax(casts: _Casts | None, former: bool) -> Callable[..., torch.Tensor]:
    run = SoftmaxOfOld.apply if former else _aten._softmax.default

    def softmax(x: torch.Tensor, dim: int, dtype: torch.dtype | None = None) -> torch.Tensor:
        # fp16 in, fp32 out in one kernel; bf16 has no such kernel and is copied first (ATen/native/SoftMax.cpp).
        if casts and x.dtype == torch.float16 and dtype in (None, torch.float32):
            return run(x, dim, True)  # type: ignore[no-any-return]
        given = x.to(dtype) if dtype else casts.raised(x) if casts else x
        return run(given, dim, False)  # type: ignore[no-any-return]

    return softmax


@contextmanager
def overrides(
    *, fused: bool, autocast: torch.dtype | None, seen: Kernel, former: bool = False
) -> Iterator[Callable[[], None]]:
    """For the time of the `with` block, meta tensors get fused attention and/or autocast to that dtype.

    `seen` is told of each fused kernel. `former` keeps what torch before 1.11 kept (`stepwise`). Yields a function that
    ends the autocast region (drops the cached parameter copies, as leaving `torch.autocast` does before the backward
    pass).
    """
    library = torch.library.Library("aten", "IMPL")
    casts = _Casts(autocast) if autocast else None
    try:
        for name, implementation in _implementations(fused, casts, seen, former).items():
            library.impl(name, implementation, "AutogradMeta")
        yield casts.forget if casts else lambda: None
    finally:
        library._destroy()


def _implementations(fused: bool, casts: _Casts | None, seen: Kernel, former: bool) -> dict[str, Callable[..., Any]]:
    softmax: Softmax = _softmax(casts, former)
    in_steps = stepwise(softmax, _in_steps) if casts or former else _in_steps
    attention = _fused(seen) if fused else in_steps
    if casts is None:
        own = {"softmax.int": softmax} if former else {}
        return own | ({"scaled_dot_product_attention": attention} if fused or former else {})
    return _cast(casts, attention) | {"softmax.int": softmax} | ({"gelu": _gelu(casts)} if former else {})


def _cast(casts: _Casts, attention: Callable[..., torch.Tensor]) -> dict[str, Callable[..., Any]]:
    """The operators that autocast casts the operands of."""

    def lowered(run: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **options: run(*casts.lower(args), **{k: casts.lower(v) for k, v in options.items()})

    def raised(run: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **options: run(*map(casts.raised, args), **options)

    table: dict[str, Callable[..., Any]] = {"bmm": lowered(_Bmm.apply)}
    for name in _LOWER:
        table[name] = lowered(attention if name == "scaled_dot_product_attention" else _composed(name))
    for name in _FP32:
        table[name] = raised(_composed(name))
    return table


def _gelu(casts: _Casts) -> Callable[..., torch.Tensor]:
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
