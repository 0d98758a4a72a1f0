"""What one rank of several holds in a training step: DDP's buckets of gradients, and FSDP2's shards. No hardware.

*DDP* keeps whole replicas. Beside them it allocates buckets, once for all steps: gradients are copied into them in the
order in which they arrive, a bucket is closed as soon as it holds its limit (1 MiB the first, 25 MiB the others, per
type of number) and sent (torch/csrc/distributed/c10d/reducer.cpp, `compute_bucket_assignment_by_size`, after the first
step, when the order is known). With `gradient_as_bucket_view` gradients live in the buckets alone.

*FSDP2* (`fully_shard` on every block and on the network, with its defaults) keeps of each parameter, its gradient and
its two moments the rows that are the rank's, ceil(rows / ranks) of them. A block's parameters are gathered while it is
at work, and in the backward pass those of the next one, too; its whole gradients live until its last one is there, and
are then packed and reduced to shards. The network's own parameters stay gathered from its forward pass to its backward
pass. In the forward pass the gathered block is not counted, because no event says which is at work. So the peak is a
lower bound, as it is of one process, and NCCL's own buffers are in neither.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from math import prod

from torch import nn

from visionbench.models.outputs import trained
from visionbench.record.errors import BenchError
from visionbench.record.spec import Spec
from visionbench.tracing.live import Curve, History, LiveTensors, in_blocks

FIRST_BUCKET, BUCKET = 2**20, 25 * 2**20
"""Bytes at which a bucket is closed: torch's `_DEFAULT_FIRST_BUCKET_BYTES`, and its default `bucket_cap_mb`."""

BLOCK_LISTS = ("blocks", "layers")
"""What networks call the list of their blocks, where an element of an outer list (a stage) has one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One rank's part: the live bytes of its step; the sizes of DDP's buckets in the order in which they are sent; and
    what it keeps from step to step, by category.
    """

    curve: Curve
    buckets: tuple[int, ...]
    kept: dict[str, int]


def share(live: LiveTensors, model: nn.Module, spec: Spec) -> Share:
    """The share of rank 0, which has the largest. Raises `BenchError` for a network that DDP or FSDP2 refuses."""
    parameters = trained(model)
    history = live.history(parameters)
    if without := len(parameters) - len(history.arrivals):
        raise BenchError(
            f"{spec.model} leaves {without} parameters without a gradient, and the ranks would wait for them: let them "
            "take part in the loss, or freeze them by requires_grad_(False)."
        )
    if spec.parallel == "fsdp2":
        return _sharded(history, model, parameters, spec.processes or 1)
    sizes = buckets([(parameters[number].nbytes, parameters[number].dtype) for number in history.arrivals])
    views = spec.parallel == "ddp_views"
    kept = {
        "parameters": _bytes(list(model.parameters())),
        "gradients": 0 if views else _bytes(parameters),
        "optimizer": 2 * _bytes(parameters),
        "buckets": sum(map(in_blocks, sizes)),
    }
    changes = _in_buckets(history) if views else _Changes()
    return Share(curve=_curve(history, {"buckets": kept["buckets"]}, changes), buckets=sizes, kept=kept)


def _bytes(parameters: Sequence[nn.Parameter]) -> int:
    return sum(in_blocks(parameter.nbytes) for parameter in parameters)


