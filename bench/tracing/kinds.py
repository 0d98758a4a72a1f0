"""What kind of work an operator is: the question behind "where does the time go", which MACs alone do not answer."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch

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
