"""What is measured (`Spec`) and how (`Protocol`): frozen, hashable, and written into every record.

Two equal specs are one row of a table. A row must be quotable, so a variant of a model is a new name, never a bag of
keyword arguments, and everything that changes a number is a field here: a batch size or an attention kernel set by an
environment variable cannot be compared with anything.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

from visionbench.record.errors import BenchError, choose
from visionbench.record.inputs import Input, image_of, images_of, parse, texts_of, users_function

Task = Literal["inference", "train"]
Precision = Literal["fp32", "tf32", "fp16", "bf16", "amp_fp16", "amp_bf16"]
MemoryFormat = Literal["contiguous", "channels_last"]
CompileMode = Literal["default", "reduce-overhead", "max-autotune"]
Attention = Literal["fused", "math"]
Parallel = Literal["ddp", "ddp_views", "fsdp2"]

TASKS: tuple[str, ...] = get_args(Task)
PRECISIONS: tuple[str, ...] = get_args(Precision)
MEMORY_FORMATS: tuple[str, ...] = get_args(MemoryFormat)
COMPILE_MODES: tuple[str, ...] = get_args(CompileMode)
ATTENTIONS: tuple[str, ...] = get_args(Attention)
PARALLELS: tuple[str, ...] = get_args(Parallel)

ImageSize = int | tuple[int, int]
"""Pixels: the side of a square image, or height and width."""


SIZE = re.compile(r"[0-9]{1,9}(x[0-9]{1,9})?")
"""How an image size is written."""


class Rectangle(NamedTuple):
    """The size of an image that is not square, in pixels; equal to the pair of them, and written `800x1280`."""

    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"


def sides(size: ImageSize) -> tuple[int, int]:
    """Height and width in pixels."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def image_size(text: str) -> ImageSize:
    """`224` -> 224; `800x1280` -> (800, 1280), height first; `224x224` -> 224. Raises `BenchError` for other text."""
    if not SIZE.fullmatch(text):
        raise BenchError(f"an image size is 224, or height x width as in 800x1280, and not '{text}'.")
    sides = tuple(map(int, text.split("x")))
    if min(sides) < 1:
        raise BenchError(f"an image has at least 1 pixel a side, and not '{text}'.")
    return _image_size(sides if len(sides) > 1 else sides[0])


def _image_size(size: object) -> ImageSize:
    """One whole number for a square, a `Rectangle` for another pair. Raises `BenchError` for what is no size."""
    if size.__class__ is int and size > 0:
        return size
    pair = tuple(size) if isinstance(size, Sequence) and not isinstance(size, str) else (size, size)
    if len(pair) != 2 or any(isinstance(side, bool) or not isinstance(side, int) or side < 1 for side in pair):
        raise BenchError(
            f"image size must be a whole number of at least 1, or a pair of them (height, width), not {size!r}."
        )
    height, width = pair
    return height if height == width else Rectangle(height, width)


