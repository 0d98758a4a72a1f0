"""Training memory on a card that you don't have: the three numbers that tools measure, and the largest batch.

*Allocated* is the trace's peak of live tensors and cuBLAS's workspaces. From release 2.0 on, torch takes these from its
caching allocator: 8.125 MiB, 32 on Hopper, for each thread that multiplies (CublasHandlePool.cpp; pull requests 85447
and 89027), and a training step has two, forward and backward. cuDNN's workspaces come and go, and are not known here.
*Reserved* adds the allocator's fragmentation, *process* the CUDA context and the libraries' code.

What GPUs measured of the same steps (`perf/prediction/published_memory.csv`): 16 printed peaks, ten models of six
families, torch 1.7 to 2.1, autocast and fp32, attention in steps. All are between -0.1 and 2.1 % above the prediction
for what that release of torch kept. What is above is workspaces and blocks that the allocator does not
split, so it weighs most in small steps: in eight networks after the forward pass of batch 4 it is 2 to 9 %. A newer
cuDNN may choose far larger workspaces: a ResNet-50 of which too little is known to count is 10 % above. No printed row
of fused attention was found whose configuration is known, and none of Hopper.

The two constants were checked on timm's training tables (RTX 3090, 24 GB, contiguous, torch 1.12): the batch that timm
ran must fit and its next larger one must not. Of 321 models drawn at random the bracket, which is 1.33 to 1.5 times
wide, is right for 91 %; 6 % are said not to fit that did, most by less than 3 % (networks with an LSTM by 40 to 77 %),
and 3 % to fit that did not, by less than 8 %. A bracket bounds the error and does not measure it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from visionbench.predicting.samples import traced
from visionbench.record.devices import DeviceSpec
from visionbench.record.errors import BenchError
from visionbench.record.prediction import Counter
from visionbench.record.spec import Spec
from visionbench.tracing import Trace

FRAGMENTATION = 0.93
"""Allocated / reserved."""

CONTEXT = 0.8 * 2**30
"""Bytes of the CUDA context and of loaded kernels."""

USABLE = 0.985
"""What a driver leaves of a card's memory; data sheets' GB are GiB (an RTX 3090's 24 GB are 23.69 GiB usable)."""

ALLOCATED = (0.998, 1.022)
"""80 % interval of measured / predicted peak of live memory: `memory_check.interval` of the 16 printed rows (their
smallest and largest ratio), rounded outwards. Five sources, so less is known than 16 independent rows would say."""

LOW, HIGH = 0.96, 1.15
"""The same for what the allocator holds and for the process: a judgement. Six printed rows of reserved memory, from one
source, are between 0.964 and 1.141: too few for a quantile. A seventh program there lost 27 % to fragmentation."""

THREADS = 2
"""Threads that multiply: the program's own, and autograd's for the backward pass."""

_WORKSPACE, _WORKSPACE_HOPPER = 8.125 * 2**20, 32 * 2**20
_HOPPER = 9
_PROBES = (8, 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes of a training step: live tensors and workspaces, what the allocator holds, what the process holds."""

    allocated: float
    reserved: float
    process: float


def memory(trace: Trace, device: DeviceSpec) -> Memory | None:
    """The memory of a traced training step; None for inference, which the trace does not follow."""
    return None if trace.curve is None else of_allocated(trace.curve.peak + workspaces(device.capability))


def least(trace: Trace) -> float:
    """A lower bound of a step's memory in bytes: its parameters, or what its largest operator reads and writes."""
    works_on = (sum(math.prod(shape) * itemsize for shape, _, itemsize in op.operands) for op in set(trace.operators))
    return max(trace.param_bytes, *works_on, 0)


def workspaces(capability: tuple[int, int]) -> float:
    """Bytes that cuBLAS holds during a training step on a card of that compute capability, from torch 2.0 on."""
    return THREADS * (_WORKSPACE_HOPPER if capability[0] == _HOPPER else _WORKSPACE)


def of_allocated(allocated: float) -> Memory:
    """The three numbers for `allocated` bytes of live tensors and workspaces."""
    reserved = allocated / FRAGMENTATION
    return Memory(allocated=allocated, reserved=reserved, process=reserved + CONTEXT)


def bounds(number: Counter) -> tuple[float, float]:
    """The 80 % interval of measured / predicted for one of the three numbers."""
    return ALLOCATED if number == "allocated" else (LOW, HIGH)


def capacity(device: DeviceSpec) -> float:
    """Bytes of a card that a process can have."""
    return device.memory / 1e9 * 2**30 * USABLE


def largest_batch(spec: Spec, device: DeviceSpec) -> int:
    """The largest batch of a training step of `spec` that fits the card; 0 if none does. `spec.batch_size` is ignored.

    Live memory grows by the same bytes with every image, so two traces give the line and a third checks the answer.
    Raises `BenchError` for inference, and as `visionbench.tracing.run`.
    """
    if spec.task != "train":
        raise BenchError("the largest batch is known for training only: add --task train.")
    first, second = (_live(spec, batch) for batch in _PROBES)
    slope = (second - first) / (_PROBES[1] - _PROBES[0])
    room = (capacity(device) - CONTEXT) * FRAGMENTATION - workspaces(device.capability)
    batch = max(0, int((room - (first - slope * _PROBES[0])) / slope))
    while batch > 0 and _live(spec, batch) > room:
        batch -= max(1, batch // 50)
    return batch


def _live(spec: Spec, batch_size: int) -> int:
    curve = traced(replace(spec, batch_size=batch_size, compile_mode=None)).curve
    assert curve is not None
    return curve.peak
