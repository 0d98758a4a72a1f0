"""A network's exact count in parts, so that it can be counted as others count: `visionbench.record.profile`.

Which operators another counter sees depends on what they are (fvcore counts norms), on the module that
calls them (a hook sees `nn.Conv2d` and not a function), and on whether a product is of two activations (many leave
attention's out). So every operator of a trace is put into one of the parts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from visionbench.models.randomness import seeded
from visionbench.record.collector import collector_paused
from visionbench.record.profile import FIRST, FUSED, LAST, MORE, PARTS, QUERIES, TRAINED, TRAINING, Profile
from visionbench.record.spec import ImageSize, Spec
from visionbench.tracing import passes
from visionbench.tracing.call_cache import Operator
from visionbench.tracing.skeleton import skeleton, weightless
from visionbench.tracing.step import run, run_with_model

_FUSABLE = ("fuse", "reparameterize", "switch_to_deploy")
"""Methods by which a module of timm merges the branches that it is trained with."""

_WEIGHTED = frozenset(("mm", "addmm", "mv", "addmv", "linear"))
"""Products with a weight; other products are of two activations."""

_HOOKED = frozenset(("Conv1d", "Conv2d", "Linear"))

_ACTIVATIONS = ("gelu", "silu", "hardswish", "sigmoid", "hardsigmoid", "tanh", "elu", "mish", "softplus")
_OUTPUTS = {
    **dict.fromkeys(("relu", "hardtanh", "leaky_relu", "_prelu_kernel"), "elements_relu"),
    **dict.fromkeys(_ACTIVATIONS, "elements_activation"),
    **dict.fromkeys(("add", "sub"), "elements_add"),
    **dict.fromkeys(("mul", "div"), "elements_multiply"),
    **dict.fromkeys(("_softmax", "_safe_softmax"), "elements_softmax"),
    **dict.fromkeys(("upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d"), "elements_upsample"),
}
_INPUTS = {
    **{f"native_{norm}": f"elements_{norm}" for norm in ("batch_norm", "layer_norm", "group_norm")},
    **dict.fromkeys(("avg_pool2d", "max_pool2d_with_indices"), "elements_pool"),
    **dict.fromkeys(("mean", "_adaptive_avg_pool2d", "adaptive_max_pool2d"), "elements_global_pool"),
}


def profiles(model: str, size: ImageSize) -> Iterator[Profile]:
    """The network as it is built, and as it is with its branches merged, where it has any.

    Raises as `step.run`, before the first is yielded.
    """
    from timm.utils.model import reparameterize_model

    spec = Spec(model=model, image_size=size)
    traced, network = run_with_model(spec)
    yield profiled(network, traced.operators, spec, "")
    if any(hasattr(module, method) for module in network.modules() for method in _FUSABLE):
        try:
            fused = reparameterize_model(weightless(model, size).eval()).to("meta").eval()
        except (RuntimeError, AttributeError, ValueError, TypeError):  # weights that nobody has set merge or do not
            return
        yield _stepped(fused, spec, FUSED)


def _stepped(network: nn.Module, spec: Spec, variant: str) -> Profile:
    """The profile of a network that differs from the one that its name means."""
    with collector_paused(), seeded(passes.SEED):
        recorder, _ = passes._step(network, spec, False)
    return profiled(network, recorder.operators, spec, variant)


def profiled(network: nn.Module, operators: Sequence[Operator], spec: Spec, variant: str) -> Profile:
    """The profile of a network from the operators of its trace."""
    heads = _heads(network)
    classes = {name: type(module).__name__ for name, module in network.named_modules()}
    parts = Counter(_parameters(network, heads))
    # Modules that look attention's bias up by a product with a table of ones and zeros, as MaxViT's.
    looking_up = {
        name
        for name, module in network.named_modules()
        if any(hasattr(child, "height_lookup") for child in module.children())
    }
    for operator in operators:
        parts.update(_parts(operator, classes.get(operator.module, "")))
        if operator.macs and _is_position(operator, looking_up):
            parts["macs_position"] += operator.macs
        if any(operator.module == head or operator.module.startswith(f"{head}.") for head in heads):
            parts["macs_classifier"] += operator.macs
    family = type(network).__module__
    ordered = {name: parts[name] for name in PARTS}
    return Profile(model=spec.model, size=spec.image_size, variant=variant, family=family, parts=ordered)


def _heads(network: nn.Module) -> list[str]:
    """The paths of the classifiers: timm's models say which they are."""
    try:
        classifier: Any = network.get_classifier()  # type: ignore[operator]
    except (AttributeError, NotImplementedError, TypeError):
        return []
    heads = classifier if isinstance(classifier, (tuple, list)) else (classifier,)
    return [name for name, module in network.named_modules() if any(module is head for head in heads)]


