"""Memory of a training step on a card that is not here: three numbers, as they are measured, and the largest batch.

*Allocated* is the trace's peak of live tensors, a lower bound: cuDNN's and cuBLAS's workspaces come on top.
*Reserved* adds the allocator's fragmentation, *process* the CUDA context and the libraries' code. The two constants
were checked on timm's training tables (RTX 3090, 24 GB, contiguous): the batch that timm ran must fit and its next
larger one must not. Over 494 models the bracket, which is 1.33 to 1.5 times wide, is right for 78 %; 3 % are said not
to fit that did, and 19 % to fit that did not, most of them with attention, which that timm computed in more steps
with more kept in fp32. A bracket bounds the error and does not measure it; the interval below is a judgement and not
a fitted quantile.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from bench.predict.tracing import traced
from bench.record.devices import DeviceSpec
from bench.record.errors import BenchError
from bench.record.spec import Spec
from bench.trace import Trace

FRAGMENTATION = 0.93
"""Allocated / reserved."""

CONTEXT = 0.8 * 2**30
"""Bytes of the CUDA context and of loaded kernels."""

USABLE = 0.985
"""What a driver leaves of a card's memory; data sheets' GB are GiB (an RTX 3090's 24 GB are 23.69 GiB usable)."""

LOW, HIGH = 0.99, 1.15
"""What is taken as the 80 % interval of measured / predicted: workspaces add, hardly anything subtracts."""

_PROBES = (8, 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes of a training step: live tensors, what the allocator holds for them, what the process holds."""

    allocated: float
    reserved: float
    process: float


def memory(trace: Trace) -> Memory | None:
    """The memory of a traced training step; None for inference, which the trace does not follow."""
    return None if trace.curve is None else of_live(trace.curve.peak)


def of_live(live: float) -> Memory:
    """The three numbers for so many bytes of live tensors."""
    reserved = live / FRAGMENTATION
    return Memory(allocated=live, reserved=reserved, process=reserved + CONTEXT)


def capacity(device: DeviceSpec) -> float:
    """Bytes of a card that a process can have."""
    return device.memory / 1e9 * 2**30 * USABLE


def largest_batch(spec: Spec, device: DeviceSpec) -> int:
    """The largest batch of a training step of `spec` that fits the card; 0 if none does. `spec.batch_size` is ignored.

    Live memory grows by the same bytes with every image, so two traces give the line and a third checks the answer.
    Raises `BenchError` for inference, and as `bench.trace.run`.
    """
    if spec.task != "train":
        raise BenchError("the largest batch is known for training only: add --task train.")
    first, second = (_live(spec, batch) for batch in _PROBES)
    slope = (second - first) / (_PROBES[1] - _PROBES[0])
    room = (capacity(device) - CONTEXT) * FRAGMENTATION
    batch = max(0, int((room - (first - slope * _PROBES[0])) / slope))
    while batch > 0 and _live(spec, batch) > room:
        batch -= max(1, batch // 50)
    return batch


def _live(spec: Spec, batch_size: int) -> int:
    curve = traced(replace(spec, batch_size=batch_size, compile_mode=None)).curve
    assert curve is not None
    return curve.peak
