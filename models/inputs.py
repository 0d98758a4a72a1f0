"""What a network is called with: tensors that were described, a user's own, or the square image that most take.

How a tensor is made (with values, or with a shape alone) is the caller's; which tensors there are, is said here.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from visionbench.models import given
from visionbench.models.building import own_function, users_object
from visionbench.models.catalog import ImageSize, ModelError, sides
from visionbench.models.reasons import said

if TYPE_CHECKING:
    from torch import Tensor


class Described(Protocol):
    """One input, as `visionbench.record.inputs` describes it."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def dtype(self) -> str: ...  # noqa: D102
    @property
    def low(self) -> int: ...  # noqa: D102
    @property
    def high(self) -> int: ...  # noqa: D102
    @property
    def function(self) -> str: ...  # noqa: D102


@dataclass(frozen=True, slots=True, kw_only=True)
class Maker:
    """`draw(shape, dtype, low, high)` makes a tensor; `place` brings one of the user's to where it runs.

    A user's function is called with `born` as torch's default device, and where it cannot work there, with the CPU.
    """

    draw: "Callable[[tuple[int, ...], str, int, int], Tensor]"
    place: "Callable[[Tensor], Tensor]"
    born: str = "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """What a network is called with, by position and by keyword. `remarks` say where that is not its image size."""

    positional: tuple[Any, ...] = ()
    named: dict[str, Any]
    remarks: tuple[str, ...] = ()

    def call(self, model: Callable[..., Any]) -> Any:
        """The network's output."""
        return model(*self.positional, **self.named)

    def whole(self) -> Any:
        """The one input, the tuple of them, or the mapping of those by keyword, as a user would have them."""
        if self.named:
            return self.named if not self.positional else (*self.positional, self.named)
        return self.positional[0] if len(self.positional) == 1 else self.positional

    def tensors(self) -> "list[Tensor]":
        """Every tensor among them, at any depth."""
        import torch
        from torch.utils import _pytree

        leaves = _pytree.tree_leaves((self.positional, self.named))
        return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]


def arguments(
    model: str, described: Sequence[Described], batch_size: int, image_size: ImageSize, maker: Maker
) -> Arguments:
    """The inputs that the caller gave with the network; else as described; else those of the function `inputs` of the
    user's module; else the network's own (`own_shapes`).

    Raises `ModelError` for a user's function that fails or returns something else than a batch of that size.
    """
    held = given.find(model)
    if held is not None and held.inputs is not None:
        return _placed(*given.whole(held.inputs), maker)
    if described and not described[0].function:
        drawn = [(one.name, maker.draw((batch_size, *one.shape), one.dtype, one.low, one.high)) for one in described]
        return Arguments(
            positional=tuple(tensor for name, tensor in drawn if not name), named={n: t for n, t in drawn if n}
        )
    if described:
        return _from_function(described[0].function, batch_size, image_size, maker)
    if own := own_function(model, "inputs"):
        return _from_function(own, batch_size, image_size, maker)
    images = (maker.draw((batch_size, *shape), "float", 0, 0) for shape in own_shapes(model, image_size))
    return Arguments(positional=tuple(images), named={})


def own_shapes(model: str, image_size: ImageSize) -> tuple[tuple[int, ...], ...]:
    """What a network is given of one image without the batch: the image, a clip, two frames."""
    if model.startswith("torchvision:"):
        from visionbench.models import torchvision_models

        return torchvision_models.shapes(model.removeprefix("torchvision:"), image_size)
    return ((3, *sides(image_size)),)


def _from_function(name: str, batch_size: int, image_size: ImageSize, maker: Maker) -> Arguments:
    import torch

    with torch.device("cpu"):
        function = users_object(name)
    asked = _asked(function, {"batch_size": batch_size, "image_size": image_size})
    try:
        with torch.device(maker.born):
            returned = function(**asked)
    except Exception as error:  # it is the user's: it may raise anything
        if maker.born != "cpu":
            return _from_function(name, batch_size, image_size, replace(maker, born="cpu"))
        raise ModelError(f"{name} raised {said(error)}; call it by hand with batch_size={batch_size}") from error
    # What a tokenizer of Hugging Face's returns is a mapping that torch does not look into.
    placed = _placed(*given.whole(returned), maker)
    if not placed.tensors():
        raise ModelError(f"{name} returned {type(returned).__name__} without a tensor; return tensors, or a mapping")
    first = next(iter((*placed.positional, *placed.named.values())))
    with suppress(TypeError):  # a single number has no length
        if isinstance(first, (torch.Tensor, list, tuple)) and len(first) != batch_size:
            raise ModelError(
                f"{name} returned {len(first)} images where {batch_size} were asked for; use its batch_size"
            )
    return replace(placed, remarks=_other_size(name, placed.tensors(), batch_size, image_size))


FEW = 4
"""Shapes that a remark lists."""


def _other_size(name: str, tensors: "list[Tensor]", batch_size: int, image_size: ImageSize) -> tuple[str, ...]:
    """That a user's function returns no images of the size that the row is called by.

    Its tensors are batches, or single images where it returns a list of them.
    """
    if any(tuple(tensor.shape[-2:]) == sides(image_size) for tensor in tensors):
        return ()
    module, _, function = name.removeprefix("user:").rpartition(":")
    whole = [tuple(tensor.shape) for tensor in tensors]
    images = [shape[1:] if shape[:1] == (batch_size,) else shape for shape in whole]
    shapes = [" x ".join(map(str, shape)) or "one number" for shape in images]
    if len(shapes) > FEW:
        shapes = [*shapes[: FEW - 1], "others"]
    listed = " and ".join([", ".join(shapes[:-1]), shapes[-1]] if len(shapes) > 1 else shapes)
    return (f"its inputs are {listed} (from {function} in {module}), and not images of {image_size} px",)


def _placed(positional: tuple[Any, ...], named: dict[str, Any], maker: Maker) -> Arguments:
    """Inputs with their tensors, at any depth, where they are to run."""
    import torch
    from torch.utils import _pytree

    moved = _pytree.tree_map_only(torch.Tensor, maker.place, (positional, named))
    return Arguments(positional=moved[0], named=moved[1])


def _asked(function: Callable[..., Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """What the function takes of what is known."""
    taken = inspect.signature(function).parameters
    anything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values())
    return {name: value for name, value in known.items() if anything or name in taken}
