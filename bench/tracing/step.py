"""One step of a spec on the meta device, and what is counted of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from itertools import pairwise

import torch

from visionbench.models import ModelError
from visionbench.record.collector import collector_paused
from visionbench.record.counters import Line
from visionbench.record.errors import BenchError
from visionbench.record.metrics import measurement
from visionbench.record.record import Environment, Record
from visionbench.record.spec import Spec, check_parallel
from visionbench.tracing import hooks
from visionbench.tracing.call_cache import Operator
from visionbench.tracing.formulas import KINDS
from visionbench.tracing.live import Curve
from visionbench.tracing.operators import Recorder
from visionbench.tracing.passes import failed, stepped
from visionbench.tracing.replicas import Share, share

PRODUCTS_MISSED = "products_missed"
"""The flag of counts that leave out operators that multiply."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What one step of `spec` does. Counts are of the whole batch; `*_per_image` divide by it exactly.

    `views` are operators that move nothing. `curve` is None for inference. `family` is the Python module in which the
    network's class is defined (`timm.models.resnet`): what models that share code share. `hooks` are the terms of the
    detection toolbox's counter, of a detector's or segmentor's inference alone (`visionbench.tracing.hooks`). `remarks`
    are clauses that a reader should know of: a mode that could not be set, a draw of random numbers. `share` is what
    one rank holds where several processes train; then `curve` is its curve.
    """

    spec: Spec
    params: int
    param_bytes: int
    buffers: int
    buffer_bytes: int
    operators: tuple[Operator, ...]
    views: int
    curve: Curve | None
    family: str = ""
    hooks: Mapping[str, int] | None = None
    remarks: tuple[str, ...] = ()
    share: Share | None = None

    @property
    def macs_per_image(self) -> int:
        """Multiply-accumulates of one image by the paper's rule (`formulas`)."""
        return sum(op.macs for op in self.operators) // self.spec.batch_size

    @property
    def activations_per_image(self) -> int:
        """Output elements of convolutions and matrix products, one image."""
        return sum(op.activations for op in self.operators) // self.spec.batch_size

    @property
    def bytes(self) -> int:
        """Bytes read and written by all operators: a lower bound of the traffic without fusion."""
        return sum(op.bytes for op in self.operators)

    def uncounted(self) -> tuple[Operator, ...]:
        """The operators for which the MAC rule has no formula: nothing is missed silently."""
        return tuple(op for op in self.operators if not op.counted)


def missed(traced: Trace) -> tuple[str, ...]:
    """Names of the operators that multiply, or may, and that no formula counts."""
    return tuple(dict.fromkeys(op.name for op in traced.operators if op.missed))


def run(spec: Spec, *, former: bool = False) -> Trace:
    """Trace one step of `spec`; `former`: as torch before 1.11, which kept more for the backward pass (`stepwise`).

    A step is what a network does again and again: what only its first call does (a layer made late, a table filled) is
    no part of it. Raises `models.ModelError` (unknown model, size refused at construction), `UntraceableError`,
    `UntrainableStepError`, or `BenchError` with the reason why the forward pass fails.
    """
    return run_with_model(spec, former=former)[0]


def run_with_model(
    spec: Spec, *, former: bool = False, begins: Callable[[], None] = lambda: None
) -> tuple[Trace, torch.nn.Module]:
    """As `run`, and the network that was traced, on the meta device. `begins` is called before the recorded step."""
    check_parallel(spec)
    # What a user's factory prints is no result of ours.
    with collector_paused(), redirect_stdout(sys.stderr):
        try:
            model, recorder, remarks = stepped(spec, former, begins)
        except (BenchError, ModelError, MemoryError, KeyboardInterrupt):
            raise
        except BaseException as error:  # any model may raise anything, and a script may well exit
            raise failed(spec, error) from error
        return _trace(spec, model, recorder, remarks), model


def _trace(spec: Spec, model: torch.nn.Module, recorder: Recorder, remarks: tuple[str, ...]) -> Trace:
    parameters, buffers = list(model.parameters()), list(model.buffers())
    rank = share(recorder.live, model, spec) if recorder.live and spec.parallel else None
    curve = rank.curve if rank else recorder.live.curve() if recorder.live else None
    return Trace(
        spec=spec,
        params=sum(parameter.numel() for parameter in parameters),
        # Not `nbytes`, which a sparse tensor does not have.
        param_bytes=sum(parameter.numel() * parameter.element_size() for parameter in parameters),
        buffers=sum(buffer.numel() for buffer in buffers),
        buffer_bytes=sum(buffer.numel() * buffer.element_size() for buffer in buffers),
        operators=tuple(recorder.operators),
        views=recorder.views,
        curve=curve,
        family=type(model).__module__,
        hooks=dict(recorder.hooks) if recorder.hooks and spec.task == "inference" else None,
        remarks=remarks,
        share=rank,
    )


def trace(spec: Spec, environment: Environment) -> Record:
    """The exact counts of one step as a record of source "computed". Raises as `run`.

    Per image: `macs`, `flops` (2 x MACs), `activations`. Per step: `operators`, `views`, `bytes`, each also by kind
    (`operators.conv`, `bytes.conv`; `macs.conv` per image), and what the MAC rule does not count
    (`uncounted_operators`, `uncounted_bytes`). A training step adds `peak_memory_live` with its split, its curve
    (`live_memory.forward` and so on: `sampled`), and `peak_memory_kept_gradients` (`record.memory`). Per model:
    `params`, `param_bytes`, `buffers`, `buffer_bytes`.
    """
    return to_record(run(spec), environment)


