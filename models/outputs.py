"""What a network gives back, and what is trained on: one rule for all that runs or counts networks.

Inference needs a tensor, wherever it is. Training takes, in this order, the user's own loss (`loss_of`); the loss
that the network works out itself, a single number; or the cross-entropy of its logits: the tensor under a name that
says so (`logits`, `out`), or else the first with classes, (N, C) or, for dense predictions, (N, C, ...). Auxiliary
logits beside them add to the loss.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from visionbench.models.building import own_function, users_object
from visionbench.models.catalog import ModelError
from visionbench.models.inputs import Arguments
from visionbench.models.reasons import said

DEEPEST = 16
"""Levels of containers: an output that holds itself has no end."""

_LOGITS = ("logits", "out")


class Supervised(NamedTuple):
    """Logits, and those of an auxiliary head that learns beside, both (N, C, ...)."""

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


def training_loss(output: object, labels: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """The logits of an output and the loss: the network's own, or else cross-entropy; then with auxiliary heads.

    `labels` gives classes for logits: integers (N, ...) below C. Without logits a loss stands for them, too. Raises
    `UntrainableError` for an output without a loss or classes and for one that does not depend on what is trained.
    """
    own = _own_loss(output)
    if own is not None:
        return own, own
    logits = logits_of(output)
    if not logits.requires_grad:
        raise UntrainableError("its output does not depend on a parameter that is trained")
    loss = nn.functional.cross_entropy(logits, labels(logits))
    for auxiliary in _auxiliary(output, logits):
        loss = loss + AUXILIARY_WEIGHT * nn.functional.cross_entropy(auxiliary, labels(auxiliary))
    return logits, loss


def _own_loss(output: object) -> Tensor | None:
    """What a network returns as its loss: the number under that name, or the first tensor if that is a number.

    Where all that it returns are numbers (a detector's losses), it is their sum.
    """
    named = [(name, tensor) for name, tensor in _tensors(output) if tensor.is_floating_point()]
    numbers = [(name, tensor) for name, tensor in named if tensor.dim() == 0 and tensor.requires_grad]
    for name, number in numbers:
        if name == "loss":
            return number
    if not numbers or named[0][1].dim():
        return None
    return numbers[0][1] if len(numbers) < len(named) else sum_of(number for _, number in numbers)


def sum_of(numbers: Iterable[Tensor]) -> Tensor:
    """The sum of one number or more."""
    first, *others = numbers
    return sum(others, start=first)


def _auxiliary(output: object, logits: Tensor) -> list[Tensor]:
    """Logits that learn beside: what is called so (`aux_logits`), or stands beside the logits with the same classes."""
    named = [(name, t) for name, t in _tensors(output) if t.dim() >= 2 and t.is_floating_point() and t.requires_grad]
    place = next((name for name, tensor in named if tensor is logits), "")
    return [
        tensor
        for name, tensor in {id(tensor): (name, tensor) for name, tensor in named if tensor is not logits}.values()
        if "aux" in name.lower()
        or (name == place and (tensor.dim(), *tensor.shape[:2]) == (logits.dim(), *logits.shape[:2]))
    ]


def labels_shape(logits: Tensor) -> tuple[int, ...]:
    """One class for each place of each image: (N, ...) for logits (N, C, ...)."""
    return (logits.shape[0], *logits.shape[2:])


def trained(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that an optimizer is given. Raises `UntrainableError` if all are frozen, or without any."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise UntrainableError("it has nothing to train: every parameter is frozen")
    return parameters


def tensors(output: object) -> Iterator[Tensor]:
    """All tensors of an output, in order."""
    yield from (tensor for _, tensor in _tensors(output))


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


# --- what a training step minimises where a user says so ---

Labels = Callable[[Tensor], Tensor]
"""Logits (N, C, ...) -> classes (N, ...), integers below C."""

Loss = Callable[[object, Labels, Arguments], tuple[Tensor, Tensor]]
"""(the network's output, labels, its inputs) -> what a training loop keeps of the output, and the loss."""

OFFERED = 2
"""Arguments by position at most: the output, and labels."""


def loss_of(model: str, named: str | None) -> Loss:
    """The loss of a model: the function that is `named`, `loss` beside a user's factory, or the rule for outputs.

    The network has been built. A function gets the output; labels too, if it takes two arguments; and by keyword
    `inputs`, if it takes that: the tensor, the tuple or the mapping that the network was called with. A class, or a
    module like `nn.MSELoss()`, will do, too. Raises `ModelError` for a function that is not there.
    """
    name = named or own_function(model, "loss")
    if not name:
        return lambda output, labels, _inputs: training_loss(output, labels)
    function: Any = users_object(name)
    function = function() if inspect.isclass(function) else function
    parameters = inspect.signature(function.forward if isinstance(function, nn.Module) else function).parameters
    free = [p for p in parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    taken = [p for p in free if p.name != "inputs" or p is free[0]]
    with_labels = len(taken) >= OFFERED and taken[1].default is taken[1].empty
    keywords = "inputs" in parameters and parameters["inputs"] is not free[0]

    def loss(output: object, labels: Labels, inputs: Arguments) -> tuple[Tensor, Tensor]:
        given = [output]
        if with_labels:
            logits = logits_of(output)
            given += [labels(logits)]
        try:
            value = function(*given, **({"inputs": inputs.whole()} if keywords else {}))
        except RuntimeError:  # of shapes, devices and memory: as if the network had raised it
            raise
        except Exception as error:  # it is the user's: it may raise anything
            called = "it is called with the network's output, and with labels if it takes two arguments"
            raise ModelError(f"{name} raised {said(error)}; {called}") from error
        minimised = _number(name, value)
        return next(tensors(output), minimised), minimised

    return loss


def _number(name: str, value: object) -> Tensor:
    numbers = [tensor.reshape(()) for tensor in tensors(value) if tensor.numel() == 1 and tensor.requires_grad]
    if not numbers:
        shapes = [tuple(tensor.shape) for tensor in tensors(value)]
        if shapes and all(shape in ((), (1,)) for shape in shapes):
            raise UntrainableError(f"what {name} returns does not depend on a parameter that is trained")
        raise ModelError(f"{name} returned {type(value).__name__}; a loss returns a number as a tensor, or several")
    return sum_of(numbers)


ASKS = ("_accelerator_graph_capture_health_check", "_cuda_graph_capture_health_check")
"""What an optimizer of torch calls first in a step, in 2.14 and before."""


def adamw(parameters: Sequence[nn.Parameter], **options: Any) -> torch.optim.AdamW:
    """AdamW at torch's defaults. Where no parameter is on a GPU, its steps ask none whether a graph is being captured.

    From 2.14 on torch asks the current stream of the accelerator that is here, also for parameters on the CPU or on the
    meta device. To ask may make a context: half a gigabyte of the card for a process that only counts, which its
    launches would take for another program's, and which a card for one process would refuse to them.
    """
    optimizer = torch.optim.AdamW(parameters, **options)
    if all(parameter.device.type in ("cpu", "meta") for parameter in parameters):
        for name in ASKS:
            setattr(optimizer, name, lambda: None)
    return optimizer
