"""Every metric that a record can hold: its unit, which direction is better, what may be assumed of it, what it means.

One registry, read by what measures, traces, predicts and reports. A new metric is one entry. The name of a family's
member has the family's name before a dot: `macs.conv`, `live_memory.backward`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from visionbench.record.record import Assume, Better, Measurement

Per = Literal["step", "launch", "image", "model", "block"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A metric: base unit, direction, assumption, its meaning as one clause, and what one value is of.

    "step" is one forward pass, or one training step, of a whole batch; "block" is one timed block of steps.
    """

    name: str
    unit: str
    better: Better
    assume: Assume
    meaning: str
    per: Per


def _entry(name: str, unit: str, better: Better, per: Per, meaning: str, assume: Assume = "nothing") -> Metric:
    return Metric(name=name, unit=unit, better=better, assume=assume, meaning=meaning, per=per)


def _count(name: str, unit: str, per: Per, meaning: str) -> Metric:
    """An exact count of a trace."""
    return _entry(name, unit, "lower", per, meaning, "exact")


DENSE_PHASES: dict[str, str] = {
    "backbone": "the seconds of a detector's backbone",
    "neck": "the seconds of a detector's feature pyramid",
    "rpn": "the seconds of a detector's region proposal network",
    "boxes": "the seconds of RoIAlign and the box heads on 1,000 given boxes",
    "masks": "the seconds of RoIAlign and the mask heads on 100 given boxes",
}
POST_PHASES: dict[str, str] = {
    "proposals": "the seconds from a detector's anchors to 1,000 proposed boxes",
    "detections": "the seconds from 500 of a detector's boxes to 100 detections",
    "paste": "the seconds until 100 masks are on the host in the image's size",
}
DETECTOR_PHASES = DENSE_PHASES | POST_PHASES
"""The phases of a detector's inference: those of its dense part, which throughput is of, and the post-processing."""

