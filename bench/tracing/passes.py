"""One step on the meta device: the network is built, put into its mode, called once if need be, and then recorded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache, partial
from typing import Any

import torch
from torch.nn.modules.lazy import LazyModuleMixin

from visionbench.models.modes import foreign_numbers, mismatch, set_mode
from visionbench.models.outputs import UntrainableError, adamw, first_tensor, labels_shape, loss_of, trained
from visionbench.models.randomness import drawn_since, seed_all, seeded, states
from visionbench.models.reasons import reason_of, sentence, text_of
from visionbench.record.errors import BenchError
from visionbench.record.spec import Spec
from visionbench.tracing.autocast import replaced
from visionbench.tracing.call_cache import empty_as
from visionbench.tracing.live import LiveTensors
from visionbench.tracing.operators import Recorder
from visionbench.tracing.overrides import overrides
from visionbench.tracing.skeleton import DTYPES, inputs_on, skeleton, to_meta

SEED = 0
"""What a network draws at random in a trace, it draws from this."""


class UntraceableError(BenchError):
    """A model that no trace can follow: it reads values, or its operators have no shapes. It may run."""


class UntrainableStepError(BenchError):
    """A model that has nothing to train, or trains by its own loss; its inference can be counted."""


def stepped(
    spec: Spec, former: bool, begins: Callable[[], None] = lambda: None
) -> tuple[torch.nn.Module, Recorder, tuple[str, ...]]:
    """Run the step of a new network; the network, what was recorded, and what a reader should know.

    A forward pass that makes new tensors on the default device may need that to be ours; it begins anew then,
    with a network that has seen nothing. `begins` is called before the step that is recorded.
    """
    try:
        return _stepped(spec, former, begins)
    except RuntimeError as error:
        if "device" not in text_of(error):
            raise
    with torch.device("meta"):
        return _stepped(spec, former, begins)


def _stepped(spec: Spec, former: bool, begins: Callable[[], None]) -> tuple[torch.nn.Module, Recorder, tuple[str, ...]]:
    model = skeleton(spec.model, spec.image_size, spec.channels)
    # The zoo's networks follow torch's conventions; asking each of their modules costs a tenth of a trace.
    is_foreign = spec.model.startswith("user:")
    remarks = set_mode(model, spec.task == "train") if is_foreign else ()
    if not is_foreign:
        model.train(spec.task == "train")
    elif numbers := foreign_numbers(model, spec.precision):
        raise BenchError(f"{spec.model} {mismatch(numbers, spec.precision)}.")
    if (dtype := DTYPES.get(spec.precision, torch.float32)) != torch.float32:
        model.to(dtype)
    if spec.memory_format == "channels_last":
        model.to(memory_format=torch.channels_last)
    with seeded(SEED), torch.enable_grad(), torch.compiler.set_stance("force_eager"), _threads() as begun:
        before = None if is_foreign else _attributes(model)
        first, seen = _call_first(model, spec, former) if before is None else ([], ())
        begins()
        recorder, drawn = _step(model, spec, former)
        if before is not None and not _unchanged(before):
            to_meta(model)
            begins()
            recorder, drawn = _step(model, spec, former)
        varies = not drawn and before is None and _varies(model, spec, former, first, _products(recorder))
    remarks += seen
    if varies:
        remarks += ("its counts differ from call to call, and these are of one of them",)
    if is_foreign and begun:
        recorder.not_counted("threads")
    if recorder.offloads:
        remarks += ("it moves tensors to the host: each is counted as a copy there, the way back as none",)
    if drawn:
        remarks += (f"it draws at random ({', '.join(drawn)}): its counts are those of the seed {SEED}",)
    return model, recorder, remarks


@contextmanager
def _threads() -> Iterator[list[str]]:
    """The names of the threads that begin meanwhile: what they compute, no recorder of this thread sees."""
    before = threading.Thread.start
    begun: list[str] = []

    def start(self: threading.Thread) -> None:
        begun.append(self.name)
        before(self)

    with replaced(threading.Thread, start=start):
        yield begun


def _call_first(model: torch.nn.Module, spec: Spec, former: bool) -> tuple[Products, tuple[str, ...]]:
    """What a network does only once, it does now: initialise lazy layers, try what works, fill tables.

    Returns its products, and remarks about its inputs.
    """
    recorder = Recorder()
    gradients = nullcontext() if spec.task == "train" else torch.no_grad()
    with gradients, _on_a_gpu(spec, recorder, former), recorder, _autocast(spec):
        inputs = inputs_on(spec)
        inputs.call(model)
    to_meta(model)  # a layer made just now may be on the CPU
    return _products(recorder), inputs.remarks


Products = list[tuple[str, int]]
"""Operators that multiply and their multiply-accumulates, in order, of a forward pass."""


def _products(recorder: Recorder) -> Products:
    return [(op.name, op.macs) for op in recorder.operators if op.macs and op.phase == "forward"]


def _varies(model: torch.nn.Module, spec: Spec, former: bool, first: Products, step: Products) -> bool:
    """Whether a network does something else in each call, though it draws from no generator that is seeded.

    Most do in the step what they did in their first call, and are called no more. A loss may multiply after it.
    """
    if step[: len(first)] == first:
        return False
    again = (_call_first(model, spec, former)[0] for _ in range(_CALLS))
    return any(step[: len(products)] != products for products in again)


_CALLS = 3
"""Calls that are looked at before a network counts as steady."""


State = list[tuple[torch.nn.Module, tuple[dict[str, Any], ...], list[tuple[Any, int]]]]
"""Of each module that a call may change: copies of its attributes, parameters, buffers and children, and its
containers with their lengths."""

_PLAIN = frozenset(vars(torch.nn.Module()))


def _attributes(model: torch.nn.Module) -> State:
    return [
        (module, tuple(map(dict.copy, _stores(module))), list(_containers(module)))
        for module in model.modules()
        if module._modules or module._forward_pre_hooks or not _is_torchs(module.__class__)  # type: ignore[arg-type]
    ]


@cache
def _is_torchs(kind: type[torch.nn.Module]) -> bool:
    """Whether this class is a layer of torch itself, which keeps its attributes when called; lazy ones don't."""
    return kind.__module__.startswith("torch.nn.modules.") and not issubclass(kind, LazyModuleMixin)


