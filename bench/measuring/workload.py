"""From a spec to something that can be timed: model, inputs, one step. The only setter of torch's flags.

What changes a number is decided here, once, and explicitly: whether TF32 is on has a different default for matrix
products and for convolutions and changed between versions of torch, so both are set, always, and after the network's
own code has been imported (`torch_flags`). What is set globally is put back by `Workload.close`. The flags are set
through the properties `allow_tf32`: torch 2.9 added others (`fp32_precision`) and raises where both are used, but the
old ones work, silently, from 2.6 to 2.15.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from visionbench.machine import accelerator
from visionbench.machine.support import UnsupportedError
from visionbench.measuring import replicas, torch_flags
from visionbench.measuring.ranks import Ranks
from visionbench.measuring.replicas import InTurns
from visionbench.models.detection import Detector
from visionbench.models.identity import network_hash
from visionbench.models.inputs import Arguments, Maker, arguments
from visionbench.models.modes import foreign_numbers, mismatch, set_mode
from visionbench.models.outputs import Loss, adamw, first_tensor, labels_shape, loss_of, trained
from visionbench.models.randomness import seed_all, seeded
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
    state; a workload is closed exactly once. `check()` raises `UnsupportedError` if the network has changed a flag.
    `network` stands for a user's network (`models.identity`); `remarks` are what a reader should know of it, `doubts()`
    the flags that what was measured so far deserves. `in_turns` is there where several processes train.
    """

    step: Callable[[], Tensor]
    synchronize: Callable[[], None]
    close: Callable[[], None]
    phases: tuple[Phase, ...] = ()
    check: Callable[[], None] = lambda: None
    network: str | None = None
    remarks: tuple[str, ...] = ()
    doubts: Callable[[], tuple[str, ...]] = tuple
    in_turns: InTurns | None = None

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
    ranks: Ranks | None = None,
) -> Workload:
    """The workload of `spec` on `device`, with weights, inputs and labels drawn from `seed`.

    Where several processes train, `ranks` are they: weights are then alike, and each rank draws another batch.
    Raises what the model raises; torch's flags are then as they were. One workload at a time: flags are global.
    """
    if spec.processes is not None and ranks is None:
        raise UnsupportedError("several processes are measured by `run` alone: leave --processes out")
    from visionbench import models

    with ExitStack() as stack:
        before = stack.enter_context(torch_flags.kept())
        kind = torch.device(device).type
        stack.enter_context(accelerator.selected(device))
        stack.enter_context(seeded(seed, accelerator.generators(device), kind))
        torch_flags.put(_flags(spec, cudnn_benchmark))  # drawing weights may obey them
        # Drawing 350 million weights takes a CPU seconds and a GPU none. A user's factory may rely on the CPU.
        with nullcontext() if spec.model.startswith("user:") else torch.device(device):
            model = models.build(spec.model, spec.image_size, spec.channels)
        # Before the hash, which knows the code that is loaded.
        loss = loss_of(spec.model, spec.loss) if spec.task == "train" else None
        network = network_hash(model) if spec.model.startswith("user:") else None
        torch_flags.put(before | _flags(spec, cudnn_benchmark) | ({} if threads is None else {"threads": threads}))
        stack.enter_context(sdpa_kernel(SDPBackend.MATH) if spec.attention == "math" else nullcontext())
        model, remarks = _prepared(model, spec, device)
        seed += ranks.rank if ranks is not None else 0
        seed_all(seed, on_gpu=kind != "cpu")
        inputs, autocast = _inputs(spec, device, seed), _autocast(spec, device)
        doubts: list[str] = []
        turns: InTurns | None = None
        phases: tuple[Phase, ...] = ()
        if loss and ranks is not None:
            step, turns = _replica(model, spec, ranks, device, inputs, autocast, loss, seed)
        elif loss:
            step, phases = _training(model, inputs, autocast, loss, seed)
        else:
            step = _inference_step(model, inputs, autocast, doubts)
            phases = _inference_phases(model, inputs, autocast)
        return Workload(
            step=step,
            synchronize=accelerator.synchronizer(device),
            close=stack.pop_all().close,
            phases=phases,
            check=partial(torch_flags.check, torch_flags.state()),
            network=network,
            remarks=(*remarks, *inputs.remarks),
            doubts=lambda: tuple(doubts),
            in_turns=turns,
        )


def _flags(spec: Spec, cudnn_benchmark: bool) -> torch_flags.State:
    """What is global in torch as the spec says."""
    tf32 = spec.precision == "tf32"
    flags = {"TF32 in matrix products": tf32, "TF32 in convolutions": tf32, "cudnn.benchmark": cudnn_benchmark}
    # With plain attention torch casts half precision to fp32 first, which no code base of 2022 did.
    return flags | ({"attention's reductions in halves": True} if spec.attention == "math" else {})