_ENTRIES = (
    # Times.
    _entry("throughput", "s", "lower", "step", "the seconds of a block of back-to-back steps, by the wall"),
    _entry("device_time", "s", "lower", "step", "the seconds of the same blocks by the device's own clock"),
    _entry("enqueue_time", "s", "lower", "step", "the host's seconds to enqueue one step on an idle device"),
    _entry("device_time_unhindered", "s", "lower", "step", "the device's seconds of a step that waits for no host"),
    _entry("cpu_time", "s", "lower", "step", "the CPU time of the same blocks, of all threads of the process"),
    _entry("latency", "s", "lower", "step", "the seconds of one batch, the device idle before and after it"),
    _entry("forward", "s", "lower", "step", "the seconds of a training step's forward pass with its loss"),
    _entry("backward", "s", "lower", "step", "the seconds of a training step's backward pass"),
    _entry("optimizer", "s", "lower", "step", "the seconds of a training step's optimizer"),
    *(_entry(name, "s", "lower", "step", meaning) for name, meaning in DETECTOR_PHASES.items()),
    _entry("unsynchronised_time", "s", "lower", "step", "the seconds of a block without exchanging gradients"),
    _entry("alone_time", "s", "lower", "step", "the seconds of a block of one process while the others wait"),
    _entry("rank_time", "s", "lower", "step", "one rank's own seconds of the blocks that exchange no gradients"),
    _entry("first_call", "s", "lower", "launch", "the seconds of a fresh process's first step"),
    _entry("compile_seconds", "s", "lower", "launch", "the seconds of the first call with an empty compiler's cache"),
    _entry("step_time", "s", "lower", "step", "the predicted seconds of a step"),
    # What the compiler did.
    _entry("graphs", "count", "lower", "launch", "the graphs that the compiler made by the first call"),
    _entry("graph_breaks", "count", "lower", "launch", "how often Python had to run between two graphs"),
    _entry("recompiles", "count", "lower", "launch", "the frames compiled again after the first call"),
    # Memory of a run.
    _entry("peak_memory_allocated", "B", "lower", "launch", "the most that live tensors held, by torch's allocator"),
    _entry("peak_memory_reserved", "B", "lower", "launch", "the most that torch's allocator held"),
    _entry("peak_memory_forward", "B", "lower", "step", "the most that live tensors held within the forward pass"),
    _entry("peak_memory_backward", "B", "lower", "step", "the most that live tensors held within the backward pass"),
    _entry("peak_memory_optimizer", "B", "lower", "step", "the most that live tensors held within the optimizer"),
    *(
        _entry(f"peak_memory_{name}", "B", "lower", "step", f"the most that live tensors held within the phase {name}")
        for name in DETECTOR_PHASES
    ),
    _entry("process_memory", "B", "lower", "launch", "what the operating system or the driver counts for the process"),
    _entry("largest_batch", "count", "higher", "launch", "the largest batch that fits into the device's memory"),
    # Energy, and what the machine did meanwhile.
    _entry("energy", "J", "lower", "step", "the joules that the board drew over a window of many steps"),
    _entry("energy_seconds", "s", "none", "step", "the seconds of that window"),
    _entry("idle_power", "W", "none", "launch", "the watts of the device while it does nothing"),
    _entry("steal", "1", "none", "block", "the share of the cores that a hypervisor took"),
    _entry("idle", "1", "none", "block", "the share of the cores that did nothing"),
    _entry("involuntary_switches", "count", "none", "block", "how often another program took the core"),
    _entry("page_faults", "count", "none", "step", "the memory pages that the system gave out anew meanwhile"),
    _entry("load", "1", "none", "block", "the programs that wanted to run, by the kernel's load"),
    _entry("sm_clock", "Hz", "none", "block", "the clock of the GPU's multiprocessors"),
    _entry("temperature", "degC", "none", "block", "the temperature of the GPU"),
    _entry("power", "W", "none", "block", "the power that the GPU drew"),
    # Exact counts of a trace.
    _count("params", "count", "model", "the parameters"),
    _count("param_bytes", "B", "model", "the bytes of the parameters"),
    _count("buffers", "count", "model", "the elements of the buffers"),
    _count("buffer_bytes", "B", "model", "the bytes of the buffers"),
    _count("macs", "count", "image", "the multiply-accumulates"),
    _count("flops", "count", "image", "the floating-point operations, two for each multiply-accumulate"),
    _count("hooks", "count", "image", "what the detection toolbox's counter adds up, by its term"),
    _count("activations", "count", "image", "the elements that convolutions and products put out"),
    _count("operators", "count", "step", "the operators that are called"),
    _count("views", "count", "step", "the operators that move no data"),
    _count("bytes", "B", "step", "the bytes that operators read and write, each tensor once an operator"),
    _count("uncounted_operators", "count", "step", "the operators that the rule for MACs does not count"),
    _count("uncounted_bytes", "B", "step", "the bytes that those operators read and write"),
    _count("peak_memory_live", "B", "step", "the peak of live tensors over a training step"),
    _count("peak_memory_kept_gradients", "B", "step", "that peak where gradients are kept from the last step"),
    _count("rank_memory", "B", "step", "what one of several processes keeps from step to step"),
    _entry("gradient_buckets", "B", "none", "step", "the bytes of each bucket of gradients, as they are sent", "exact"),
    _entry("live_memory", "B", "none", "step", "the bytes of live tensors, in the order of a step", "exact"),
)  # fmt: skip

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ENTRIES}


def metric(name: str) -> Metric:
    """The metric of that name, or the family of a name such as `macs.conv`. Raises KeyError for an unknown name."""
    return METRICS[name] if name in METRICS else METRICS[name.partition(".")[0]]


def measurement(
    name: str,
    values: Iterable[float],
    *,
    iterations: int = 1,
    warmups: int = 0,
    flags: tuple[str, ...] = (),
    warnings: tuple[str, ...] = (),
    interval: tuple[float, float, float] | None = None,
) -> Measurement:
    """Values of a metric as a measurement, with the registry's unit, direction and assumption.

    `interval` is the low end, the high end and the level of an interval that is stored with the value.
    """
    known = metric(name)
    low, high, level = interval or (None, None, None)
    return Measurement(
        metric=name,
        unit=known.unit,
        better=known.better,
        assume=known.assume,
        values=tuple(values),
        iterations=iterations,
        warmups=warmups,
        flags=flags,
        warnings=warnings,
        low=low,
        high=high,
        level=level,
    )
