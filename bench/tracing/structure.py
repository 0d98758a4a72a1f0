"""Structure from traces: what `compare --exact` holds against its baseline. Seconds, no GPU, no weights."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import PurePath
from typing import Any

import torch

from visionbench.comparison.structure import BACKWARD, MODEL, OPTIMIZER, Layer, Structure, Structures
from visionbench.models import ModelError
from visionbench.models.inputs import Arguments
from visionbench.models.modes import set_mode
from visionbench.record.errors import BenchError
from visionbench.record.fingerprint import minor_version
from visionbench.record.spec import ImageSize, Spec
from visionbench.tracing.apart import LIMIT, apart, end, forks, guarded
from visionbench.tracing.call_cache import Operator
from visionbench.tracing.live import CATEGORIES
from visionbench.tracing.passes import UntrainableStepError
from visionbench.tracing.skeleton import inputs_on, skeleton, values_as_zero
from visionbench.tracing.step import Trace, run_with_model

_PHASES = {"backward": BACKWARD, "optimizer": OPTIMIZER}


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


# --- graphs: how many torch's compiler makes of a model, where it breaks off, and when it has to start again ---
#
# A graph break costs a way back to Python and a fusion that does not happen; a recompilation costs seconds at run time.
# Neither needs a compiler to be counted: only the front end (torch._dynamo) runs, on meta tensors, with a back end that
# compiles nothing. The counters say what happened; `torch._dynamo.explain` missed breaks that they show.
#
# The model is called twice, with two images and with three. The batch dimension is announced to be dynamic, so whatever
# the second call compiles it compiles again: for an attribute that changed, or for a batch that became a constant
# (behind a graph break it always does, because nothing announces it there).
#
# The compiler's front end takes seconds per model and keeps much to itself, so it runs in child processes, one per
# core. They are forked, which costs no imports; they touch no GPU and start no threads.

_PROCESSES = 4
"""Children at most: each takes some 500 MB."""

# What the environment could set and what changes the counts. Of these, what torch of this release has.
_CONFIG = {"disable": False, "suppress_errors": False, "capture_scalar_outputs": False, "error_on_recompile": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Graphs:
    """Graphs of the first call, its breaks by reason, graphs that the second added; None and a remark if unknown."""

    graphs: int | None = None
    breaks: dict[str, int] = field(default_factory=dict)
    recompiles: int | None = None
    remark: str = ""

    @property
    def graph_breaks(self) -> int | None:
        """All breaks of the first call."""
        return None if self.graphs is None else sum(self.breaks.values())


def count(model: str, image_size: ImageSize, inputs: tuple[str, ...] | None = None) -> Graphs:
    """Count the graphs of a model's forward pass at fp32. Whatever it raises becomes a remark.

    What this process has compiled so far is forgotten (`torch._dynamo.reset`).
    """
    try:
        spec = Spec(model=model, image_size=image_size, inputs=inputs)
        module = skeleton(model, image_size, spec.channels)
        set_mode(module, training=False)
        with _fresh_compiler(), values_as_zero(), torch.random.fork_rng(devices=[]), torch.no_grad():
            compiled = torch.compile(module, backend="eager")
            _inputs(spec, 2).call(compiled)
            first, breaks = _graphs(), _breaks()
            _inputs(spec, 3).call(compiled)
            return Graphs(graphs=first, breaks=breaks, recompiles=_graphs() - first)
    except (BenchError, ModelError) as error:
        return Graphs(remark=str(error))
    except Exception as error:  # a model, and torch about a model, may raise anything
        return Graphs(remark=f"torch's compiler cannot follow the model on the meta device ({type(error).__name__})")


def _inputs(spec: Spec, batch: int) -> Arguments:
    inputs = inputs_on(replace(spec, batch_size=batch))
    for tensor in inputs.tensors():
        if tensor.dim() and tensor.shape[0] == batch:
            torch._dynamo.maybe_mark_dynamic(tensor, 0)
    return inputs


@contextmanager
def _fresh_compiler() -> Iterator[None]:
    """The compiler as it is at the start of a process, silent; and again so afterwards."""
    import torch._dynamo.config as config

    log = logging.getLogger("torch._dynamo")
    level = log.level
    log.setLevel(logging.CRITICAL)  # it warns of each break on stderr
    _reset()
    try:
        with config.patch({name: value for name, value in _CONFIG.items() if hasattr(config, name)}):
            yield
    finally:
        _reset()
        log.setLevel(level)


def _reset() -> None:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()


def _graphs() -> int:
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


def _breaks() -> dict[str, int]:
    """Breaks by reason and place, from the longer of two lists of them.

    The counters know of frames that were given up as a whole, the list of reasons of branches in the rest of a frame
    that broke before; where both know of a break they may call it by different names. A break inside a function that
    was to be inlined is one of each frame that it cuts.
    """
    counted: Counter[str] = Counter()
    for reason, times in torch._dynamo.utils.counters["graph_break"].items():
        counted[_first_line(reason)] += times
    placed = Counter(_with_place(broken) for broken in torch._dynamo.utils.graph_break_reasons)
    return dict(sorted(max(placed, counted, key=Counter.total).items()))


def _first_line(reason: str) -> str:
    """Without the folders of this machine."""
    return re.sub(r"/\S*/", "", reason.strip().split("\n")[0])


def _with_place(broken: Any) -> str:
    """`Tensor.item, in forward (net.py)`: no line number, which any edit above it would change."""
    reason = _first_line(broken.reason)
    if not broken.user_stack:
        return reason
    frame = broken.user_stack[-1]
    name = re.sub(r"torch_dynamo_resume_in_|_at_\d+", "", frame.name)
    return f"{reason}, in {name} ({PurePath(frame.filename).name})"


Network = tuple[str, ImageSize, tuple[str, ...] | None]
"""What the graphs of a model depend on: its name, its image size and its inputs (`Spec.network`)."""


@contextmanager
def counting(networks: Iterable[Network]) -> Iterator[Callable[[Network], Graphs]]:
    """Start to count the graphs of these networks, each once, in child processes; yields how to ask for them."""
    wanted = list(dict.fromkeys(networks))
    with forks(min(len(wanted), _PROCESSES)) as pool:
        futures: dict[Network, Future[Graphs]] = {network: pool.submit(count, *network) for network in wanted}
        yield lambda network: _answer(futures[network], pool, network)


def _answer(future: Future[Graphs], pool: ProcessPoolExecutor, asked: Network) -> Graphs:
    """A model that kills its process, or never ends, takes the whole pool along: the others are counted one by one."""
    try:
        return future.result(LIMIT)
    except TimeoutError:
        end(pool)
        return Graphs(remark="its graphs could not be counted in time")
    except BrokenProcessPool:
        try:
            return apart(count, *asked)
        except BenchError:
            return Graphs(remark="the process that counted its graphs died")