IMAGE_SIZE = 224
"""Pixels, where nothing is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What is measured: one model, one task, one way of running it.

    `model` is a qualified name (`timm:convnext_tiny`, `paper:convnext_iso_small`, `user:package.module:factory`):
    two implementations of one architecture can differ several times in speed, so a bare name is not enough.
    `batch_size` is images per step; `image_size` pixels of the square input, or (height, width), where a square pair is
    kept as one number and another as a `Rectangle`. `image_width` is None: a line of schema 2 keeps a rectangle's width
    there (`stored`), from where it is taken into `image_size`. `inputs` are what the network is given instead of images
    of three channels, as one types them (`visionbench.record.inputs`); a description of just these is None.
    `attention="math"` computes softmax(QK^T)V step by step and keeps the N x N matrix, as every 2022 code base did;
    "fused" may use one kernel. `loss` is a function of the user's that a training step minimises (`user:module:name`),
    None for the rule of `models.outputs`. `processes` train replicas together, each on another GPU with another batch
    (weak scaling); `parallel` says how: `ddp` is torch's DistributedDataParallel as it comes, `ddp_views` the
    same with `gradient_as_bucket_view`, `fsdp2` is `fully_shard`. None is one process. `backend` (what runs the model,
    if not torch) is a place for what is coming, and `check_parallel` refuses it and what does not fit together.
    Raises `BenchError` for a word that is not on its list or a size below 1.
    """

    model: str
    task: Task = "inference"
    batch_size: int = 1
    image_size: ImageSize = IMAGE_SIZE
    precision: Precision = "fp32"
    memory_format: MemoryFormat = "contiguous"
    compile_mode: CompileMode | None = None
    attention: Attention = "fused"
    inputs: tuple[str, ...] | None = None
    loss: str | None = None
    image_width: int | None = None
    processes: int | None = None
    backend: str | None = None
    parallel: Parallel | None = None

    def __post_init__(self) -> None:
        choose("task", self.task, TASKS)
        choose("precision", self.precision, PRECISIONS)
        choose("memory format", self.memory_format, MEMORY_FORMATS)
        choose("attention", self.attention, ATTENTIONS)
        if self.compile_mode is not None:
            choose("compile mode", self.compile_mode, COMPILE_MODES)
        if self.parallel is not None:
            choose("way of training in parallel", self.parallel, PARALLELS)
        size = self.image_size if self.image_width is None else (self.image_size, self.image_width)
        object.__setattr__(self, "image_size", _image_size(size))
        object.__setattr__(self, "image_width", None)
        if self.inputs is not None:
            object.__setattr__(self, "inputs", self._inputs())
        if self.loss is not None:
            users_function(self.loss)
        sizes = {"batch size": self.batch_size}
        sizes |= {"number of processes": self.processes} if self.processes is not None else {}
        for name, value in sizes.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise BenchError(f"{name} must be a whole number of at least 1, not {value!r}.")

    def _inputs(self) -> tuple[str, ...] | None:
        texts = tuple(map(str, parse(texts_of(self.inputs))))
        height, width = sides(self.image_size)
        # A user's module, and torchvision's networks for video, have inputs of their own where nothing is said.
        images = (f"3x{height}x{width}",) if not self.model.startswith(("user:", "torchvision:")) else ()
        return None if texts in ((), images) else texts

    @property
    def described(self) -> tuple[Input, ...]:
        """The inputs, one by one; () for images of three channels, or what the user's module says."""
        return parse(self.inputs or ())

    @property
    def channels(self) -> int:
        """Channels of the image among the inputs."""
        return (image_of(self.inputs or ()) or (3,))[0]

    @property
    def network(self) -> tuple[str, ImageSize, tuple[str, ...] | None]:
        """What the counts of an image depend on beside the task: the model, its image size and its inputs."""
        return (self.model, self.image_size, self.inputs)

    @property
    def pixels(self) -> str:
        """Side, or height and width, of the images: `224`, `800x1280`; "" where no input is one and none was asked for.

        A user's function gets the image size as an argument, so it stands for what that returns.
        """
        if not self.inputs or any(one.function for one in self.described):
            return str(self.image_size)
        sizes = [_image_size(image[1:]) for image in images_of(self.inputs)]
        if not sizes:
            return "" if self.image_size == IMAGE_SIZE else str(self.image_size)
        return str(self.image_size if self.image_size in sizes else sizes[0])

    @property
    def fed(self) -> str:
        """The same in a sentence: `at 224 px`, `with ids=77:int64:0..9`."""
        return f"at {self.pixels} px" if self.pixels else f"with {', '.join(self.inputs or ())}"

    @property
    def size(self) -> str:
        """What the network is given, in a word or two: `224`, `800x1280`, `224 1x224x224`, `ids=77:int64:0..9`."""
        return " ".join(filter(None, (self.pixels, *(self.inputs or ()))))

    def __str__(self) -> str:
        """`timm:convnext_tiny@224 inference b64 fp32`, plus every field that is not at its default.

        `@` and the size of images stand only where the network is given some.
        """
        words = [f"{self.model}@{self.pixels}".rstrip("@"), self.task, f"b{self.batch_size}", self.precision]
        words += [self.memory_format] if self.memory_format != "contiguous" else []
        words += [f"compile:{self.compile_mode}"] if self.compile_mode else []
        words += ["math-attention"] if self.attention == "math" else []
        words += [f"input:{one}" for one in self.inputs or ()]
        words += [f"loss:{self.loss}"] if self.loss is not None else []
        words += [f"processes:{self.processes}"] if self.processes is not None else []
        words += [self.parallel] if self.parallel is not None else []
        words += [f"backend:{self.backend}"] if self.backend is not None else []
        return " ".join(words)