def _stores(module: torch.nn.Module) -> tuple[dict[str, Any], ...]:
    return vars(module), module._parameters, module._buffers, module._modules


def _containers(module: torch.nn.Module) -> Iterator[tuple[Any, int]]:
    attributes = vars(module)
    for name in attributes.keys() - _PLAIN:
        if isinstance(value := attributes[name], (dict, list, set)):
            yield value, len(value)


def _unchanged(before: State) -> bool:
    """Whether a call has left the network as it was. Equal is what is the same object, so it takes no time."""
    try:  # a module that came or went is in the store of another
        return all(
            stores == _stores(module) and all(len(container) == length for container, length in containers)
            for module, stores, containers in before
        )
    except (RuntimeError, ValueError):  # tensors that are not the same cannot be compared
        return False


def _step(model: torch.nn.Module, spec: Spec, former: bool) -> tuple[Recorder, tuple[str, ...]]:
    recorder = Recorder(LiveTensors() if spec.task == "train" else None)
    model.zero_grad(set_to_none=True)
    seed_all(SEED)
    before = states()
    (_train if spec.task == "train" else _infer)(model, spec, recorder, former)
    return recorder, drawn_since(before)


def failed(spec: Spec, error: BaseException) -> BenchError:
    """What a network raised as one sentence with the remedy that can help."""
    if isinstance(error, UntrainableError):
        return UntrainableStepError(f"{spec.model} cannot be trained: {error}; --task inference counts it.")
    reason = reason_of(error)
    if reason.cause == "values":
        return UntraceableError(
            f"{spec.model} cannot be counted without weights: try `run`, for its forward pass reads tensor values."
        )
    if reason.untraceable:
        return UntraceableError(f"{spec.model} cannot be traced ({sentence(error)}): {reason.remedy}.")
    kind = UntrainableStepError if reason.cause == "targets" and spec.task == "train" else BenchError
    return kind(f"{spec.model} does not run {spec.fed} ({sentence(error)}): {reason.remedy}.")