def _prepared(model: nn.Module, spec: Spec, device: str) -> tuple[nn.Module, tuple[str, ...]]:
    """The network on its device, in its numbers and its mode, compiled if asked; and remarks about it.

    Raises `UnsupportedError` for one that does not compute in the numbers that its record would name.
    """
    if any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
        raise UnsupportedError("it is on the meta device, without values: build it on the CPU; a trace needs no values")
    if numbers := foreign_numbers(model, spec.precision):
        raise UnsupportedError(f"it {mismatch(numbers, spec.precision)}")
    if spec.precision == "bf16" and isinstance(model, Detector):
        raise UnsupportedError("RoIAlign has no kernel for bf16: use amp_bf16, which computes it in fp32, or fp16")
    model.to(device=device, dtype=_WEIGHTS.get(spec.precision)).to(memory_format=_FORMATS[spec.memory_format])
    remarks = set_mode(model, spec.task == "train")
    if spec.compile_mode is None:
        return model, remarks
    return cast(nn.Module, torch.compile(model, mode=spec.compile_mode)), remarks


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


NO_GRAD = "no_grad"
"""Flag: the model does not run in inference mode, and ran under no_grad."""


def _inference_step(model: nn.Module, inputs: Arguments, autocast: Autocast, doubts: list[str]) -> Callable[[], Tensor]:
    """A forward pass in inference mode; under no_grad for a network that refuses that (it asks for gradients inside).

    Which of the two it is the first call decides; what it could not do is said in `doubts`.
    """
    modes: list[Callable[[], AbstractContextManager[Any]]] = [torch.inference_mode]
    tried = False

    def forward() -> Tensor:
        with modes[-1](), autocast():
            return first_tensor(inputs.call(model))

    def step() -> Tensor:
        nonlocal tried
        if tried:
            return forward()
        tried = True
        try:
            return forward()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            modes.append(torch.no_grad)
            result = forward()
            doubts.append(NO_GRAD)
            return result

    return step


def _inference_phases(model: nn.Module, inputs: Arguments, autocast: Autocast) -> tuple[Phase, ...]:
    """The phases of a detector (`visionbench.models.detection`); none where it is compiled as a whole."""
    images = inputs.tensors()
    if not isinstance(model, Detector) or len(images) != 1:
        return ()

    def uncounted(part: Callable[[], object]) -> Callable[[], object]:
        def run() -> object:
            with torch.inference_mode(), autocast():
                return part()

        return run

    return tuple(Phase(name=name, run=uncounted(part)) for name, part in model.phases(images[0]).items())


def _replica(
    model: nn.Module,
    spec: Spec,
    ranks: Ranks,
    device: str,
    inputs: Arguments,
    autocast: Autocast,
    minimised: Loss,
    seed: int,
) -> tuple[Callable[[], Tensor], InTurns]:
    """The step of a replica, and the other ways of it: loops over the same weights with one optimizer."""
    together = replicas.wrapped(model, spec, ranks, device)
    optimizer = adamw(trained(model))
    synchronised, _ = _training(together, inputs, autocast, minimised, seed, optimizer)
    alone, _ = _training(model, inputs, autocast, minimised, seed, optimizer)

    def unsynchronised() -> Tensor:
        with together.no_sync():
            return synchronised()

    return replicas.checked_at_first(synchronised, model), InTurns(
        ranks=ranks,
        unsynchronised=unsynchronised,
        alone=alone if ranks.rank == 0 else lambda: None,
        equal=lambda: ranks.equal(together.parameters()),
    )


def _training(
    model: nn.Module,
    inputs: Arguments,
    autocast: Autocast,
    minimised: Loss,
    seed: int,
    optimizer: torch.optim.Optimizer | None = None,
) -> tuple[Callable[[], Tensor], tuple[Phase, ...]]:
    """A step of forward, loss, backward and AdamW at torch's defaults; and the same step in three phases.

    The backward pass and the optimizer run outside autocast, as torch's documentation demands. There is no
    `GradScaler`: it costs two small kernels and a synchronisation of the host per step, guards accuracy, not speed, and
    bf16 needs none.
    """
    optimizer = optimizer or adamw(trained(model))
    labels: dict[torch.Size, Tensor] = {}  # the number of classes is known after the first forward
    between: list[tuple[Tensor, Tensor]] = []  # what a phase leaves for the next; a step keeps it to itself

    def drawn(logits: Tensor) -> Tensor:
        if logits.shape not in labels:
            labels[logits.shape] = _labels(logits, seed)
        return labels[logits.shape]

    def forward() -> tuple[Tensor, Tensor]:
        optimizer.zero_grad(set_to_none=True)
        with autocast():
            return minimised(inputs.call(model), drawn, inputs)

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
    return torch.randint(logits.shape[1], labels_shape(logits), generator=generator, device=logits.device)
