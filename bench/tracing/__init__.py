"""Counting without hardware: one pass over a model on the meta device, no weights, a fraction of a second.

`run(spec)` returns a `Trace`: every operator of a forward or of a whole training step with its multiply-
accumulates, bytes and layer, and for a training step the curve of live tensor memory. `trace(spec)` is the same as
a `Record` of exact counts (source "computed"). Nothing outside the trace changes: no global flag, no hook, no
random state survives it.
"""

from __future__ import annotations

from visionbench.tracing.passes import UntraceableError
from visionbench.tracing.step import Trace, run, trace

__all__ = ["Trace", "UntraceableError", "run", "trace"]
