"""Compilation: what `torch.compile` cost, how whole the graph is, and whether it was done again.

Counted by `torch._dynamo.utils.counters`, which the compiler itself keeps: `torch._dynamo.explain` would compile the
model another time, on the object that is timed. A counter does not start at zero in a process that has compiled before,
so every number is a difference of two `Mark`s.

- `compile_seconds`: the first call, from an empty disk cache. With a cache that another launch has filled it would be
  the time of reading files, and depend on the order of the launches; autotuning's choices are in that cache too, and
  making them anew is part of the variance between launches. So the parent gives each launch the variables of
  `cold_cache()`, and a cache that was hit all the same is flagged `warm_cache`.
- `graphs`: compiled by the first call; one for a model without breaks (a training step counts its forward only).
  `graph_breaks`: how often Python had to run in between.
- `recompiles`: frames compiled after the first call. Shapes do not change here, so nothing should be compiled again,
and a compilation among the timed iterations spoils the number: `recompiled_since` tells.

Nothing here imports the compiler, which takes seconds: where it was not used there is nothing to count.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from visionbench.record.metrics import measurement
from visionbench.record.record import Measurement

SECONDS, GRAPHS, GRAPH_BREAKS, RECOMPILES = "compile_seconds", "graphs", "graph_breaks", "recompiles"

WARM_CACHE = "warm_cache"
"""Flag: the compiler found some of its work on the disk, so the seconds are not those of a cold start."""

RECOMPILED = "recompiled"
"""Flag: something was compiled again while it was timed."""

HITS = (("inductor", "fxgraph_cache_hit"), ("aot_autograd", "autograd_cache_hit"))
"""The counters of what the compiler took from its disk cache, in torch 2.6 to 2.15."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """The compiler's counters at one moment. `frames` are the functions it took in hand, compiled or given up."""

    frames: int = 0
    graphs: int = 0
    breaks: int = 0
    hits: int = 0


def mark() -> Mark:
    """The counters now; zeros where the compiler is not even loaded. Costs a microsecond."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    if dynamo is None:
        return Mark()
    counters: Mapping[str, Mapping[str, int]] = dynamo.counters
    return Mark(
        frames=_count(counters, "frames", "total"),
        graphs=_count(counters, "stats", "unique_graphs"),
        breaks=sum(counters.get("graph_break", {}).values()),
        hits=sum(_count(counters, group, name) for group, name in HITS),
    )


def _count(counters: Mapping[str, Mapping[str, int]], group: str, name: str) -> int:
    """Without the reading adding an entry: the counters are `defaultdict`s."""
    return counters.get(group, {}).get(name, 0)


def recompiled_since(before: Mark) -> bool:
    """Whether the compiler has been at work since `before`."""
    return mark().frames > before.frames


def measurements(seconds: float, before: Mark, called: Mark, after: Mark) -> tuple[Measurement, ...]:
    """The four measurements: `seconds` of the first call; marks before it, right after it, and at the end.

    The counts should be the same in every launch, but need not be: caches and autotuning have a say in them.
    """
    flags = (WARM_CACHE,) if called.hits > before.hits else ()
    return (
        measurement(SECONDS, (seconds,), flags=flags),
        measurement(GRAPHS, (called.graphs - before.graphs,)),
        measurement(GRAPH_BREAKS, (called.breaks - before.breaks,)),
        measurement(RECOMPILES, (after.frames - called.frames,)),
    )


@contextmanager
def cold_cache() -> Iterator[dict[str, str]]:
    """Environment variables with which a process compiles from an empty cache; the cache is deleted at the end.

    They must be set before that process compiles anything. The parent should hold this, not the process itself: it may
    be killed, and would leave its files behind.
    """
    with tempfile.TemporaryDirectory(prefix="visionbench-compile-", ignore_cleanup_errors=True) as folder:
        yield {"TORCHINDUCTOR_CACHE_DIR": folder, "TRITON_CACHE_DIR": f"{folder}/triton"}
