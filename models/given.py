"""Networks that are objects of the caller's, known by a name for as long as something is done with them.

`build` and `arguments` ask here first, so a trace and a measurement need no second way for them.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from visionbench.models.catalog import ModelError
from visionbench.models.reasons import said

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A network's factory, and what the network is called with: a tensor, a tuple, a mapping; None for what is usual.

    `name` is how records call it, `user:module:function`.
    """

    name: str
    factory: Callable[..., Any]
    inputs: object = None


_GIVEN: ContextVar[tuple[Given, ...]] = ContextVar("given", default=())


@contextmanager
def known(*networks: Given) -> Iterator[None]:
    """Know these networks meanwhile."""
    before = _GIVEN.set((*_GIVEN.get(), *networks))
    try:
        yield
    finally:
        _GIVEN.reset(before)


def find(name: str) -> Given | None:
    """The network of that name, if the caller gave it."""
    return next((network for network in _GIVEN.get() if network.name == name), None)


def copies(network: "nn.Module", name: str) -> "Callable[[], nn.Module]":
    """A factory of copies of a network, which stays as it is."""

    def copied() -> "nn.Module":
        try:
            return copy.deepcopy(network)
        except Exception as error:  # a network may hold anything: a file, a lock, a graph
            raise ModelError(f"{name} cannot be copied ({said(error)}); give a function that returns it") from error

    return copied


def whole(inputs: object) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What a network is called with, by position and by keyword."""
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    return (tuple(inputs), {}) if isinstance(inputs, (tuple, list)) else ((inputs,), {})