def _autocast(spec: Spec) -> AbstractContextManager[Any]:
    """The region that the precision asks for; to be opened while `overrides` are in place."""
    if not spec.precision.startswith("amp_"):
        return nullcontext()
    return torch.autocast("cuda", dtype=DTYPES[spec.precision.removeprefix("amp_")])


def _on_a_gpu(spec: Spec, recorder: Recorder, former: bool) -> AbstractContextManager[None]:
    return overrides(fused=spec.attention == "fused", seen=recorder.fused_kernel, former=former)


def _infer(model: torch.nn.Module, spec: Spec, recorder: Recorder, former: bool) -> None:
    # no_grad, not inference_mode: only so are composite operators taken apart before they reach the recorder.
    given = inputs_on(spec)
    with torch.no_grad(), _on_a_gpu(spec, recorder, former), _autocast(spec), recorder.watching(model), recorder:
        first_tensor(given.call(model))


def _train(model: torch.nn.Module, spec: Spec, recorder: Recorder, former: bool) -> None:
    """Forward, cross-entropy, backward, AdamW, in the steady state: gradients start as None, optimizer state exists.

    What would be live if they were kept from step to step (`LiveTensors.peak_kept_gradients`) is worked out from when
    each of them arrives.
    """
    live = recorder.live
    assert live is not None
    optimizer = _optimizer_in_steady_state(model)

    def labels(logits: torch.Tensor) -> torch.Tensor:
        return torch.empty(labels_shape(logits), dtype=torch.long, device="meta")

    given, minimised = inputs_on(spec), loss_of(spec.model, spec.loss)
    for number, parameter in enumerate(optimizer.param_groups[0]["params"]):
        parameter.register_hook(partial(live.arrive, number))
    live.phase("forward")
    live.add([*model.parameters(), *model.buffers()], "parameters")
    live.add([t for state in optimizer.state.values() for t in state.values() if t.is_meta], "optimizer")
    live.add(given.tensors(), "activations")
    live.add([p.grad for p in model.parameters() if p.grad is not None], "gradients")
    with _on_a_gpu(spec, recorder, former), recorder.watching(model), recorder:
        with _autocast(spec):
            loss = minimised(given.call(model), labels, given)[1]
        live.keep()
        recorder.phase = "backward"
        live.phase("backward")
        loss.backward()
        live.mark((p.grad for p in model.parameters()), "gradients")
        recorder.phase = "optimizer"
        live.phase("optimizer")
        optimizer.step()
    without = [parameter for parameter in optimizer.param_groups[0]["params"] if parameter.grad is None]
    live.never(t for parameter in without for t in optimizer.state[parameter].values() if t.is_meta)


def _optimizer_in_steady_state(model: torch.nn.Module) -> torch.optim.Optimizer:
    """AdamW as it is from its second step on: it holds two moments per parameter (Loshchilov & Hutter 2019).

    `foreach` is what torch chooses on CUDA: one operator for the list of all parameters, not one per parameter.
    """
    parameters = trained(model)
    optimizer = adamw(parameters, foreach=True)
    for parameter in parameters:
        moments = {name: empty_as(parameter) for name in ("exp_avg", "exp_avg_sq")}
        optimizer.state[parameter] = {"step": torch.tensor(1.0, device="cpu"), **moments}
    return optimizer