_POSITION_NETWORKS = frozenset(("cpb_mlp", "meta_mlp", "rel_pos"))
"""Modules that make attention's bias from positions: their output depends on no image."""


def _is_position(operator: Operator, looking_up: set[str]) -> bool:
    """Whether an operator multiplies to make attention's bias from positions, whatever the image is."""
    if _POSITION_NETWORKS.intersection(operator.module.split(".")):
        return True
    return operator.module in looking_up and operator.name in ("bmm", "baddbmm")


_POSITIONS = ("pos_embed", "pos_embedding", "rel_pos", "relative_position_bias_table", "attention_biases", "patch_pos")


def _parameters(network: nn.Module, heads: list[str]) -> dict[str, int]:
    named = list(network.named_parameters())
    modules = dict(network.named_modules())

    def total(paths: list[str]) -> int:
        return sum(parameter.numel() for path in paths for parameter in modules[path].parameters())

    norms = [module for module in modules.values() if "norm" in type(module).__name__.lower()]
    return {
        "params": sum(parameter.numel() for _, parameter in named),
        "params_classifier": total(heads),
        "params_distillation": total([path for path in modules if path.rpartition(".")[2] == "head_dist"]),
        "params_norm": sum(p.numel() for module in norms for p in module.parameters(recurse=False)),
        "params_position": sum(p.numel() for name, p in named if name.rpartition(".")[2].startswith(_POSITIONS)),
        "buffers": sum(buffer.numel() for buffer in network.buffers() if buffer.is_floating_point()),
    }


def _parts(operator: Operator, caller: str) -> dict[str, int]:
    """What one operator adds to which parts; `caller` is the class of the module that called it."""
    sizes = [math.prod(shape) for shape, _, _ in operator.operands]
    name = operator.name.removesuffix("_")
    parts: dict[str, int] = {"macs": operator.macs, "activations": operator.activations}
    if operator.macs:
        parts.update(_products(operator, name, caller, sizes))
        if operator.kind == "attention":
            (query, *_), (key, *_) = operator.operands[:2]
            parts["elements_softmax"] = math.prod(query[:-1]) * key[-2]
    elif sizes and name in _OUTPUTS:
        parts[_OUTPUTS[name]] = sizes[-1] * (4 if name == "upsample_bilinear2d" else 1)
    elif sizes and name in _INPUTS:
        parts[_INPUTS[name]] = sizes[0]
    return parts


def _products(operator: Operator, name: str, caller: str, sizes: list[int]) -> dict[str, int]:
    if operator.kind.endswith("conv"):
        bias = sizes[-1] if len(sizes) >= 4 else 0  # image, weight, bias, output
        kind = "macs_conv"
    elif name in _WEIGHTED:
        bias = sizes[-1] if name == "addmm" else 0
        kind = "macs_linear"
    else:
        return {"macs_products": operator.macs}
    hooked = operator.macs if caller in _HOOKED else 0
    counted = {kind: operator.macs, f"{kind}_hooked": hooked, "elements_bias": bias}
    if operator.kind == "depthwise_conv":
        counted |= {"macs_depthwise": operator.macs, "elements_bias_depthwise": bias}
    return counted


def failed(model: str, size: ImageSize, error: BaseException) -> Profile:
    """A network that cannot be counted, with the cause."""
    reason = str(error).strip().split("\n")[0] or type(error).__name__
    return Profile(model=model, size=size, error=reason[:300], parts={})


# --- other forms: the stride elsewhere in a block, a token more or less, queries that are thrown away ---

_SHORTCUTS = ("downsample", "shortcut", "skip")

_MOST = 0.9
"""So much of the linear layers' work is done on the same tokens, or a network has no number of tokens."""


def profile_of(model: str, size: ImageSize, form: str) -> Profile:
    """The network in that form. Raises as `step.run`, and ValueError where it has no such form.

    The parameters are the same, or nearly so. Of `TRAINING` it has the peak of live tensors over a step of `TRAINED`
    images, and no counts.
    """
    if form == TRAINING:
        traced = run(Spec(model=model, image_size=size, task="train", batch_size=TRAINED))
        parts = dict.fromkeys(PARTS, 0) | {"peak_memory_live": traced.curve.peak if traced.curve else 0}
        return Profile(model=model, size=size, variant=TRAINING, parts=parts)
    if form == QUERIES:
        return with_queries(model, size)
    return strided(model, size, form) if form in (FIRST, LAST) else with_tokens(model, size, form)


