"""The kind of every operator, its multiply-accumulates and its activations, each formula with its source.

The rule is the paper's (arXiv 2201.03545, "FLOPs" columns; the same as fvcore's and pycls's for these operators): one
multiply-accumulate of a convolution, a linear layer or a matrix product is one, and nothing else counts: no norm, no
activation function, no softmax, no bias, no pooling. FLOPs are 2 x MACs. Both products of attention count, fused in one
kernel or not: a model does not get cheaper because a kernel got better.

*Activations* are the output elements of the same operators (Radosavovic et al. 2020, "Designing Network Design Spaces",
section 3), for attention of both products, so that this number too does not depend on the kernel.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch.utils.flop_counter import flop_registry

# --- kinds: the question behind "where does the time go", which MACs alone do not answer ---

Kind = Literal[
    "matmul", "conv", "grouped_conv", "depthwise_conv", "attention", "norm", "softmax", "elementwise", "reduction",
    "pool", "copy", "other",
]  # fmt: skip

KINDS: tuple[Kind, ...] = get_args(Kind)

# aten operators by what they do; an operator in place (`add_`) is of the kind of its plain form.
_NAMES: dict[Kind, str] = {
    "softmax": """
        _softmax _safe_softmax _log_softmax _softmax_backward_data _log_softmax_backward_data
    """,
    "copy": """
        _to_copy copy clone contiguous cat stack roll flip repeat constant_pad_nd reflection_pad2d replication_pad2d
        pixel_shuffle pixel_unshuffle im2col col2im unfold_backward index index_select index_put _unsafe_index
        _unsafe_index_put index_add gather scatter scatter_add embedding embedding_dense_backward slice_backward
        select_backward slice_scatter select_scatter
    """,
    "reduction": """
        mean sum amax amin max min argmax argmin var var_mean std std_mean cumsum cumprod prod topk sort any all
        logsumexp linalg_vector_norm nll_loss_forward nll_loss_backward
    """,
    "pool": """
        max_pool2d_with_indices max_pool2d_with_indices_backward avg_pool2d avg_pool2d_backward _adaptive_avg_pool2d
        _adaptive_avg_pool2d_backward adaptive_max_pool2d adaptive_max_pool2d_backward upsample_nearest2d
        upsample_bilinear2d upsample_bicubic2d upsample_nearest2d_backward upsample_bilinear2d_backward
        upsample_bicubic2d_backward _upsample_bilinear2d_aa _upsample_bicubic2d_aa grid_sampler_2d
        grid_sampler_2d_backward roi_align _roi_align_backward
    """,
    # element by element, though some torch from 2.6 to 2.15 does not tag them so (2.11 tags `hardtanh` and not
    # `hardtanh_`; none tags most of the derivatives)
    "elementwise": """
        relu relu6 prelu _prelu_kernel _prelu_kernel_backward leaky_relu leaky_relu_backward elu elu_backward celu selu
        gelu gelu_backward silu silu_backward mish mish_backward glu glu_backward hardtanh hardtanh_backward
        hardsigmoid hardsigmoid_backward hardswish hardswish_backward hardshrink hardshrink_backward softshrink
        softshrink_backward softplus softplus_backward sigmoid sigmoid_backward tanh tanh_backward log_sigmoid
        log_sigmoid_forward log_sigmoid_backward logit logit_backward threshold threshold_backward rrelu
        rrelu_with_noise rrelu_with_noise_functional rrelu_with_noise_backward
        add sub rsub mul div neg abs pow sqrt rsqrt reciprocal exp log erf clamp clamp_min clamp_max maximum minimum
        eq ne lt le gt ge mse_loss mse_loss_backward smooth_l1_loss smooth_l1_loss_backward huber_loss
        huber_loss_backward
        fill zero bernoulli native_dropout native_dropout_backward uniform normal random rand randn rand_like randn_like
        zeros ones full zeros_like ones_like full_like new_zeros new_ones new_full arange linspace scalar_tensor lerp
        addcmul addcdiv where masked_fill tril triu eye masked_fill_backward
    """,
}

_BY_NAME: dict[str, Kind] = {name: kind for kind, names in _NAMES.items() for name in names.split()}


def kind_of(func: Any) -> Kind:
    """The kind of an operator that the MAC rule does not count.

    By name where that is listed above; else by torch's own tag `pointwise` (the operator maps element to element).
    An unclassified operator is "other", and a trace lists it, so that nothing is skipped silently.
    """
    name: str = func.overloadpacket.__name__
    listed = _BY_NAME.get(name) or _BY_NAME.get(name.removesuffix("_"))
    if listed:
        return listed
    if func.namespace == "aten" and "norm" in name:
        return "norm"
    if name.startswith("_foreach_") or torch.Tag.pointwise in func.tags or _gradient_of_pointwise(func):
        return "elementwise"
    return "other"


def _gradient_of_pointwise(func: Any) -> bool:
    """Whether it is the gradient of an element-wise operator (`hardtanh_backward`): torch tags some of them only."""
    name: str = func.overloadpacket.__name__
    packet = getattr(torch.ops.aten, name.removesuffix("_").removesuffix("_backward"), None)
    if func.namespace != "aten" or "_backward" not in name or packet is None:
        return False
    return any(torch.Tag.pointwise in getattr(packet, overload).tags for overload in packet.overloads())


# --- costs ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one call costs by the rule: `macs` and `activations`, both for the whole batch."""

    kind: Kind
    macs: int
    activations: int