def to_record(traced: Trace, environment: Environment) -> Record:
    """The counts of a trace as a record."""
    flags = (PRODUCTS_MISSED,) if missed(traced) else ()
    exact = tuple(
        measurement(name, (value,), flags=flags, warnings=traced.remarks)
        if name in ("macs", "flops", "activations")
        else measurement(name, (value,))
        for name, value in _counts(traced)
    )
    sizes = traced.share.buckets if traced.share else ()
    sent = (measurement("gradient_buckets", sizes),) if sizes else ()
    curve = sampled(traced.curve) if traced.curve else {}
    # They describe: no direction is better.
    samples = (measurement(f"live_memory.{phase}", values) for phase, values in curve.items())
    measurements = (*exact, *sent, *samples)
    return Record(
        spec=traced.spec, protocol=None, environment=environment, measurements=measurements, source="computed"
    )


def _counts(traced: Trace) -> Iterator[tuple[str, int]]:
    uncounted = traced.uncounted()
    yield "params", traced.params
    yield "param_bytes", traced.param_bytes
    yield "buffers", traced.buffers
    yield "buffer_bytes", traced.buffer_bytes
    yield "macs", traced.macs_per_image
    yield "flops", 2 * traced.macs_per_image
    yield "activations", traced.activations_per_image
    yield "operators", len(traced.operators)
    yield "views", traced.views
    yield "bytes", traced.bytes
    yield "uncounted_operators", len(uncounted)
    yield "uncounted_bytes", sum(op.bytes for op in uncounted)
    yield from hooks.counts(traced.hooks, traced.macs_per_image, traced.spec.batch_size)
    for kind in KINDS:
        operators = [op for op in traced.operators if op.kind == kind]
        if operators:
            yield f"operators.{kind}", len(operators)
            yield f"bytes.{kind}", sum(op.bytes for op in operators)
        if macs := sum(op.macs for op in operators):
            yield f"macs.{kind}", macs // traced.spec.batch_size
    if traced.curve:
        yield "peak_memory_live", traced.curve.peak
        if traced.share is None:
            yield "peak_memory_kept_gradients", traced.curve.peak_kept_gradients
        for category, size in traced.curve.split.items():
            yield f"peak_memory_live.{category}", size
    for category, size in traced.share.kept.items() if traced.share else ():
        yield f"rank_memory.{category}", size


SAMPLES: dict[str, int] = {"forward": 80, "backward": 80, "optimizer": 40}
"""At most so many of each phase: 200 in all."""


def sampled(curve: Curve) -> dict[str, tuple[int, ...]]:
    """The curve of live memory by phase, in order, as few enough numbers for a record.

    Every sample is the *highest* total of an equal share of its phase's events, so the peak is always among them, and
    the curve is an envelope from above. It begins where parameters and optimizer state are in place, because they are
    there before the step is, and ends with the last allocation, because what is released later may be the trace itself
    being put away.
    """
    standing = curve.split["parameters"] + curve.split["optimizer"]
    begin = next(event for event, total in enumerate(curve.totals) if total >= standing)
    grows = (event for event in range(len(curve.totals) - 1, 0, -1) if curve.totals[event] > curve.totals[event - 1])
    starts = [max(first, begin) for first, _ in curve.phases] + [next(grows, 0) + 1]
    return {
        name: _highest(curve.totals[first:end], SAMPLES[name])
        for (_, name), first, end in zip(curve.phases, starts, starts[1:], strict=False)
        if end > first
    }


def _highest(totals: tuple[int, ...], samples: int) -> tuple[int, ...]:
    if len(totals) <= samples:
        return totals
    borders = [place * len(totals) // samples for place in range(samples + 1)]
    return tuple(max(totals[a:b]) for a, b in pairwise(borders))


def by_kind(traced: Trace) -> tuple[Line, ...]:
    """One line per kind, most bytes first: bytes, not MACs, are what an element-wise operator costs."""
    lines = _grouped(traced.operators, lambda op: op.kind)
    return tuple(sorted(lines, key=lambda line: -line.bytes))


def by_stage(traced: Trace, depth: int = 2) -> tuple[Line, ...]:
    """One line per module at `depth` steps below the model, in the order of execution.

    What the model calls itself is `(model)`; backward and optimizer, which no module calls, are separate lines.
    """
    return _grouped(traced.operators, lambda op: _stage(op, depth))


def _stage(op: Operator, depth: int) -> str:
    if op.phase != "forward":
        return f"({op.phase})"
    return ".".join(op.module.split(".")[:depth]) if op.module else "(model)"


def uncounted_lines(traced: Trace) -> tuple[Line, ...]:
    """What the MAC rule has no formula for, by operator, most bytes first."""
    return tuple(sorted(_grouped(traced.uncounted(), lambda op: op.name), key=lambda line: -line.bytes))


def _grouped(operators: Iterable[Operator], name: Callable[[Operator], str]) -> tuple[Line, ...]:
    groups: dict[str, list[Operator]] = {}
    for op in operators:
        groups.setdefault(name(op), []).append(op)
    return tuple(
        Line(
            name=group,
            operators=len(members),
            macs=sum(op.macs for op in members),
            activations=sum(op.activations for op in members),
            bytes=sum(op.bytes for op in members),
        )
        for group, members in groups.items()
    )
