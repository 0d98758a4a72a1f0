"""What a training step minimises (a named function, `loss` beside the factory, or the rule for outputs), and AdamW."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from visionbench.models.building import own_function, users_object
from visionbench.models.catalog import ModelError
from visionbench.models.inputs import Arguments
from visionbench.models.outputs import UntrainableError, logits_of, sum_of, tensors, training_loss
from visionbench.models.reasons import said

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
