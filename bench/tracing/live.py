"""Memory of live tensors over one training step, without a device: who holds how much, when, and where the peak is.

The tracker follows *storages* (a view holds no memory itself): each is born with the operator that first
returns it and dies when Python and autograd have released it, which on the meta device happens at the very same
operators as on a GPU. Sizes are rounded up to the 512 bytes of torch's CUDA caching allocator
(c10/cuda/CUDACachingAllocator.h, kMinBlockSize). Not seen: workspaces of cuDNN and cuBLAS, fragmentation, the CUDA
context. So the peak is a lower bound of `max_memory_allocated`.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

Category = Literal["parameters", "gradients", "optimizer", "activations", "temporaries"]
CATEGORIES: tuple[Category, ...] = ("parameters", "gradients", "optimizer", "activations", "temporaries")

BLOCK = 512
"""Bytes: what the CUDA caching allocator rounds every allocation up to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Live bytes after every allocation and release of a step.

    `totals[i]` is the sum after event i; `phases` are (first event, phase) in order; `peak` is the largest total
    and `split` its parts by category, which add up to it. *parameters* includes buffers, *activations* everything
    that the forward pass leaves for the backward pass (the input batch included), *temporaries* what is neither
    kept nor a gradient. `peak_kept_gradients` is the peak where gradients are kept from step to step
    (`LiveTensors.peak_kept_gradients`).
    """

    totals: tuple[int, ...]
    phases: tuple[tuple[int, str], ...]
    peak: int
    peak_event: int
    split: Mapping[str, int]
    peak_kept_gradients: int

    @property
    def peak_phase(self) -> str:
        """The phase in which the peak falls."""
        return [phase for first, phase in self.phases if first <= self.peak_event][-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What happened in a step, for those who ask what would happen otherwise (`replicas`).

    `events` are (storage's number, signed bytes); `arrivals[p]` is the number of events before the gradient of
    parameter p was there, in the order in which they arrived, and `gradients[p]` the storage that holds it in the end;
    `stolen` are storages that were worked out elsewhere and became a `.grad` as they were, with that event.
    """

    events: tuple[tuple[int, int], ...]
    categories: dict[int, Category]
    phases: tuple[tuple[int, str], ...]
    arrivals: dict[int, int]
    gradients: dict[int, int]
    stolen: dict[int, int]
    parameters: frozenset[int]