@dataclass(slots=True, kw_only=True)
class _Changes:
    """How a step of one rank differs from that of one process.

    `weigh(storage, bytes)` is what an event weighs; `at[event]` are bytes by category that come or go just
    before an event, and `brief[event]` bytes that are there for a moment before it, and then no more.
    """

    weigh: Callable[[int, int], int] = lambda _storage, change: change
    at: defaultdict[int, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    brief: dict[int, int] = field(default_factory=dict)


def _curve(history: History, standing: Mapping[str, int], changes: _Changes) -> Curve:
    """The step played again, with what stands from the beginning and what changes."""
    held = Counter(standing)
    totals: list[int] = []
    peak = peak_event = 0
    split: dict[str, int] = {}
    for event, (storage, change) in enumerate(history.events):
        for name, bytes_ in changes.at.get(event, {}).items():
            held[name] += bytes_
        before, brief = dict(held), changes.brief.get(event, 0)
        held[history.categories.get(storage, "temporaries")] += changes.weigh(storage, change)
        now = before | {"gathered": before.get("gathered", 0) + brief} if brief else held
        total = max(sum(held.values()), sum(now.values()))
        totals.append(total)
        if total > peak:
            peak, peak_event = total, event
            split = dict(now if sum(now.values()) == total else held)
    return Curve(
        totals=tuple(totals),
        phases=history.phases,
        peak=peak,
        peak_event=peak_event,
        split=split,
        peak_kept_gradients=peak,
    )


def _in_buckets(history: History) -> _Changes:
    """With `gradient_as_bucket_view`: a gradient is worked out, copied into its bucket as it arrives, and freed."""
    kept = set(history.gradients.values())
    sizes = {storage: size for storage, size in history.events if storage in kept and size > 0}
    changes = _Changes(
        weigh=lambda storage, change: change if storage not in kept or (change > 0 and storage in history.stolen) else 0
    )
    for storage in kept & history.stolen.keys():
        changes.at[history.stolen[storage]]["gradients"] -= sizes[storage]
    return changes


def buckets(gradients: Sequence[tuple[int, object]]) -> tuple[int, ...]:
    """The bytes of each bucket, given the bytes and the type of the gradients in the order in which they arrive."""
    closed: list[int] = []
    open_buckets: dict[object, int] = {}
    limits: dict[object, int] = {}
    for size, dtype in gradients:
        open_buckets[dtype] = open_buckets.get(dtype, 0) + size
        if open_buckets[dtype] >= limits.get(dtype, FIRST_BUCKET):
            closed.append(open_buckets.pop(dtype))
            limits[dtype] = BUCKET
    return (*closed, *open_buckets.values())


def blocks(module: nn.Module) -> list[nn.Module]:
    """The modules to each of which `fully_shard` is applied: elements of the network's outermost lists (`Sequential`,
    `ModuleList`) with parameters; of an element that is a list, or has one called blocks or layers, the elements of
    that.
    """
    if not isinstance(module, (nn.Sequential, nn.ModuleList)):
        return [block for child in module.children() for block in blocks(child)]
    whole: list[nn.Module] = []
    for element in module:
        if any(True for _ in element.parameters()):
            candidates = [element, *(getattr(element, name, None) for name in BLOCK_LISTS)]
            lists = [inner for inner in candidates if isinstance(inner, (nn.Sequential, nn.ModuleList))]
            whole += blocks(lists[-1]) if lists else [element]
    return whole


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unit:
    """Parameters that are gathered together: the bytes that they take whole (padded to equal shards), and a rank's rows
    of them. `storages` hold their gradients, the last of which arrives at that event.
    """

    whole: int
    rows: int
    storages: frozenset[int]
    last: int


def _sharded(history: History, model: nn.Module, parameters: Sequence[nn.Parameter], ranks: int) -> Share:
    everything = list(model.parameters())
    if any(parameter.dim() == 0 for parameter in everything):
        raise BenchError("FSDP2 cannot shard a parameter without dimensions: make it a vector of one element.")
    root, units = _units(history, model, parameters, ranks)
    shards = sum(in_blocks(_rows(parameter, ranks)) for parameter in everything)
    moments = 2 * sum(in_blocks(_rows(parameter, ranks)) for parameter in parameters)
    kept = {
        "parameters": shards,
        "gradients": sum(in_blocks(unit.rows) for unit in (*units, root) if unit),
        "optimizer": moments,
    }
    changes = _gathering(history, root, units, ranks)
    return Share(curve=_curve(history, {"parameters": shards, "optimizer": moments}, changes), buckets=(), kept=kept)


def _rows(parameter: nn.Parameter, ranks: int) -> int:
    """Bytes of the rows of a parameter that rank 0 has: ceil(rows / ranks) of them."""
    return -(-parameter.shape[0] // ranks) * prod(parameter.shape[1:]) * parameter.element_size()


def _units(
    history: History, model: nn.Module, parameters: Sequence[nn.Parameter], ranks: int
) -> tuple[_Unit | None, list[_Unit]]:
    """The network's own unit (None where blocks have all parameters), and the blocks', in the order of their gradients'
    arrival.
    """
    owner: dict[int, int] = {}
    for number, block in enumerate(blocks(model), start=1):
        for parameter in block.parameters():
            owner.setdefault(id(parameter), number)
    members: dict[int, list[int]] = {}
    for number in history.arrivals:
        members.setdefault(owner.get(id(parameters[number]), 0), []).append(number)
    units = {}
    for place, numbers in members.items():
        rows = [_rows(parameters[number], ranks) for number in numbers]
        units[place] = _Unit(
            whole=sum(in_blocks(ranks * size) for size in rows),
            rows=sum(rows),
            storages=frozenset(history.gradients[number] for number in numbers),
            last=max(history.arrivals[number] for number in numbers),
        )
    return units.pop(0, None), list(units.values())


def _gathering(history: History, root: _Unit | None, units: Sequence[_Unit], ranks: int) -> _Changes:
    """Parameters come whole and go, gradients become shards, and the optimizer works on shards."""
    begins = {name: event for event, name in history.phases}
    gradients = set(history.gradients.values())
    born = {storage: event for event, (storage, change) in reversed(list(enumerate(history.events))) if change > 0}
    sizes = {storage: change for storage, change in history.events if storage in gradients and change > 0}

    def weigh(storage: int, change: int) -> int:
        if storage in history.parameters or history.categories.get(storage) == "optimizer":
            return 0
        if storage in gradients:
            return max(change, 0)  # what becomes of it, its unit says
        if born.get(storage, 0) >= begins["optimizer"]:
            return change // ranks if change > 0 else -(-change // ranks)
        return change

    changes = _Changes(weigh=weigh)

    def reduce(unit: _Unit, event: int) -> None:
        changes.at[event]["gradients"] += in_blocks(unit.rows) - sum(sizes[storage] for storage in unit.storages)

    if root is not None:
        changes.at[begins["forward"]]["gathered"] += root.whole
        changes.at[begins["optimizer"]]["gathered"] -= root.whole
        reduce(root, begins["optimizer"])
    start = begins["backward"]
    for unit, following in zip_longest(units, units[1:]):
        ahead = following.whole if following is not None else 0
        changes.at[start]["gathered"] += unit.whole + ahead
        changes.at[unit.last]["gathered"] -= unit.whole + ahead
        changes.brief[unit.last] = in_blocks(ranks * unit.rows)
        reduce(unit, unit.last + 1)
        start = unit.last
    return changes