Formula = Callable[[Sequence[Any], Any], Cost]
"""(arguments of the operator, its output) -> Cost."""


def _mm(args: Sequence[Any], out: torch.Tensor) -> Cost:
    """(m, k) @ (k, n): m k n. A linear layer is (..., k) @ (n, k)^T: k per output element."""
    return Cost(kind="matmul", macs=out.numel() * args[0].shape[-1], activations=out.numel())


def _addmm(args: Sequence[Any], out: torch.Tensor) -> Cost:
    """As `_mm`: c + (m, k) @ (k, n); adding c is the bias and not counted."""
    return _mm(args[1:], out)


def _addbmm(args: Sequence[Any], out: torch.Tensor) -> Cost:
    """As `_bmm` with the batch summed up: c + sum over b of (m, k) @ (k, n): b m k n."""
    batch, _, inner = args[1].shape
    return Cost(kind="matmul", macs=batch * out.numel() * inner, activations=out.numel())


def _trilinear(args: Sequence[Any], out: torch.Tensor) -> Cost:
    """`nn.Bilinear`: x1 (n, i), weight (o, i, j), x2 (n, j), expanded to four dimensions: n o i j, the product of all;
    its gradients are such products, too.

    Counted as the products of weight and x1 alone; the sum over j that follows is the smaller part and not a matrix
    product of torch's.
    """
    sizes: list[tuple[int, ...]] = []
    for operand, places in zip(args[:3], args[3:6], strict=True):
        shape = iter(operand.shape)
        sizes.append(tuple(1 if place in places else next(shape) for place in range(operand.dim() + len(places))))
    whole = math.prod(map(max, *sizes))
    return Cost(kind="matmul", macs=whole, activations=out.numel())


def _grouped(args: Sequence[Any], out: torch.Tensor) -> Cost:
    """Experts' products, one per group: (m, k) rows shared out among (e, k, n), (e, m, k) among columns (k, n), or
    (m, k) @ (k, n) with k shared out: m k n in all; (e, m, k) @ (e, k, n): e m k n. Every row has an expert.
    """
    left, right = args[0], args[1]
    batch = left.shape[0] if left.dim() == right.dim() == 3 else 1
    macs = batch * left.shape[-2] * left.shape[-1] * right.shape[-1]
    return Cost(kind="matmul", macs=macs, activations=out.numel())


