"""Train mode and eval mode of foreign networks, set without calling blindly what a network has under the name `train`.

`nn.Module.train` is a name that people give to other things: a loop over epochs, a flag, a method without an argument.
What torch's contract allows (`train(mode)`, which calls `super().train`) is called, because it may keep a norm fixed.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType
from typing import Any

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
