"""What a GPU would do, on tensors that are on none: fused attention and automatic mixed precision for the meta device.

On the meta device torch takes `scaled_dot_product_attention` apart into matrix products and a softmax that keeps the N
x N matrix, and autocast does not exist. So while a trace runs, those operators get our implementation for meta tensors,
registered one level above autograd (dispatch key `AutogradMeta`). There every caller finds it, and nothing but meta
tensors ever sees it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from visionbench.tracing.autocast import Casts, Operation, cast_operators, gelu, regions, replaced, softmax, stepwise
from visionbench.tracing.formulas import Cost, attention_cost

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
        cost = attention_cost(query, key, value, backward=True)
        ctx.seen("fused_attention_backward", inputs, gradients + masks, cost)
        return (*gradients, masks[0] if masks else None, None)


def _present(*tensors: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
    return tuple(t for t in tensors if t is not None)


def _in_steps(*args: Any, **options: Any) -> torch.Tensor:
    """Attention as torch composes it of matrix products and a softmax."""
    out: torch.Tensor = _aten.scaled_dot_product_attention.default.decompose(*args, **options)
    return out


def _fused(seen: Kernel) -> Operation:
    def attention(
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        *rest: Any,
        **options: Any,
    ) -> torch.Tensor:
        # Only (B, H, N, d) has fused kernels, and only where nothing is broadcast (sdp_utils.cpp,
        # check_batch_size_and_num_heads_dense); for other shapes CUDA runs the math path too.
        heads = key.shape[1:2] if options.get("enable_gqa") else query.shape[1:2]
        if query.dim() != 4 or not key.shape[:2] == value.shape[:2] == query.shape[:1] + heads:
            return _in_steps(query, key, value, attn_mask, *rest, **options)
        out: torch.Tensor = _FusedAttention.apply(query, key, value, attn_mask, seen)
        return out

    return attention


@contextmanager
def _flexible(seen: Kernel) -> Iterator[None]:
    """Flexible attention on meta tensors is attention: whole, as which scores its mask leaves out, values decide.

    torch refuses the device before it asks for a kernel, and compiles what it calls, which no trace can follow.
    """
    module: Any = sys.modules.get("torch.nn.attention.flex_attention")
    if module is None:  # no `skeleton` was built, which imports it
        yield
        return

    def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_how: Any) -> tuple[torch.Tensor, ...]:
        out = _FusedAttention.apply(query, key, value, None, seen)
        statistics = query.new_empty(query.shape[:-1], dtype=torch.float32)
        return out, statistics, statistics

    ours = {
        "_validate_device": lambda *_tensors: None,
        "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG": True,
        "flex_attention_hop": attention,
    }
    with replaced(module, **{name: value for name, value in ours.items() if hasattr(module, name)}):
        yield


@contextmanager
def _offloaded() -> Iterator[None]:
    """`save_on_cpu` keeps what the backward pass needs on the host: a meta tensor's place there is never touched."""

    def init(self: Any, *_how: Any, **_more: Any) -> None:
        def pack(tensor: torch.Tensor) -> tuple[torch.device, torch.Tensor]:
            host = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
            host.copy_(tensor)
            return tensor.device, host

        def unpack(packed: tuple[torch.device, torch.Tensor]) -> torch.Tensor:
            return packed[1].to(packed[0])

        torch.autograd.graph.saved_tensors_hooks.__init__(self, pack, unpack)

    with replaced(torch.autograd.graph.save_on_cpu, __init__=init):
        yield


@contextmanager
def overrides(*, fused: bool, seen: Kernel, former: bool = False) -> Iterator[None]:
    """For the time of the `with` block, meta tensors get fused attention, and autocast where a region is open.

    `seen` is called for each fused kernel. `former` keeps what torch before 1.11 kept (`stepwise`). The operators that
    autocast casts are replaced when the first region opens: most traces have none, and a replacement costs time.
    """
    library = torch.library.Library("aten", "IMPL")
    casts = Casts()
    rounded = softmax(casts, former)
    in_steps = stepwise(rounded, _in_steps)

    def unfused(*args: Any, **options: Any) -> torch.Tensor:
        return (in_steps if casts.dtype or former else _in_steps)(*args, **options)

    table = cast_operators(casts, _fused(seen) if fused else unfused) | {"softmax.int": rounded}
    table |= {"gelu": gelu(casts)} if former else {}
    at_once = {"scaled_dot_product_attention"} if fused or former else set()
    at_once |= {"softmax.int"} if former else set()

    def replace(names: Iterable[str]) -> None:
        for name in names:
            library.impl(name, table.pop(name), "AutogradMeta")

    autocast = regions(entered=lambda: replace(list(table)), left=casts.forget)
    try:
        replace(at_once)
        with whole_encoders(), autocast, _flexible(seen), _offloaded():
            yield
    finally:
        library._destroy()


@contextmanager
def whole_encoders() -> Iterator[None]:
    """Without torch's fast path for encoders in eval: one operator that no counter looks into, and that packs a padded
    batch by the values of its mask.
    """
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
