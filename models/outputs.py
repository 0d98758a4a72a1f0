"""What a network gives back, and what is trained on: one rule for all that runs or counts networks.

Inference needs a tensor, wherever it is. Training takes the cross-entropy of the network's logits: the tensor under a
name that says so (`logits`, `out`), or else the first with classes, (N, C) or, for dense predictions, (N, C, ...).
Auxiliary outputs beside it are computed and get no loss, unless the network says with `Supervised` that they do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import fields, is_dataclass
from typing import NamedTuple

from torch import Tensor, nn

DEEPEST = 16
"""Levels of containers: an output that holds itself has no end."""

_LOGITS = ("logits", "out")


class Supervised(NamedTuple):
    """Logits, and those of an auxiliary head that learns beside, both (N, C, ...) of one shape."""

    logits: Tensor
    auxiliary: Tensor


AUXILIARY_WEIGHT = 0.4
"""What an auxiliary head's loss counts (arXiv 1612.01105, section 3.3, and the segmentation toolboxes since)."""


class UntrainableError(ValueError):
    """There is nothing to train, or nothing to train it on; inference is another matter."""


def first_tensor(output: object) -> Tensor:
    """The first tensor of a network's output, at any depth. Raises TypeError without one."""
    tensor = next((tensor for _, tensor in _tensors(output)), None)
    if tensor is None:
        raise TypeError(f"the model returned {type(output).__name__}, and no tensor in it")
    return tensor


def logits_of(output: object) -> Tensor:
    """The tensor that is trained on, (N, C) or (N, C, ...) of floats. Raises `UntrainableError` without one."""
    classes = [(name, t) for name, t in _tensors(output) if t.dim() >= 2 and t.is_floating_point()]
    named = [tensor for name, tensor in classes if name in _LOGITS]
    for tensor in named or [tensor for _, tensor in classes]:
        return tensor
    raise UntrainableError("it returns no tensor of classes (N, C, ...) to train on")


def cross_entropy(output: object, labels: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """The logits of an output and their loss against what `labels` gives for them: integers (N, ...) below C.

    Raises `UntrainableError` for an output without classes and for one that does not depend on what is trained.
    """
    logits = logits_of(output)
    if not logits.requires_grad:
        raise UntrainableError("its output does not depend on a parameter that is trained")
    loss = nn.functional.cross_entropy(logits, labels(logits))
    if isinstance(output, Supervised):
        beside = nn.functional.cross_entropy(output.auxiliary, labels(output.auxiliary))
        loss = loss + AUXILIARY_WEIGHT * beside
    return logits, loss


def labels_shape(logits: Tensor) -> tuple[int, ...]:
    """One class for each place of each image: (N, ...) for logits (N, C, ...)."""
    return (logits.shape[0], *logits.shape[2:])


def trained(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that an optimizer is given. Raises `UntrainableError` if all are frozen, or without any."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise UntrainableError("it has nothing to train: every parameter is frozen")
    return parameters


def _tensors(output: object, name: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """All tensors of an output in order, each with the name of the innermost field or key that holds it."""
    if isinstance(output, Tensor):
        yield name, output
        return
    if depth < DEEPEST:
        for key, part in _parts(output):
            yield from _tensors(part, key or name, depth + 1)


def _parts(output: object) -> Iterator[tuple[str, object]]:
    if isinstance(output, Mapping):
        yield from ((str(key), part) for key, part in output.items())
    elif is_dataclass(output) and not isinstance(output, type):
        yield from ((field.name, getattr(output, field.name, None)) for field in fields(output))
    elif isinstance(output, tuple) and hasattr(output, "_fields"):
        yield from zip(output._fields, output, strict=True)
    elif isinstance(output, (Sequence, Set)) and not isinstance(output, (str, bytes)):
        yield from (("", part) for part in output)
    elif not isinstance(output, (type, nn.Module)):
        yield from getattr(output, "__dict__", {}).items()
