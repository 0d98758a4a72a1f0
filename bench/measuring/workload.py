"""From a spec to something that can be timed: model, inputs, one step. The only setter of torch's flags.

What changes a number is decided here, once, and explicitly: whether TF32 is on has a different default for matrix
products and for convolutions and changed between versions of torch, so both are set, always. What is set globally is
put back by `Workload.close`. The flags are set through the properties `allow_tf32`: torch 2.9 added others
(`fp32_precision`) and raises where both are used, but the old ones work, silently, from 2.6 to 2.15.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from visionbench.machine.support import UnsupportedError
from visionbench.models.detection import Detector
from visionbench.models.inputs import Arguments, Maker, arguments
from visionbench.record.inputs import INTEGERS
from visionbench.record.spec import Spec

_WEIGHTS = {"fp16": torch.float16, "bf16": torch.bfloat16}
_AUTOCAST = {"amp_fp16": torch.float16, "amp_bf16": torch.bfloat16}
_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}

Autocast = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A named part of a step. `run()` enqueues it; what a phase leaves for the next one stays with the workload."""

    name: str
    run: Callable[[], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A spec made runnable on one device; satisfies `timing.Steps`.

    `step()` enqueues one iteration and returns its logits (inference) or its loss (train). `phases`, run in their
    order, are one step taken apart, on the same model and optimizer; of an inference a detector's have them: its dense
    part taken apart, and the post-processing, which is no part of a step. `close()` restores torch's flags and random
    state; a workload is closed exactly once.
    """

    step: Callable[[], Tensor]
    synchronize: Callable[[], None]
    close: Callable[[], None]
    phases: tuple[Phase, ...] = ()

    def is_finite(self, result: Tensor) -> bool:
        """Whether no element is NaN or infinite. Waits for the device."""
        return bool(torch.isfinite(result).all())


def build(
    spec: Spec,
    device: str,
    *,
    seed: int = 0,
    cudnn_benchmark: bool = True,
    threads: int | None = None,
) -> Workload:
    """The workload of `spec` on `device`, with weights, inputs and labels drawn from `seed`.

    Raises what the model raises; torch's flags are then as they were. One workload at a time: flags are global.
    """
    with ExitStack() as stack:
        stack.enter_context(_flags(spec, device, cudnn_benchmark, threads))
        stack.enter_context(_random(device, seed))
        model = _model(spec, device)
        inputs = _inputs(spec, device, seed)
        autocast = _autocast(spec, device)
        if spec.task == "train":
            step, phases = _training(model, inputs, autocast, seed)
        else:
            step, phases = _inference_step(model, inputs, autocast), _inference_phases(model, inputs, autocast)
        return Workload(step=step, synchronize=_synchronize(device), close=stack.pop_all().close, phases=phases)


@contextmanager
def _flags(spec: Spec, device: str, cudnn_benchmark: bool, threads: int | None) -> Iterator[None]:
    """Set what is global in torch as the spec says, and put back what was found."""
    cuda, matmul, cudnn = torch.backends.cuda, torch.backends.cuda.matmul, torch.backends.cudnn
    found = (matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, torch.get_num_threads())
    in_half = cuda.fp16_bf16_reduction_math_sdp_allowed()
    try:
        matmul.allow_tf32 = cudnn.allow_tf32 = spec.precision == "tf32"
        cudnn.benchmark = cudnn_benchmark
        if threads is not None:
            torch.set_num_threads(threads)
        if spec.attention == "math":  # or torch casts half precision to fp32 first, which no code base of 2022 did
            cuda.allow_fp16_bf16_reduction_math_sdp(True)
        math_only = sdpa_kernel(SDPBackend.MATH) if spec.attention == "math" else nullcontext()
        on_device = torch.cuda.device(device) if torch.device(device).type == "cuda" else nullcontext()
        with math_only, on_device:
            yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, count = found
        cuda.allow_fp16_bf16_reduction_math_sdp(in_half)
        if threads is not None:
            torch.set_num_threads(count)


@contextmanager
def _random(device: str, seed: int) -> Iterator[None]:
    """Draw weights, and what a training step draws, from `seed`; put the generators back afterwards."""
    on_cuda = torch.device(device).type == "cuda"
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if on_cuda else []):
        torch.manual_seed(seed)
        yield


def _model(spec: Spec, device: str) -> nn.Module:
    from visionbench import models

    # Drawing 350 million weights takes a CPU seconds and a GPU none. A user's factory may rely on the CPU.
    born = nullcontext() if spec.model.startswith("user:") else torch.device(device)
    with born:
        model = models.build(spec.model, spec.image_size, spec.channels)
    model.to(device=device, dtype=_WEIGHTS.get(spec.precision)).to(memory_format=_FORMATS[spec.memory_format])
    model.train(spec.task == "train")
    if spec.precision == "bf16" and isinstance(model, Detector):
        raise UnsupportedError("RoIAlign has no kernel for bf16: use amp_bf16, which computes it in fp32, or fp16")
    if spec.compile_mode is None:
        return model
    return cast(nn.Module, torch.compile(model, mode=spec.compile_mode))


def _inputs(spec: Spec, device: str, seed: int) -> Arguments:
    """One batch, by default of images (N, 3, H, W), normal random: a GPU that multiplies zeros switches fewer bits and
    runs faster.
    """
    generator = torch.Generator(device).manual_seed(seed)
    plain = _WEIGHTS.get(spec.precision, torch.float32)

    def draw(shape: tuple[int, ...], dtype: str, low: int, high: int) -> Tensor:
        if dtype in INTEGERS:
            drawn = torch.randint(low, high + 1, shape, generator=generator, device=device, dtype=torch.int64)
            return drawn.to(getattr(torch, dtype))
        kind = plain if dtype == "float" else torch.float32
        drawn = torch.randn(shape, generator=generator, device=device, dtype=kind)
        return drawn > 0 if dtype == "bool" else laid_out(drawn)

    def place(tensor: Tensor) -> Tensor:
        kind = plain if tensor.dtype == torch.float32 else tensor.dtype
        return laid_out(tensor.detach().to(device=device, dtype=kind))

    def laid_out(tensor: Tensor) -> Tensor:
        return tensor.to(memory_format=_FORMATS[spec.memory_format]) if tensor.dim() == 4 else tensor

    maker = Maker(draw=draw, place=place)
    return arguments(spec.model, spec.described, spec.batch_size, spec.image_size, maker)


def _autocast(spec: Spec, device: str) -> Autocast:
    """The context of a step's forward. It is entered anew in each step, as a training loop and a server do: the casts
    of the weights, which autocast keeps until it is left, are part of the cost.
    """
    dtype = _AUTOCAST.get(spec.precision)
    if dtype is None:
        return nullcontext
    kind = torch.device(device).type
    autocast = partial(torch.autocast, kind, dtype=dtype)
    with autocast():
        if not torch.is_autocast_enabled(kind):  # it warns and goes on in fp32
            raise UnsupportedError(f"autocast to {dtype} does not work on this {kind}")
    return autocast


def _inference_step(model: nn.Module, inputs: Arguments, autocast: Autocast) -> Callable[[], Tensor]:
    def step() -> Tensor:
        with torch.inference_mode(), autocast():
            return _logits(inputs.call(model))

    return step


def _inference_phases(model: nn.Module, inputs: Arguments, autocast: Autocast) -> tuple[Phase, ...]:
    """The phases of a detector (`visionbench.models.detection`); none where it is compiled as a whole."""
    if not isinstance(model, Detector):
        return ()

    def uncounted(part: Callable[[], object]) -> Callable[[], object]:
        def run() -> object:
            with torch.inference_mode(), autocast():
                return part()

        return run

    (images,) = inputs.tensors()
    return tuple(Phase(name=name, run=uncounted(part)) for name, part in model.phases(images).items())


def _training(
    model: nn.Module, inputs: Arguments, autocast: Autocast, seed: int
) -> tuple[Callable[[], Tensor], tuple[Phase, ...]]:
    """A step of forward, cross-entropy, backward and AdamW at torch's defaults; and the same step in three phases.

    The backward pass and the optimizer run outside autocast, as torch's documentation demands. There is no
    `GradScaler`: it costs two small kernels and a synchronisation of the host per step, guards accuracy, not speed, and
    bf16 needs none.
    """
    optimizer = torch.optim.AdamW(model.parameters())
    labels: Tensor | None = None  # the number of classes is known after the first forward
    between: list[tuple[Tensor, Tensor]] = []  # what a phase leaves for the next; a step keeps it to itself

    def forward() -> tuple[Tensor, Tensor]:
        nonlocal labels
        optimizer.zero_grad(set_to_none=True)
        with autocast():
            logits = _logits(inputs.call(model))
            if labels is None:
                labels = _labels(logits, seed)
            return logits, nn.functional.cross_entropy(logits, labels)

    def step() -> Tensor:
        _kept, loss = forward()  # a training loop's logits live until the step ends, so they do here
        loss.backward()
        optimizer.step()
        return loss.detach()

    def backward() -> None:
        between[0][1].backward()

    def update() -> None:
        optimizer.step()
        between.clear()

    return step, (
        Phase(name="forward", run=lambda: between.append(forward())),
        Phase(name="backward", run=backward),
        Phase(name="optimizer", run=update),
    )


def _labels(logits: Tensor, seed: int) -> Tensor:
    """Random classes for logits (N, C, ...): integers (N, ...) below C."""
    generator = torch.Generator(logits.device).manual_seed(seed)
    shape = (logits.shape[0], *logits.shape[2:])
    return torch.randint(logits.shape[1], shape, generator=generator, device=logits.device)


def _logits(output: object) -> Tensor:
    """A model's output as one tensor: itself, or the first tensor of a tuple, a list or a mapping."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        output = tuple(output.values())
    if isinstance(output, Sequence):
        for part in output:
            if isinstance(part, Tensor):
                return part
    raise TypeError(f"the model returned {type(output).__name__}: it must return a tensor of logits")


def _synchronize(device: str) -> Callable[[], None]:
    if torch.device(device).type == "cuda":
        return partial(torch.cuda.synchronize, device)
    return lambda: None  # a CPU's operators return when they are done
