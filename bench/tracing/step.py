"""One step of a spec on the meta device, and what is counted of it."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from typing import Any

import torch

from visionbench.record.errors import BenchError
from visionbench.record.metrics import measurement
from visionbench.record.record import Environment, Record
from visionbench.record.spec import Spec, refuse_unbuilt
from visionbench.tracing import hooks
from visionbench.tracing.call_cache import empty_as
from visionbench.tracing.inputs import meta_inputs
from visionbench.tracing.kinds import KINDS, Kind
from visionbench.tracing.live import CATEGORIES, Curve, LiveTensors
from visionbench.tracing.operators import Operator, Recorder
from visionbench.tracing.overrides import overrides
from visionbench.tracing.sampling import measurements as curve_measurements
from visionbench.tracing.skeleton import skeleton

PRODUCTS_MISSED = "products_missed"
"""The flag of counts that leave out operators that multiply."""

_DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What one step of `spec` does. Counts are of the whole batch; `*_per_image` divide by it exactly.

    `views` are operators that move nothing. `curve` is None for inference. `family` is the Python module in which the
    network's class is defined (`timm.models.resnet`): what models that share code share. `hooks` are the terms of the
    detection toolbox's counter, of a detector's or segmentor's inference alone (`visionbench.tracing.hooks`).
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


def _stepped(model: torch.nn.Module, spec: Spec, former: bool) -> Recorder:
    """Run the step. A forward pass that makes new tensors on the default device may need that to be ours."""
    try:
        return _step(model, spec, former)
    except RuntimeError as error:
        if "device" not in str(error):
            raise
    with torch.device("meta"):
        return _step(model, spec, former)


def _step(model: torch.nn.Module, spec: Spec, former: bool) -> Recorder:
    recorder = Recorder(LiveTensors() if spec.task == "train" else None)
    model.zero_grad(set_to_none=True)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        _STEPS[spec.task](model, spec, recorder, former)
    return recorder


class UntraceableError(BenchError):
    """A model whose forward pass reads tensor values, which a trace without weights does not have. It may still run."""


def run(spec: Spec, *, former: bool = False) -> Trace:
    """Trace one step of `spec`; `former`: as torch before 1.11, which kept more for the backward pass (`stepwise`).

    Raises `models.ModelError` (unknown model, size refused at construction), `UntraceableError`, or `BenchError`
    (the forward pass fails, mostly because it refuses the size).
    """
    refuse_unbuilt(spec)
    # What a user's factory prints is no result of ours.
    with _collector_paused(), redirect_stdout(sys.stderr):
        return _run(spec, former)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """A collection in the middle would release tensors at an unrelated moment, and takes longer than the trace."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _run(spec: Spec, former: bool) -> Trace:
    model = skeleton(spec.model, spec.image_size, spec.channels)
    model.train(spec.task == "train")
    _set_dtypes(model, spec)
    try:
        recorder = _stepped(model, spec, former)
    except (Exception, SystemExit) as error:  # any model may raise anything, and a script may well exit
        raise _failed(spec, error) from error
    return Trace(
        spec=spec,
        params=_elements(model.parameters()),
        param_bytes=_bytes(model.parameters()),
        buffers=_elements(model.buffers()),
        buffer_bytes=_bytes(model.buffers()),
        operators=tuple(recorder.operators),
        views=recorder.views,
        curve=recorder.live.curve() if recorder.live else None,
        family=type(model).__module__,
        hooks=dict(recorder.hooks) if recorder.hooks and spec.task == "inference" else None,
    )


def _failed(spec: Spec, error: BaseException) -> BenchError:
    reason = (str(error).strip() or type(error).__name__).split("\n")[0].rstrip(".")
    if "meta" in reason.lower() and any(word in reason.lower() for word in ("item", "data", "numpy", "meta tensors")):
        return UntraceableError(
            f"{spec.model} cannot be counted without weights: try `run`, for its forward pass reads tensor values."
        )
    return BenchError(
        f"{spec.model} does not run at {spec.image_size} px ({reason}): choose another --image-size, or mend the model."
    )


def _set_dtypes(model: torch.nn.Module, spec: Spec) -> None:
    dtype = _DTYPES.get(spec.precision, torch.float32)
    if dtype != torch.float32:
        model.to(dtype)
    if spec.memory_format == "channels_last":
        model.to(memory_format=torch.channels_last)


def _autocast(spec: Spec) -> AbstractContextManager[Any]:
    """The region that the precision asks for; to be opened while `overrides` are in place."""
    if not spec.precision.startswith("amp_"):
        return nullcontext()
    return torch.autocast("cuda", dtype=_DTYPES[spec.precision.removeprefix("amp_")])