LATER_FIELDS = ("inputs", "loss", "parallel")
"""Fields that came after the first lines: not written where they are None, so that equal specs are equal lines."""


def stored(spec: dict[str, Any]) -> dict[str, Any]:
    """A spec's fields (`asdict`) as a line holds them, and as an older visionbench reads them where it can.

    A rectangle has its height and its width in two places, and `LATER_FIELDS` are there where they say something.
    """
    size = spec["image_size"]
    fields = {name: value for name, value in spec.items() if name not in LATER_FIELDS or value is not None}
    return fields if isinstance(size, int) else fields | {"image_size": size[0], "image_width": size[1]}


def image_size_of(inputs: Sequence[str]) -> ImageSize | None:
    """Height and width of the image among the inputs, or None."""
    image = image_of(inputs)
    return None if image is None else _image_size(image[1:])


def check_parallel(spec: Spec) -> None:
    """Raise `BenchError`, with the remedy, for several processes that no step can have, or a backend that is not built.

    Every measurement, trace and prediction begins with it.
    """
    if spec.backend is not None:
        raise BenchError(f"a backend other than torch (backend={spec.backend}) is not built yet: leave backend out.")
    if spec.processes is None and spec.parallel is None:
        return
    if spec.task != "train":
        raise BenchError("several processes train one network together, and inference has none: add --task train.")
    if spec.parallel is None or spec.processes is None:
        missing = "--parallel ddp" if spec.parallel is None else "--processes 2, or how many there are"
        raise BenchError(f"training in parallel needs the number of processes and the way: add {missing}.")
    if spec.compile_mode is not None:
        raise BenchError("training on several processes is eager so far: leave --compile out.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How a spec is measured. Its `name` is part of a record's key: numbers of different protocols never meet.

    `metrics` are measured in this order (a latency pass disturbs the throughput pass that follows it, so order is part
    of the protocol). Warm-up lasts at least `warmup_iterations` and at least `warmup_seconds`; with `steady_within` it
    goes on until the run is steady (`measure.steady`) or that many seconds have passed, which is flagged. Then `blocks`
    blocks are timed, each of `block_iterations` iterations, or, where that is None, of as many as fill `block_seconds`.
    `launches` fresh processes are started per spec; each yields one record. With `target_rel_ci` launches are added
    until the interval's half-width is at most that share of the centre. A launch is stopped after `max_seconds`. Times
    are in seconds.
    """

    name: str
    metrics: tuple[str, ...] = ("throughput",)
    warmup_iterations: int
    warmup_seconds: float = 0.0
    steady_within: float | None = None
    blocks: int
    block_iterations: int | None = None
    block_seconds: float = 0.0
    launches: int = 1
    max_seconds: float = 600.0
    target_rel_ci: float | None = None
    seed: int = 0
    cudnn_benchmark: bool = True


# The paper measured "following Swin": 50 warm-up forwards, a synchronisation, 30 timed forwards, a synchronisation,
# by the wall clock, batch 64, cuDNN autotuning on (Swin Transformer, main.py, `throughput`). They printed one block;
# ours is the median of three, because a virtual host stalls for 25 to 45 ms in every tenth block (H100, 2026-11-27).
SWIN = Protocol(name="swin", warmup_iterations=50, blocks=3, block_iterations=30, max_seconds=1800.0)

# Ours: sustained load until the run is steady, ten blocks, three fresh processes; then latency, in a pass of its own.
STEADY = Protocol(
    name="steady",
    metrics=("throughput", "latency", "phases", "energy"),
    warmup_iterations=10,
    warmup_seconds=1.0,
    steady_within=20.0,
    blocks=10,
    block_seconds=0.25,
    launches=3,
)

# A first look that fits a laptop: one process, a few seconds per row. Good for an order of magnitude, not for a claim.
SMOKE = Protocol(
    name="smoke", warmup_iterations=2, warmup_seconds=0.5, blocks=5, block_seconds=0.5, launches=1, max_seconds=600.0
)

# Memory needs no time: the first step makes the optimizer's state, the third is counted (`metrics.peak_memory`).
MEMORY = Protocol(name="memory", metrics=(), warmup_iterations=1, blocks=0, block_iterations=1)

# A number in the time that a script by hand takes: less warm-up and no more steps than its ten and forty of ResNet-18,
# in ten blocks instead of one, so that it comes with a spread.
QUICK = Protocol(name="quick", warmup_iterations=5, warmup_seconds=0.2, blocks=10, block_seconds=0.06)

EFFORTS: dict[str, int] = {"quick": 1, "standard": 3, "rigorous": 10}
"""Launches per row. Ten give an exact 95 % interval that leaves out eight of 55 Walsh averages at each end."""

PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in (MEMORY, QUICK, SMOKE, STEADY, SWIN)}

# The default journey's handful on a machine without a GPU: small rows of the main families, batch 1, so that two cores
# finish in about a minute. The rest of every table is one `run` away.
SMOKE_MODELS: tuple[str, ...] = (
    "timm:deit_small_patch16_224",
    "timm:swin_tiny_patch4_window7_224",
    "paper:convnext_original_tiny",
    "paper:convnext_iso_small",
    "paper:convnext_original_small",
)

# What CI gates: one small network of each kind of operator that the zoo is made of, at a size at which one core makes
# an iteration in 5 to 40 ms, so that twelve rows in ten launches of two sides fit a few minutes.
CI_MODELS: tuple[str, ...] = (
    "timm:resnet18",
    "timm:resnet50",
    "timm:densenet121",
    "timm:mobilenetv3_large_100",
    "timm:efficientnet_b0",
    "timm:regnety_004",
    "timm:convnext_atto",
    "timm:convnext_tiny",
    "paper:convnext_iso_small",
    "timm:deit_tiny_patch16_224",
    "timm:deit_small_patch16_224",
    "timm:swin_tiny_patch4_window7_224",
)

# What a card is calibrated on: every kind of work that the time model has a column for (dense, pointwise, grouped and
# depthwise convolutions, batch and layer norm, windowed and global attention), large enough that a GPU and not its host
# decides. From one GeForce card to another these bring a prediction as near as the mean of random fifteens does.
ANCHOR_MODELS: tuple[str, ...] = (
    "timm:resnet18",
    "timm:resnet50",
    "timm:resnet101",
    "timm:regnety_040",
    "timm:densenet121",
    "timm:mobilenetv2_100",
    "timm:mobilenetv3_large_100",
    "timm:efficientnet_b0",
    "timm:convnext_tiny",
    "timm:convnext_base",
    "timm:deit_small_patch16_224",
    "timm:deit_base_patch16_224",
    "timm:vit_base_patch16_224",
    "timm:swin_tiny_patch4_window7_224",
    "timm:swin_base_patch4_window7_224",
)

SUITES: dict[str, tuple[Spec, ...]] = {
    "ci": tuple(Spec(model=name, batch_size=1, image_size=64) for name in CI_MODELS),
    "anchors": tuple(Spec(model=name, batch_size=64) for name in ANCHOR_MODELS),
    "smoke": tuple(Spec(model=name, batch_size=1) for name in SMOKE_MODELS),
}
