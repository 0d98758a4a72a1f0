"""Attention written out step by step, and what releases of torch before 1.11 kept for its gradient.

Before `scaled_dot_product_attention` every program multiplied, took a softmax and multiplied again. Under autocast the
steps have different types: the products take and give halves, the softmax gives fp32 and keeps that for its gradient,
and the second product keeps a copy in halves beside it. Torch's composite operator, one entry of autocast's list,
leaves out both the fp32 and the copy.

Two savings came later. The softmax kept its input too, of which its gradient needs the type alone (pytorch issue
64000, mended by pull request 65242). And autocast ran GELU in fp32, which keeps its input in fp32 (pull request 59639).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Softmax = Callable[[torch.Tensor, int], torch.Tensor]
Attention = Callable[..., torch.Tensor]

_aten = torch.ops.aten


def stepwise(softmax: Softmax, otherwise: Attention) -> Attention:
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