def _infer(model: torch.nn.Module, spec: Spec, recorder: Recorder, former: bool) -> None:
    # no_grad, not inference_mode: only so are composite operators taken apart before they reach the recorder.
    given = meta_inputs(spec)
    fused, seen = spec.attention == "fused", recorder.fused_kernel
    on_a_gpu = overrides(fused=fused, seen=seen, former=former)
    with torch.no_grad(), on_a_gpu, _autocast(spec), recorder.watching(model), recorder:
        given.call(model)


def _train(model: torch.nn.Module, spec: Spec, recorder: Recorder, former: bool) -> None:
    """Forward, cross-entropy, backward, AdamW, in the steady state: gradients start as None, optimizer state exists.

    What would be live if they were kept from step to step (`LiveTensors.peak_kept_gradients`) is worked out from when
    each of them arrives.
    """
    live = recorder.live
    assert live is not None
    optimizer = _optimizer_in_steady_state(model)
    given = meta_inputs(spec)
    for parameter in optimizer.param_groups[0]["params"]:
        parameter.register_hook(live.arrive)
    live.phase("forward")
    live.add([*model.parameters(), *model.buffers()], "parameters")
    live.add([t for state in optimizer.state.values() for t in state.values() if t.is_meta], "optimizer")
    live.add(given.tensors(), "activations")
    live.add([p.grad for p in model.parameters() if p.grad is not None], "gradients")
    fused, seen = spec.attention == "fused", recorder.fused_kernel
    with overrides(fused=fused, seen=seen, former=former), recorder.watching(model), recorder:
        with _autocast(spec):
            loss = _loss(given.call(model), spec)
        live.keep()
        recorder.phase = "backward"
        live.phase("backward")
        loss.backward()
        live.mark((p.grad for p in model.parameters()), "gradients")
        recorder.phase = "optimizer"
        live.phase("optimizer")
        optimizer.step()


_STEPS: dict[str, Callable[[torch.nn.Module, Spec, Recorder, bool], None]] = {"inference": _infer, "train": _train}


def _loss(output: torch.Tensor, spec: Spec) -> torch.Tensor:
    labels = torch.empty(spec.batch_size, dtype=torch.long, device="meta")
    return torch.nn.functional.cross_entropy(output, labels)


def _optimizer_in_steady_state(model: torch.nn.Module) -> torch.optim.Optimizer:
    """AdamW as it is from its second step on: it holds two moments per parameter (Loshchilov & Hutter 2019).

    `foreach` is what torch chooses on CUDA: one operator for the list of all parameters, not one per parameter.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, foreach=True)
    for parameter in parameters:
        moments = {name: empty_as(parameter) for name in ("exp_avg", "exp_avg_sq")}
        optimizer.state[parameter] = {"step": torch.tensor(1.0, device="cpu"), **moments}
    return optimizer


def _elements(tensors: Iterable[torch.Tensor]) -> int:
    return sum(t.numel() for t in tensors)


def _bytes(tensors: Iterable[torch.Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def trace(spec: Spec, environment: Environment) -> Record:
    """The exact counts of one step as a record of source "computed". Raises as `run`.

    Per image: `macs`, `flops` (2 x MACs), `activations`. Per step: `operators`, `views`, `bytes`, each also by kind
    (`operators.conv`, `bytes.conv`; `macs.conv` per image), and what the MAC rule does not count
    (`uncounted_operators`, `uncounted_bytes`). A training step adds `peak_memory_live` with its split, its curve
    (`live_memory.forward` and so on: `sampling`), and `peak_memory_kept_gradients` (`record.memory`). Per model:
    `params`, `param_bytes`, `buffers`, `buffer_bytes`.
    """
    return to_record(run(spec), environment)


def to_record(traced: Trace, environment: Environment) -> Record:
    """The counts of a trace as a record."""
    flags = (PRODUCTS_MISSED,) if missed(traced) else ()
    exact = tuple(
        measurement(name, (value,), flags=flags if name in ("macs", "flops", "activations") else ())
        for name, value in _counts(traced)
    )
    measurements = (*exact, *curve_measurements(traced.curve))
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
        yield from _counts_of_kind(kind, [op for op in traced.operators if op.kind == kind], traced.spec.batch_size)
    if traced.curve:
        yield "peak_memory_live", traced.curve.peak
        yield "peak_memory_kept_gradients", traced.curve.peak_kept_gradients
        for category in CATEGORIES:
            yield f"peak_memory_live.{category}", traced.curve.split[category]


def _counts_of_kind(kind: Kind, operators: list[Operator], batch_size: int) -> Iterator[tuple[str, int]]:
    if operators:
        yield f"operators.{kind}", len(operators)
        yield f"bytes.{kind}", sum(op.bytes for op in operators)
    if macs := sum(op.macs for op in operators):
        yield f"macs.{kind}", macs // batch_size
