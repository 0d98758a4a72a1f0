"""Structure from traces: what `compare --exact` holds against its baseline. Seconds, no GPU, no weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from importlib import metadata

import torch

from visionbench.comparison.structure import BACKWARD, MODEL, OPTIMIZER, Layer, Structure, Structures
from visionbench.models import ModelError
from visionbench.record.errors import BenchError
from visionbench.record.fingerprint import minor_version
from visionbench.record.spec import Spec
from visionbench.tracing.apart import guarded
from visionbench.tracing.call_cache import Operator
from visionbench.tracing.graphs import Graphs, count, counting
from visionbench.tracing.live import CATEGORIES
from visionbench.tracing.passes import UntrainableStepError
from visionbench.tracing.skeleton import values_as_zero
from visionbench.tracing.step import Trace, run_with_model

_PHASES = {"backward": BACKWARD, "optimizer": OPTIMIZER}


def structure(spec: Spec) -> Structure:
    """The structure of one row, graphs included if it is an inference. Raises as `run`.

    The compiler runs in this process, which forgets what it has compiled; `structures` leaves it alone.
    """
    traced = _traced(spec)
    return _with_graphs(traced, count(*spec.network)) if spec.task == "inference" else traced


def structures(specs: Iterable[Spec], progress: Callable[[str], None] | None = None) -> Structures:
    """The structure of many rows. A row that cannot be counted is among the failures, with its reason.

    Graphs are counted in child processes meanwhile; call it before any thread is started, as they are forked.
    `progress` is called with each finished row.
    """
    wanted = list(dict.fromkeys(specs))
    rows: dict[str, Structure] = {}
    failures: dict[str, str] = {}
    untrained: dict[str, str] = {}
    with counting(spec.network for spec in wanted if spec.task == "inference") as graphs:
        for spec in wanted:
            try:
                rows[str(spec)] = guarded(spec.model, _traced, spec)
            except UntrainableStepError as error:
                untrained[str(spec)] = str(error)
            except (BenchError, ModelError) as error:
                failures[str(spec)] = str(error)
        for spec in wanted:
            if spec.task == "inference" and str(spec) in rows:
                rows[str(spec)] = _with_graphs(rows[str(spec)], graphs(spec.network))
            if progress:
                progress(str(spec))
    releases = {"torch": minor_version(str(torch.__version__)), "timm": metadata.version("timm")}
    return Structures(**releases, rows=rows, failures=failures, untrained=untrained)


def _traced(spec: Spec) -> Structure:
    with values_as_zero() as readings:
        traced, model = run_with_model(spec, begins=readings.restart)
    return Structure(
        row=str(spec),
        totals=_totals(traced) | {"values_read": readings.count},
        layers=_layers_of_training(traced) if spec.task == "train" else _layers(traced, model),
    )


def _totals(traced: Trace) -> dict[str, int | None]:
    """The exact counts of a record, less what follows from others, and what the row of the inference says already."""
    step: dict[str, int | None] = {
        "macs": traced.macs_per_image,
        "activations": traced.activations_per_image,
        "operators": len(traced.operators),
        "bytes": traced.bytes,
    }
    if traced.curve:
        split = {f"peak_memory_live.{name}": traced.curve.split[name] for name in CATEGORIES}
        return step | {"peak_memory_live": traced.curve.peak} | split
    model: dict[str, int | None] = {
        "params": traced.params,
        "param_bytes": traced.param_bytes,
        "buffers": traced.buffers,
        "buffer_bytes": traced.buffer_bytes,
    }
    return model | step


def _with_graphs(traced: Structure, graphs: Graphs) -> Structure:
    counts = {"graphs": graphs.graphs, "graph_breaks": graphs.graph_breaks, "recompiles": graphs.recompiles}
    return replace(traced, totals=traced.totals | counts, breaks=graphs.breaks, remark=graphs.remark)


def _layers(traced: Trace, model: torch.nn.Module) -> dict[str, Layer]:
    """Layers in the order of execution, then those that own something and call no operator.

    A tensor of several owners belongs to the first, as it is counted once.
    """
    params, buffers = Counter[str](), Counter[str]()
    for name, parameter in model.named_parameters():
        params[_owner(name)] += parameter.numel()
    for name, buffer in model.named_buffers():
        buffers[_owner(name)] += buffer.numel()
    members = _by_layer(traced)
    paths = dict.fromkeys((*members, *params, *buffers))
    return {path: _layer(members.get(path, []), params[path], buffers[path]) for path in paths}


def _owner(name: str) -> str:
    return name.rpartition(".")[0] or MODEL


def _layers_of_training(traced: Trace) -> dict[str, Layer]:
    """Of the forward pass the operators alone: the inference has the rest, and so all blocks fold into one line."""
    later = set(_PHASES.values())
    return {
        path: _layer(members) if path in later else Layer(operators=_names(members))
        for path, members in _by_layer(traced).items()
    }


def _by_layer(traced: Trace) -> dict[str, list[Operator]]:
    members: dict[str, list[Operator]] = {}
    for op in traced.operators:
        members.setdefault(_PHASES.get(op.phase, op.module or MODEL), []).append(op)
    return members


def _names(operators: list[Operator]) -> dict[str, int]:
    return dict(sorted(Counter(op.name for op in operators).items()))


def _layer(operators: list[Operator], params: int = 0, buffers: int = 0) -> Layer:
    return Layer(
        operators=_names(operators),
        params=params,
        buffers=buffers,
        macs=sum(op.macs for op in operators),
        activations=sum(op.activations for op in operators),
        bytes=sum(op.bytes for op in operators),
    )
