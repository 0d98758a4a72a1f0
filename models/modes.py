"""What foreign networks may do otherwise: their modes, and the numbers that they compute in.

`nn.Module.train` is a name that people give to other things: a loop over epochs, a flag, a method without an argument.
So it is never called blindly. What torch's contract allows (`train(mode)`, which calls `super().train`) is called,
because it may keep a norm fixed.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType
from typing import Any

import torch
from torch import nn

FIXED = "it runs in the mode that it has, as it was exported"
"""What is said of a network that cannot switch modes."""

_OF_TORCH = nn.Module.train


def set_mode(model: nn.Module, training: bool) -> tuple[str, ...]:
    """Put `model` and all in it into train mode or eval mode; returns what a reader should know of it, or ().

    An override of `train` is called if it takes the mode and hands it on to torch's; otherwise the flags are set and
    the override is left alone. A network that refuses to switch (an exported program) stays in the mode it has.
    """
    remarks: list[str] = []
    with _guarded(remarks):
        _switch(model, training, remarks)
    return tuple(dict.fromkeys(remarks))


def _switch(module: nn.Module, training: bool, remarks: list[str]) -> None:
    own = vars(module).get("train", getattr(type(module), "train", None))
    if own in (_OF_TORCH, nn.Module.train):
        _plain(module, training, remarks)
        return
    if isinstance(own, bool) or not _takes_a_mode(getattr(module, "train", None)):
        remarks.append(f"the modes of {type(module).__name__} are set past what it calls `train`")
        _plain(module, training, remarks)
        return
    try:
        module.train(training)
    except NotImplementedError:  # torch.export's programs have the mode in their graph
        remarks.append(FIXED)
    except Exception as error:
        remarks.append(
            f"the train() of {type(module).__name__} raised {type(error).__name__}: its modes are set past it"
        )
        _plain(module, training, remarks)


def _plain(module: nn.Module, training: bool, remarks: list[str]) -> None:
    module.training = training
    for child in module.children():
        _switch(child, training, remarks)


@contextmanager
def _guarded(remarks: list[str]) -> Iterator[None]:
    """For the time of the `with` block `super().train(mode)` looks at each child's `train` before it calls it."""

    def train(self: nn.Module, mode: bool = True) -> nn.Module:
        _plain(self, mode, remarks)
        return self

    nn.Module.train = train  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        nn.Module.train = _OF_TORCH  # type: ignore[method-assign]


def _takes_a_mode(train: Any) -> bool:
    """Whether a method called `train` may be called with a mode: by its signature, and by what it calls."""
    try:
        parameters = list(inspect.signature(train).parameters.values())
        inspect.signature(train).bind(True)
    except (TypeError, ValueError):
        return False
    first = parameters[0]
    named = first.kind is first.VAR_POSITIONAL or "mode" in first.name or "train" in first.name
    code = getattr(train, "__code__", None)
    return named and (
        not isinstance(code, CodeType) or "train" in code.co_names or "NotImplementedError" in code.co_names
    )


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