def _conv_tbc(args: Sequence[Any], out: torch.Tensor) -> Cost:
    """Over time, channels last: out (T, B, C_out), weight (kernel, C_in, C_out)."""
    return Cost(kind="conv", macs=out.numel() * math.prod(args[1].shape[:2]), activations=out.numel())


def _affine_grid(args: Sequence[Any], out: torch.Tensor) -> Cost:
    """A place in homogeneous coordinates times theta (N, d, d + 1), for each place of the grid."""
    return Cost(kind="matmul", macs=out.numel() * args[0].shape[-1], activations=out.numel())


def _dot(args: Sequence[Any], out: torch.Tensor) -> Cost:
    """(k) . (k): k."""
    return Cost(kind="matmul", macs=args[0].numel(), activations=out.numel())


def convolution_macs(x: Sequence[int], weight: Sequence[int], out: Sequence[int], transposed: bool) -> int:
    """MACs of one convolution: every output element takes (C_in / groups) x kernel multiply-accumulates.

    Shapes: x (N, C_in, ...), weight (C_out, C_in / groups, kernel...), out (N, C_out, ...). A transposed convolution
    is the same sum seen from the input: its weight is (C_in, C_out / groups, kernel...).
    """
    positions = math.prod(x if transposed else out)
    return positions * math.prod(weight[1:])


def _convolution(args: Sequence[Any], out: torch.Tensor) -> Cost:
    x, weight, transposed, groups = args[0], args[1], args[6], args[8]
    macs = convolution_macs(x.shape, weight.shape, out.shape, transposed)
    return Cost(kind=_conv_kind(weight, groups, transposed), macs=macs, activations=out.numel())


def _convolution_backward(args: Sequence[Any], out: Sequence[torch.Tensor | None]) -> Cost:
    """Each gradient asked for (input, weight) is a convolution with as many MACs as the forward one; bias adds none."""
    grad, x, weight, transposed, groups, mask = args[0], args[1], args[2], args[7], args[9], args[10]
    forward = convolution_macs(x.shape, weight.shape, grad.shape, transposed)
    elements = sum(g.numel() for g in out[:2] if g is not None)
    return Cost(kind=_conv_kind(weight, groups, transposed), macs=forward * (mask[0] + mask[1]), activations=elements)


def _conv_kind(weight: torch.Tensor, groups: int, transposed: bool) -> Kind:
    if groups == 1:
        return "conv"
    per_group = weight.shape[0] // groups if transposed else weight.shape[1]
    return "depthwise_conv" if per_group == 1 else "grouped_conv"


def attention_cost(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, backward: bool = False) -> Cost:
    """softmax(Q K^T) V: N_q N_k (d + d_v) MACs per head (Vaswani et al. 2017, section 3.2.1), activations of both
    products. Backward five products: Q K^T again, which was not kept, then dV, dP, dQ, dK (Dao et al. 2022, algorithm
    4).

    Shapes: query (..., N_q, d), key (..., N_k, d), value (..., N_k, d_v).
    """
    heads, n_query, depth = math.prod(query.shape[:-2]), query.shape[-2], query.shape[-1]
    n_key, depth_value = key.shape[-2], value.shape[-1]
    per_score = 3 * depth + 2 * depth_value if backward else depth + depth_value
    outputs = query.numel() + key.numel() + value.numel() if backward else heads * n_query * (n_key + depth_value)
    return Cost(kind="attention", macs=heads * n_query * n_key * per_score, activations=outputs)