def strided(model: str, size: ImageSize, form: str) -> Profile:
    """The network with the stride of every block in the block's first convolution, or in its last.

    He et al. print ResNets with the first, timm has the stride in the 3x3 between. Raises as `profile_of`.
    """
    spec = Spec(model=model, image_size=size)
    network = skeleton(model, size).eval()
    if not sum(_move_stride(block, first=form == FIRST) for block in network.modules()):
        raise ValueError(f"no block of {model} can be {form}")
    return _stepped(network, spec, form)


def _move_stride(block: nn.Module, *, first: bool) -> bool:
    """Whether the stride of a block's one strided convolution was moved into the 1x1 at its begin, or at its end."""
    children = [child for name, child in block.named_children() if not name.startswith(_SHORTCUTS)]
    convs = [conv for conv in (getattr(child, "conv", child) for child in children) if isinstance(conv, nn.Conv2d)]
    moving = [conv for conv in convs if max(conv.stride) > 1]
    is_stack = any(isinstance(child, (nn.Sequential, nn.ModuleList)) for child in children)  # a network, or a stage
    if is_stack or len(convs) < 2 or len(moving) != 1:
        return False
    source, target = moving[0], convs[0 if first else -1]
    is_depthwise = source.groups == source.in_channels > 1
    if target is source or target.kernel_size != (1, 1) or (is_depthwise and not first):
        return False
    target.stride, source.stride = source.stride, (1, 1)
    return True


def with_tokens(model: str, size: ImageSize, form: str) -> Profile:
    """The network's counts as if every layer had a token more, or less: a class token that is counted in all, or in
    none. Raises as `profile_of`.
    """
    spec = Spec(model=model, image_size=size)
    traced, network = run_with_model(spec)
    tokens = _tokens(traced.operators)
    if not tokens:
        raise ValueError(f"{model} has not the same tokens in most of its layers")
    growth = 1 + (1 if form == MORE else -1) / tokens
    grown = [replace(op, macs=round(op.macs * growth ** _power(op, tokens))) for op in traced.operators]
    return profiled(network, grown, spec, form)


def with_queries(model: str, size: ImageSize) -> Profile:
    """The network's counts as if class attention made a query of every token, as XCiT's own code does: one product
    makes queries, keys and values, and all queries but the class token's are thrown away. Raises as `profile_of`.
    """
    spec = Spec(model=model, image_size=size)
    traced, network = run_with_model(spec)
    rows = {op.module: op.operands[-3][0][0] for op in traced.operators if op.name in ("mm", "addmm")}
    keys = {module: rows.get(f"{module.removesuffix('.q')}.k", 0) for module in rows if module.endswith(".q")}
    fewer = {module: keys[module] // rows[module] for module in keys if keys[module] > rows[module]}
    if not fewer:
        raise ValueError(f"{model} has no class attention, with fewer queries than keys")
    grown = [replace(op, macs=op.macs * fewer.get(op.module, 1)) for op in traced.operators]
    return profiled(network, grown, spec, QUERIES)


def _tokens(operators: Sequence[Operator]) -> int:
    """How many tokens most linear layers work on; 0 where no number is that of most."""
    work: Counter[int] = Counter()
    for op in operators:
        if op.name in ("mm", "addmm"):
            work[op.operands[-3][0][0]] += op.macs
    ((tokens, most),) = work.most_common(1) or ((0, 0),)
    return tokens if tokens > 1 and most >= _MOST * work.total() else 0


def _power(op: Operator, tokens: int) -> int:
    """To which power of the number of tokens an operator's work grows."""
    shapes = [shape for shape, _, _ in op.operands]
    if not op.macs:
        return 0
    if op.name in ("mm", "addmm"):
        rows = shapes[-3][0]
        return 2 if rows == tokens**2 else int(rows == tokens)
    if op.kind == "attention":
        return (shapes[0][-2] == tokens) + (shapes[1][-2] == tokens)
    if op.name in ("bmm", "baddbmm"):
        left, right = shapes[-3], shapes[-2]
        return (left[-2] == tokens) + (left[-1] == tokens) + (right[-1] == tokens)
    return 0
