"""How many graphs torch's compiler makes of a model, where it breaks off, and when it has to start again.

A graph break costs a way back to Python and a fusion that does not happen; a recompilation costs seconds at run time.
Neither needs a compiler to be counted: only the front end (torch._dynamo) runs, with a back end that compiles nothing,
on meta tensors. The counters say what happened; `torch._dynamo.explain` missed breaks that they show.

The model is called twice, with two images and with three. The batch dimension is announced to be dynamic, so whatever
the second call compiles it compiles again: for an attribute that changed, or for a batch that became a constant (behind
a graph break it always does, because nothing announces it there).

The compiler's front end takes seconds per model and keeps much to itself, so it runs in child processes, one per core.
They are forked, which costs no imports; they touch no GPU and start no threads.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any

import torch

from visionbench.models import ModelError
from visionbench.models.inputs import Arguments
from visionbench.models.modes import set_mode
from visionbench.record.errors import BenchError
from visionbench.record.spec import ImageSize, Spec
from visionbench.tracing.apart import LIMIT, apart, end, forks
from visionbench.tracing.skeleton import inputs_on, skeleton, values_as_zero

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
            return _counted(module, spec)
    except (BenchError, ModelError) as error:
        return Graphs(remark=str(error))
    except Exception as error:  # a model, and torch about a model, may raise anything
        return Graphs(remark=f"torch's compiler cannot follow the model on the meta device ({type(error).__name__})")


def _counted(module: torch.nn.Module, spec: Spec) -> Graphs:
    compiled = torch.compile(module, backend="eager")
    _inputs(spec, 2).call(compiled)
    first, breaks = _graphs(), _breaks()
    _inputs(spec, 3).call(compiled)
    return Graphs(graphs=first, breaks=breaks, recompiles=_graphs() - first)


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

Ask = Callable[[Network], Graphs]
"""A network -> its graphs, waited for."""


@contextmanager
def counting(networks: Iterable[Network]) -> Iterator[Ask]:
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