def _deformable(args: Sequence[Any], out: torch.Tensor) -> Cost:
    """A deformable convolution multiplies as a plain one does (Dai et al. 2017); its sampling is not counted."""
    x, weight = args[0], args[1]
    macs = convolution_macs(x.shape, weight.shape, out.shape, transposed=False)
    return Cost(kind=_conv_kind(weight, x.shape[1] // weight.shape[1], False), macs=macs, activations=out.numel())


def _deformable_backward(args: Sequence[Any], out: Sequence[torch.Tensor]) -> Cost:
    """One product for the sampled columns (input, offset and mask share it), one for the weight."""
    grad, x, weight = args[0], args[1], args[2]
    macs = 2 * convolution_macs(x.shape, weight.shape, grad.shape, transposed=False)
    elements = out[0].numel() + out[1].numel()
    return Cost(kind=_conv_kind(weight, x.shape[1] // weight.shape[1], False), macs=macs, activations=elements)


def _named(names: str, formula: Formula) -> dict[str, Formula]:
    return dict.fromkeys((f"aten::{name}" for name in names.split()), formula)


FORMULAS: dict[str, Formula] = {
    **_named("mm bmm mv linear", _mm),
    **_named("addmm baddbmm addmv addmm_ baddbmm_ addmv_ _addmm_activation", _addmm),
    **_named("addbmm addbmm_", _addbmm),
    **_named("affine_grid_generator", _affine_grid),
    **_named("conv_tbc", _conv_tbc),
    **_named("_trilinear", _trilinear),
    **_named("dot vdot", _dot),
    **_named("convolution _convolution", _convolution),
    **_named("convolution_backward", _convolution_backward),
}
"""By the name in the operator's schema."""

_OF_SOME_RELEASES: dict[str, Formula] = {
    **_named("_int_mm _scaled_mm _scaled_mm_v2 _weight_int8pack_mm _weight_int4pack_mm", _mm),
    **_named("_grouped_mm _scaled_grouped_mm _scaled_grouped_mm_v2", _grouped),
    "torchvision::deform_conv2d": _deformable,
    "torchvision::_deform_conv2d_backward": _deformable_backward,
}

# What of an aten operator's name says that it multiplies (ATen/native/native_functions.yaml). All that interpolate,
# norm or convert are none of them: `upsample_bilinear2d`, `linalg_vector_norm`, `_convert_weight_to_int4pack`.
_MULTIPLIES = re.compile(
    r"mm(_|$)|matmul|conv(?!ert)|(?<!bi)(?<!tri)linear(?!1d)|rnn|lstm|gru|attention|transformer_encoder|[cp]dist|"
    r"euclidean_dist|_fft_|grid_sampler|linalg_(?!vector_norm|cross|_powsum|check)|cholesky|geqrf|ormqr|"
    r"triangular_solve|spsolve|trilinear$|_addmm_"
)

# Operators of libraries that are known not to multiply.
_HARMLESS = frozenset(
    f"torchvision::{name}" for name in ("nms", "roi_align", "_roi_align_backward", "roi_pool", "_roi_pool_backward")
)


def cost_of(func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> Cost | None:
    """What a call costs by our formula or, for others, by one registered with torch; None without a formula.

    A product of complex numbers is several of real ones, and how many depends on the kernel: it has no formula.
    """
    formula = FORMULAS.get(func._schema.name) or _OF_SOME_RELEASES.get(func._schema.name)
    if formula:
        return None if any(isinstance(a, torch.Tensor) and a.is_complex() for a in args) else formula(args, out)
    registered = flop_registry.get(func.overloadpacket)
    if registered is None:
        return None
    outputs = [o for o in (out if isinstance(out, (list, tuple)) else (out,)) if isinstance(o, torch.Tensor)]
    activations = sum(o.numel() for o in outputs)
    return Cost(kind=kind_of(func), macs=registered(*args, **kwargs, out_val=out) // 2, activations=activations)


def multiplies(func: Any) -> bool:
    """Whether an operator without a count multiplies, or may: a library's own operator may do anything."""
    name: str = func._schema.name
    namespace, _, bare = name.partition("::")
    if namespace == "aten":
        return bool(_MULTIPLIES.search(bare))
    return namespace not in ("prims", "prim", "profiler") and name not in _HARMLESS
