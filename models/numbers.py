"""Whether a network computes in the numbers that its record names."""

from __future__ import annotations

from collections import Counter

import torch
from torch import nn


def foreign_numbers(model: nn.Module, precision: str) -> str | None:
    """The type of most of a network's parameters where it is not the one that `precision` begins with, else None.

    fp32, tf32 and autocast begin with fp32 parameters; fp16 and bf16 convert whatever there is. A few parameters of
    another type, or a network that is quantised, are the network's own affair; float64 anywhere is not.
    """
    if precision in ("fp16", "bf16"):
        return None
    elements: Counter[torch.dtype] = Counter()
    for parameter in model.parameters():
        if parameter.is_floating_point() and not nn.parameter.is_lazy(parameter):
            elements[parameter.dtype] += parameter.numel()
    most = max(elements, key=lambda dtype: elements[dtype]) if elements else torch.float32
    wrong = torch.float64 if torch.float64 in elements else most
    return None if wrong == torch.float32 else str(wrong).removeprefix("torch.")


def mismatch(numbers: str, precision: str) -> str:
    """What to say of parameters of another type, and what to do: run them as they are, or build them in float32."""
    own = {"float16": "fp16", "bfloat16": "bf16"}.get(numbers)
    remedy = f"say --precision {own}, or build it in float32" if own else "build it in float32"
    return f"has {numbers} parameters, and {precision} begins with float32: {remedy}"