def in_blocks(nbytes: int) -> int:
    """Bytes as the allocator takes them."""
    return -(-nbytes // BLOCK) * BLOCK


class LiveTensors:
    """Follows storages from `add` to their end. Events are (storage's number, signed bytes), in order."""

    def __init__(self) -> None:
        self._events: list[tuple[int, int]] = []
        self._alive: dict[int, int] = {}
        self._category: dict[int, Category] = {}
        self._phases: list[tuple[int, str]] = []
        # Of a storage that is to hold a gradient: the number of events before, and the gradient's own bytes.
        self._arrivals: dict[int, tuple[int, int]] = {}
        self._weightless: set[int] = set()
        self._order: dict[int, int] = {}
        self._next = 0

    def add(self, out: Any, category: Category | None = None) -> None:
        """Start to follow the storages of all tensors in `out` (a tensor, or nested lists of them)."""
        if isinstance(out, torch.Tensor):
            if out.is_meta:  # what a network makes or keeps on the host takes none of a device's memory
                self._follow(out.untyped_storage(), category)
        elif isinstance(out, (list, tuple)):
            for item in out:
                self.add(item, category)

    def _follow(self, storage: torch.UntypedStorage, category: Category | None) -> None:
        address = storage._cdata
        if address not in self._alive:
            number, size = self._next, in_blocks(storage.nbytes())
            self._next += 1
            self._alive[address] = number
            self._events.append((number, size))
            weakref.finalize(storage, self._release, address, number, size)
        if category:
            self._category[self._alive[address]] = category

    def _release(self, address: int, number: int, size: int) -> None:
        self._events.append((number, 0 if number in self._weightless else -size))
        del self._alive[address]

    def phase(self, name: str) -> None:
        """Everything from here on belongs to this phase."""
        self._phases.append((len(self._events), name))

    def mark(self, tensors: Iterable[torch.Tensor | None], category: Category) -> None:
        """Name the category of those storages that are followed."""
        for tensor in tensors:
            number = None if tensor is None else self._alive.get(tensor.untyped_storage()._cdata)
            if number is not None:
                self._category[number] = category

    def arrive(self, parameter: int, gradient: torch.Tensor) -> None:
        """The gradient of a parameter (its number) is worked out, and about to become its `.grad` or be added to it."""
        self._order.setdefault(parameter, len(self._events))
        number = self._alive.get(gradient.untyped_storage()._cdata)
        if number is not None:
            self._arrivals[number] = (len(self._events), in_blocks(gradient.nbytes))

    def never(self, tensors: Iterable[torch.Tensor]) -> None:
        """These were followed, and would not have been there: their storages weigh nothing."""
        self._weightless |= {self._alive[tensor.untyped_storage()._cdata] for tensor in tensors}
        self._events = [(number, 0 if number in self._weightless else size) for number, size in self._events]

    def keep(self) -> None:
        """The forward pass is over: what is alive and nothing else yet, the backward pass needs: activations."""
        for number in self._alive.values():
            self._category.setdefault(number, "activations")

    def history(self, parameters: Sequence[torch.Tensor]) -> History:
        """What has happened so far; `parameters` in the order of their numbers, with their gradients."""
        number = {index: self._number(p.grad) for index, p in enumerate(parameters) if p.grad is not None}
        return History(
            events=tuple(self._events),
            categories=dict(self._category),
            phases=tuple(self._phases),
            arrivals=dict(self._order),
            gradients=number,
            stolen={storage: event for storage, (event, _) in self._arrivals.items()},
            parameters=frozenset(map(self._number, parameters)),
        )

    def _number(self, tensor: torch.Tensor) -> int:
        return self._alive[tensor.untyped_storage()._cdata]

    def curve(self) -> Curve:
        """The curve so far."""
        totals: list[int] = []
        total = peak = peak_event = 0
        for index, (_, size) in enumerate(self._events):
            total += size
            totals.append(total)
            if total > peak:
                peak, peak_event = total, index
        split: dict[str, int] = dict.fromkeys(CATEGORIES, 0)
        for number, size in self._events[: peak_event + 1]:
            split[self._category.get(number, "temporaries")] += size
        return Curve(
            totals=tuple(totals),
            phases=tuple(self._phases),
            peak=peak,
            peak_event=peak_event,
            split=split,
            peak_kept_gradients=self.peak_kept_gradients(),
        )

    def peak_kept_gradients(self) -> int:
        """The peak of the same step where gradients are zeroed and kept, `zero_grad(set_to_none=False)`.

        That was torch's default before 2.0. Then every gradient lives from the beginning, and what a layer's backward
        pass works out is added to it and freed at once. Here it became `.grad` itself (it lives until it arrives) or
        was copied there (the copy would not have been made). All else happens at the same events.
        """
        kept = {number for number, category in self._category.items() if category == "gradients"}
        born = {number: size for number, size in self._events if number in kept and size > 0}
        arrivals = {number: self._arrivals[number] for number in born if number in self._arrivals}
        leaving: dict[int, int] = {}
        for number, (event, _) in arrivals.items():
            leaving[event] = leaving.get(event, 0) + born[number]
        # One that was stolen may be a slice of a larger storage: kept, it is as large as itself.
        total = peak = sum(arrivals[n][1] if n in arrivals else size for n, size in born.items())
        for index, (number, change) in enumerate(self._events):
            total -= leaving.get(index, 0)
            if number not in kept or (change > 0 and number in arrivals):
                total += change
            peak = max(peak, total)
        return peak
