"""Networks that are handed over as objects: a module, or a function that returns one.

A function that a module of the caller's holds has a name (`user:module:function`), so a fresh process can have it, and
it goes the way of all names. Anything else stays in the caller's process: it is counted in a fork of it, timed in the
process itself, and what is measured there says so.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from visionbench.command import progress
from visionbench.command.requests import HowLong, Where
from visionbench.comparison import comparison
from visionbench.comparison.verdict import Judgement, Rule
from visionbench.models.given import Given, copies, known, whole
from visionbench.record import store
from visionbench.record.errors import BenchError
from visionbench.record.inputs import INTEGERS, Input, texts_of
from visionbench.record.record import Record
from visionbench.record.spec import Spec, image_size_of
from visionbench.record.statistics import estimate

IN_PROCESS = "in_process"
"""Flag of a time, and the end of the protocol's name, so that it is never averaged with launches."""

USUAL_BATCH = 64
"""Images per step on a GPU unless inputs or the user say otherwise; one on a CPU."""

ROUNDS = 20
"""Turns of each side where two networks are compared in one process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handed:
    """A network that was handed over: how it is run, and what a spec's name stands for (None: it has that name)."""

    spec: Spec
    given: Given | None


def is_object(model: object) -> bool:
    """Whether this is a module or a function, and no name. Raises `BenchError` for anything else."""
    import torch

    if isinstance(model, str):
        return False
    if isinstance(model, torch.nn.Module) or (callable(model) and not isinstance(model, torch.Tensor)):
        return True
    raise BenchError(
        "a network is a name, a torch.nn.Module or a function that returns one, and not "
        f"an object of type {type(model).__name__}."
    )


def handed(model: Any, inputs: object, settings: Mapping[str, Any], *, on_gpu: bool = False) -> Handed:
    """The network as a spec; `settings` are the keywords of `visionbench.measure`.

    Tensors among `inputs` say shapes, types and ranges, and are what an object without a name is called with. Raises
    `BenchError` for what cannot be described.
    """
    import torch

    name, has_name = _name(model)
    texts, tensors = _described(inputs)
    batch = tensors[0].shape[0] if tensors else settings.get("batch_size") or (USUAL_BATCH if on_gpu else 1)
    asked = settings.get("batch_size")
    if asked not in (None, batch):
        raise BenchError(f"the inputs are a batch of {batch}, and batch_size is {asked}: leave batch_size out.")
    size = settings.get("image_size") or image_size_of(texts) or 224
    rest = {key: value for key, value in settings.items() if key not in ("batch_size", "image_size", "inputs")}
    spec = Spec(model=name, batch_size=batch, image_size=size, inputs=texts or None, **rest)
    if has_name:
        return Handed(spec=spec, given=None)
    factory = copies(model, name) if isinstance(model, torch.nn.Module) else model
    return Handed(spec=spec, given=Given(name=name, factory=factory, inputs=inputs if tensors else None))


def _name(model: Any) -> tuple[str, bool]:
    """`user:module:function`, and whether that leads to it from any process."""
    import torch

    what = type(model) if isinstance(model, torch.nn.Module) else model
    module, function = getattr(what, "__module__", None) or "__main__", getattr(what, "__name__", "network")
    home = module if all(part.isidentifier() for part in module.split(".")) else "__main__"
    word = function if function.isidentifier() else "network"
    leads = home != "__main__" and getattr(sys.modules.get(home), word, None) is model
    return f"user:{home}:{word}", leads


def _described(inputs: object) -> tuple[tuple[str, ...], list[Any]]:
    """Inputs as one types them, and the tensors among them."""
    import torch
    from torch.utils import _pytree

    if inputs is None or isinstance(inputs, str):
        return texts_of(inputs), []
    positional, named = whole(inputs)
    tensors = [leaf for leaf in _pytree.tree_leaves((positional, named)) if isinstance(leaf, torch.Tensor)]
    if not tensors:
        return texts_of(inputs), []
    if not all(tensor.dim() for tensor in tensors):
        raise BenchError("every input is a batch, and a tensor without sizes cannot be one: give it a first size.")
    if any(tensor.shape[0] != tensors[0].shape[0] for tensor in tensors):
        raise BenchError("every input is a batch, and the first sizes of these differ: give all of them the same.")
    flat = [("", leaf) for leaf in _pytree.tree_leaves(positional)]
    for name, value in named.items():
        leaves = _pytree.tree_leaves(value)
        flat += [(name if len(leaves) == 1 else f"{name}_{at}", leaf) for at, leaf in enumerate(leaves)]
    return tuple(str(_describe(name, leaf)) for name, leaf in flat if isinstance(leaf, torch.Tensor)), tensors


