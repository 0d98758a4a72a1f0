"""Forms in which others count a network: the stride elsewhere in a block, a token more or less, queries that are thrown
away.

Each is asked for by the name of its profile's variant. The parameters are the same, or nearly so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from visionbench.models.randomness import seeded
from visionbench.record.collector import collector_paused
from visionbench.record.profile import FIRST, LAST, MORE, PARTS, QUERIES, TRAINED, TRAINING, Profile
from visionbench.record.spec import ImageSize, Spec
from visionbench.tracing import passes
from visionbench.tracing.operators import Operator
from visionbench.tracing.profile import profiled
from visionbench.tracing.skeleton import skeleton
from visionbench.tracing.step import run, run_with_model

_SHORTCUTS = ("downsample", "shortcut", "skip")

_MOST = 0.9
"""So much of the linear layers' work is done on the same tokens, or a network has no number of tokens."""


def profile_of(model: str, size: ImageSize, form: str) -> Profile:
    """The network in that form. Raises as `step.run`, and ValueError where it has no such form."""
    if form == TRAINING:
        return trained(model, size)
    if form == QUERIES:
        return with_queries(model, size)
    return strided(model, size, form) if form in (FIRST, LAST) else with_tokens(model, size, form)


def trained(model: str, size: ImageSize) -> Profile:
    """The peak of live tensors over a training step of `TRAINED` images, and no counts. Raises as `step.run`."""
    traced = run(Spec(model=model, image_size=size, task="train", batch_size=TRAINED))
    parts = dict.fromkeys(PARTS, 0) | {"peak_memory_live": traced.curve.peak if traced.curve else 0}
    return Profile(model=model, size=size, variant=TRAINING, parts=parts)


def strided(model: str, size: ImageSize, form: str) -> Profile:
    """The network with the stride of every block in the block's first convolution, or in its last.

    He et al. print ResNets with the first, timm has the stride in the 3x3 between. Raises as `profile_of`.
    """
    spec = Spec(model=model, image_size=size)
    network = skeleton(model, size).eval()
    if not sum(_move_stride(block, first=form == FIRST) for block in network.modules()):
        raise ValueError(f"no block of {model} can be {form}")
    with collector_paused(), seeded(passes.SEED):
        recorder, _ = passes._step(network, spec, False)
    return profiled(network, recorder.operators, spec, form)


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
