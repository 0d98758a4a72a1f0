"""The same count by another library: fvcore, on real tensors.

fvcore (Meta, last released 2022) walks a `torch.jit` trace instead of the dispatcher, so it shares no code and no
method with our recorder. Where they differ the operator that explains it is named. It needs real tensors (its
convolution check refuses the meta device), counts norms and pools too, and does not know
`scaled_dot_product_attention` (ViT-B comes out 4 % low), for which we hand it the formula.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

import torch

from visionbench.models.modes import set_mode
from visionbench.record.spec import Spec
from visionbench.tracing.formulas import FORMULAS
from visionbench.tracing.overrides import whole_encoders
from visionbench.tracing.skeleton import inputs_on, weightless
from visionbench.tracing.step import run


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One group of operators that the two count differently: multiply-accumulates of one image, and why."""

    operator: str
    ours: int
    theirs: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """Both totals for one image. They agree if `ours` equals `theirs` less what the MAC rule excludes.

    `trouble` says why fvcore could not count; then there is no second opinion, and nothing disagrees.
    """

    spec: Spec
    ours: int
    theirs: int
    differences: tuple[Difference, ...]
    trouble: str = ""

    @property
    def agrees(self) -> bool:
        """True if fvcore could count, and every difference is an operator that the MAC rule leaves out on purpose."""
        return not self.trouble and all(d.ours == 0 and d.operator in _EXCLUDED for d in self.differences)


# What fvcore counts and the paper's rule does not.
_EXCLUDED = frozenset(
    """
    batch_norm layer_norm group_norm instance_norm adaptive_avg_pool2d upsample_nearest2d upsample_bilinear2d
    grid_sampler
    """.split()  # noqa: SIM905 -- a list of names is read more easily without quotes
)

# fvcore's names -> one name per formula; a linear layer is a matrix product however it is spelt.
_GROUPS = dict.fromkeys(("linear", "addmm", "matmul", "bmm", "baddbmm", "mm", "einsum", "mv", "dot"), "matmul")
_OURS = {"conv": "conv", "grouped_conv": "conv", "depthwise_conv": "conv", "matmul": "matmul", "attention": "attention"}


def second_opinion(spec: Spec) -> Opinion:
    """Count one image of `spec`'s forward pass with the trace and with fvcore.

    The model's weights are really allocated (uninitialised) and one forward really runs on the CPU. Raises as
    `trace.run`.
    """
    single = Spec(model=spec.model, image_size=spec.image_size, inputs=spec.inputs, attention=spec.attention)
    traced = run(single)
    theirs, unknown, trouble = _fvcore(single)
    ours: Counter[str] = Counter()
    for op in traced.operators:
        if op.counted:
            ours[_OURS[op.kind]] += op.macs
    unequal = [] if trouble else [name for name in sorted(ours | theirs) if ours[name] != theirs[name]]
    differences = tuple(_difference(name, ours[name], theirs[name], unknown) for name in unequal)
    return Opinion(
        spec=single, ours=traced.macs_per_image, theirs=theirs.total(), differences=differences, trouble=trouble
    )


def _difference(name: str, ours: int, theirs: int, unknown: tuple[str, ...]) -> Difference:
    if name in _EXCLUDED:
        reason = "fvcore counts it, the MAC rule does not"
    elif ours > theirs and unknown:
        reason = f"fvcore has no handle for {', '.join(unknown)}"
    elif ours:
        reason = "the two take it apart differently"
    else:
        reason = "fvcore counts an operator that the MAC rule does not know"
    return Difference(operator=name, ours=ours, theirs=theirs, reason=reason)


def _fvcore(spec: Spec) -> tuple[Counter[str], tuple[str, ...], str]:
    """MACs by group; the products that fvcore has no handle for; and what it stumbled over, if it did."""
    given = inputs_on(spec, "cpu")
    bare = weightless(spec.model, spec.image_size, spec.channels)
    set_mode(bare, training=False)
    model = _ByPosition(bare, tuple(given.named))
    model.training = False
    tensors = (*given.positional, *given.named.values())
    with torch.no_grad(), _quietly(), whole_encoders(), torch.random.fork_rng(devices=[]):
        from fvcore.nn import FlopCountAnalysis

        analysis = FlopCountAnalysis(model, tensors).set_op_handle("aten::scaled_dot_product_attention", _attention)
        try:
            counted = analysis.by_operator()
        except Exception as error:  # its handles assume shapes, and raise whatever comes of it
            return Counter(), (), f"{type(error).__name__}: {shorten(str(error), 100, placeholder=' ...')}"
        unknown = sorted(name.removeprefix("aten::") for name in analysis.unsupported_ops() if name in FORMULAS)
    total: Counter[str] = Counter()
    for name, macs in counted.items():
        total[_GROUPS.get(name, name)] += int(macs)
    return total, tuple(unknown), ""


class _ByPosition(torch.nn.Module):
    """fvcore hands inputs over by position; the last ones are of these names."""

    def __init__(self, model: torch.nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs: Any) -> Any:
        first = len(inputs) - len(self.names)
        return self.model(*inputs[:first], **dict(zip(self.names, inputs[first:], strict=True)))


def _attention(inputs: list[Any], _outputs: list[Any]) -> Counter[str]:
    """A handle as fvcore wants it: values of the jit graph in, a Counter of what they cost out."""
    from fvcore.nn.jit_handles import get_shape

    query, key, value = (get_shape(i) for i in inputs[:3])
    return Counter({"attention": math.prod(query[:-2]) * query[-2] * key[-2] * (query[-1] + value[-1])})


@contextmanager
def _quietly() -> Iterator[None]:
    """No noise: fvcore warns of every operator it skips, torch of tracing as such; the differences say what matters."""
    loggers = [logging.getLogger(name) for name in ("fvcore.nn.jit_analysis", "fvcore")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