def _describe(name: str, tensor: Any) -> Input:
    dtype = "float" if tensor.is_floating_point() else str(tensor.dtype).removeprefix("torch.")
    if dtype not in ("float", "bool", *INTEGERS):
        raise BenchError(f"an input of type {dtype} cannot be described: use floats, bool, {', '.join(INTEGERS)}.")
    has_range = dtype in INTEGERS and not tensor.is_meta and tensor.numel()
    low, high = (int(tensor.min()), int(tensor.max())) if has_range else (0, 0)
    return Input(name=name, shape=tuple(tensor.shape[1:]), dtype=dtype, low=low, high=high)


def measure(network: Handed, where: Where, how_long: HowLong, path: Path | None) -> Record:
    """One record, timed in this process; appended to the file if there is one.

    torch's flags, its random state and the number of its threads are as before afterwards. Raises `BenchError` for what
    takes several processes.
    """
    from visionbench.command.verbs.run import place_to_measure
    from visionbench.machine.neighbours import marked
    from visionbench.measuring.worker import measure as measure_here

    if how_long.launches not in (None, 1) or how_long.budget is not None:
        raise BenchError(
            "launches are fresh processes, which cannot have this object: put a function that returns the network into "
            "a module and hand that over, or leave launches and budget out."
        )
    place = place_to_measure(where, replace(how_long, launches=1))
    if path is not None:
        store.check_writable(path)
    protocol = replace(place.protocol, name=f"{place.protocol.name}, {IN_PROCESS.replace('_', ' ')}", launches=1)
    with known(*filter(None, (network.given,))), marked(place.devices, progress.say):
        record = measure_here(network.spec, protocol, place.devices[0], place.threads)
    flagged = [
        replace(measured, flags=(*measured.flags, IN_PROCESS)) if measured.unit == "s" else measured
        for measured in record.measurements
    ]
    record = replace(record, measurements=tuple(flagged))
    if path is not None:
        store.append(path, record)
    return record


def compare(baseline: Handed, candidate: Handed, where: Where, rounds: int | None, seed: int | None) -> Judgement:
    """Two networks in turns in this process: the ratio of their times, and its interval between rounds.

    The verdict is `inconclusive`, whatever the ratio: one process is one launch.
    """
    from visionbench.judging import duet
    from visionbench.judging.gate import drawn
    from visionbench.judging.verdict import judge
    from visionbench.machine.environment import describe, find_device
    from visionbench.machine.neighbours import marked

    device = where.device or find_device()
    stage, number = duet.stage(device, where.threads, rounds=rounds or ROUNDS), drawn(seed)
    sides = [comparison.Side(label=label, spec=side.spec) for label, side in (("a", baseline), ("b", candidate))]
    row = duet.Row(name=f"{candidate.spec.model} against {baseline.spec.model}", baseline=sides[0], candidate=sides[1])
    with known(*filter(None, (baseline.given, candidate.given))), marked([device], progress.say):
        launch = duet.launch_here(row, stage, number)
    measured = comparison.Comparison(
        name=row.name,
        baseline=row.baseline,
        candidate=row.candidate,
        environment=describe(device, stage.threads),
        timer=stage.timer,
        seed=number,
        looks=1,
        launches=(launch,),
    )
    rule = replace(Rule(), looks=1)
    title = f"{row.name}, in this process"
    return Judgement(title=title, rule=rule, verdicts=judge((measured,), rule), remarks=(_between(launch),))


def _between(launch: comparison.Launch) -> str:
    """One sentence about the rounds of one process."""
    ratios = [turn.candidate / turn.baseline for turn in launch.rounds]
    over = estimate(ratios)
    interval = f" [{over.low:.3f}, {over.high:.3f}]" if over.low is not None and over.high is not None else ""
    return (
        f"Time of b over that of a: {median(ratios):.3f}, "
        f"between the {len(ratios)} rounds of this one process{interval}. "
        "Another process may differ by more: functions that a module holds are compared in fresh ones."
    )


def together(networks: Sequence[Handed]) -> tuple[Handed, ...]:
    """The same networks, no two by one name."""
    apart: list[Handed] = []
    for network in networks:
        name, taken = network.spec.model, {other.spec.model for other in apart}
        if network.given is None or name not in taken:
            apart.append(network)
            continue
        fresh = f"{name}_{len(apart) + 1}"
        given = replace(network.given, name=fresh)
        apart.append(Handed(spec=replace(network.spec, model=fresh), given=given))
    return tuple(apart)
