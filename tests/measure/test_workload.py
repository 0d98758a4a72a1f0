"""A spec made runnable: the right numbers format, the right flags, and nothing left behind."""

from __future__ import annotations

import gc
import warnings
import weakref
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from visionbench import models
from visionbench.measuring import workload
from visionbench.measuring.workload import build
from visionbench.record.spec import PRECISIONS, Spec


@dataclass
class Seen:
    """What a model saw while it ran."""

    dtype: list[torch.dtype] = field(default_factory=list)
    autocast: list[torch.dtype | None] = field(default_factory=list)
    training: list[bool] = field(default_factory=list)
    inference: list[bool] = field(default_factory=list)
    flags: list[dict[str, Any]] = field(default_factory=list)
    images: list[Tensor] = field(default_factory=list)


class Spy(nn.Module):
    def __init__(self, seen: Seen, wrap: Any = lambda logits: logits) -> None:
        super().__init__()
        self.seen, self.wrap = seen, wrap
        self.conv = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, 7)

    def forward(self, images: Tensor) -> Any:
        on = torch.is_autocast_enabled("cpu")
        self.seen.dtype.append(self.head.weight.dtype)
        self.seen.autocast.append(torch.get_autocast_dtype("cpu") if on else None)
        self.seen.training.append(self.training)
        self.seen.inference.append(torch.is_inference_mode_enabled())
        self.seen.flags.append(flags())
        self.seen.images.append(images)
        return self.wrap(self.head(self.conv(images).mean((2, 3))))


def flags() -> dict[str, Any]:
    return {
        "matmul": torch.backends.cuda.matmul.allow_tf32,
        "cudnn": torch.backends.cudnn.allow_tf32,
        "benchmark": torch.backends.cudnn.benchmark,
        "threads": torch.get_num_threads(),
        "flash": torch.backends.cuda.flash_sdp_enabled(),
        "math": torch.backends.cuda.math_sdp_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "grad": torch.is_grad_enabled(),
        "random": torch.random.get_rng_state().sum().item(),
    }


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    spied = Seen()
    monkeypatch.setattr(models, "build", lambda *_: Spy(spied))
    return spied


def spec(**fields: Any) -> Spec:
    return Spec(**{"model": "timm:spy", "batch_size": 2, "image_size": 8} | fields)


@pytest.mark.parametrize(
    ("precision", "weights", "autocast"),
    [
        ("fp32", torch.float32, None),
        ("tf32", torch.float32, None),
        ("fp16", torch.float16, None),
        ("bf16", torch.bfloat16, None),
        ("amp_fp16", torch.float32, torch.float16),
        ("amp_bf16", torch.float32, torch.bfloat16),
    ],
)
@pytest.mark.parametrize("task", ["inference", "train"])
def test_precision_is_what_its_name_says(
    seen: Seen, task: str, precision: str, weights: torch.dtype, autocast: torch.dtype | None
) -> None:
    with closing(build(spec(precision=precision, task=task), "cpu")) as load:
        load.step()
    assert seen.dtype == [weights]
    assert seen.autocast == [autocast]
    assert seen.images[0].dtype == weights
    assert seen.flags[0]["matmul"] == seen.flags[0]["cudnn"] == (precision == "tf32")


@pytest.mark.parametrize("found", [True, False])
def test_every_flag_is_put_back(seen: Seen, found: bool) -> None:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    try:
        torch.backends.cuda.matmul.allow_tf32 = found
        torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = found
        mine = flags()
        for precision in PRECISIONS:
            load = build(
                spec(precision=precision, task="train", attention="math"), "cpu", cudnn_benchmark=not found, threads=1
            )
            load.step()
            assert flags() != mine
            load.close()
            assert flags() == mine
        assert seen.flags[0] | {"benchmark": not found, "threads": 1, "flash": False, "math": True} == seen.flags[0]
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = before


def test_flags_are_put_back_when_the_model_cannot_be_built(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> nn.Module:
        raise models.ModelError("no")

    monkeypatch.setattr(models, "build", fails)
    mine = flags()
    with pytest.raises(models.ModelError):
        build(spec(precision="tf32", attention="math"), "cpu", threads=1)
    assert flags() == mine


def test_nothing_warns(seen: Seen) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for precision in PRECISIONS:
            with closing(build(spec(precision=precision, attention="math"), "cpu")) as load:
                load.step()


class Attends(nn.Module):
    """Attention alone, over the image's rows, (N, 3, H, W) -> (N, 7)."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(32, 7)

    def forward(self, images: Tensor) -> Tensor:
        seen = nn.functional.scaled_dot_product_attention(images, images, images)
        return self.head(seen.mean((1, 2)))


class Products(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.dtypes: list[torch.dtype] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.bmm.default:
            self.dtypes.append(args[0].dtype)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("bf16", torch.bfloat16), ("fp16", torch.float16), ("amp_bf16", torch.bfloat16), ("fp32", torch.float32)],
)
def test_math_attention_multiplies_in_the_precision_asked_for(
    monkeypatch: pytest.MonkeyPatch, precision: str, dtype: torch.dtype, before: bool
) -> None:
    monkeypatch.setattr(models, "build", lambda *_: Attends())
    cuda = torch.backends.cuda
    usual = cuda.fp16_bf16_reduction_math_sdp_allowed()
    cuda.allow_fp16_bf16_reduction_math_sdp(before)
    try:
        how = spec(precision=precision, task="train", image_size=32, attention="math")
        with closing(build(how, "cpu")) as load, Products() as seen:
            load.step()
        assert cuda.fp16_bf16_reduction_math_sdp_allowed() is before
    finally:
        cuda.allow_fp16_bf16_reduction_math_sdp(usual)
    assert len(seen.dtypes) >= 2
    assert set(seen.dtypes) == {dtype}


def test_inference_keeps_no_graph(seen: Seen) -> None:
    with closing(build(spec(), "cpu")) as load:
        logits = load.step()
    assert logits.shape == (2, 7)
    assert not logits.requires_grad
    assert (seen.training, seen.inference) == ([False], [True])


def test_a_training_step_learns(seen: Seen) -> None:
    with closing(build(spec(task="train"), "cpu")) as load:
        losses = [load.step() for _ in range(20)]
    assert all(loss.shape == () and not loss.requires_grad for loss in losses)
    assert losses[-1] < losses[0]


def test_a_training_step_is_in_train_mode(seen: Seen) -> None:
    with closing(build(spec(task="train"), "cpu")) as load:
        load.step()
    assert (seen.training, seen.inference) == ([True], [False])


def test_input_is_one_fixed_normal_batch(seen: Seen) -> None:
    for _ in range(2):
        with closing(build(spec(image_size=64), "cpu", seed=5)) as load:
            first, second = load.step(), load.step()
            assert torch.equal(first, second)  # the weights are drawn from the seed, too
    images = seen.images[0]
    assert images.shape == (2, 3, 64, 64)
    assert all(torch.equal(images, other) for other in seen.images)
    assert abs(images.mean().item()) < 0.05
    assert abs(images.std().item() - 1) < 0.05


@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
def test_memory_format_reaches_weights_and_images(
    monkeypatch: pytest.MonkeyPatch, seen: Seen, memory_format: str
) -> None:
    spies: list[Spy] = []
    monkeypatch.setattr(models, "build", lambda *_: spies.append(Spy(seen)) or spies[-1])
    with closing(build(spec(memory_format=memory_format), "cpu")) as load:
        load.step()
    wanted = torch.channels_last if memory_format == "channels_last" else torch.contiguous_format
    assert seen.images[0].is_contiguous(memory_format=wanted)
    assert spies[0].conv.weight.is_contiguous(memory_format=wanted)


@pytest.mark.parametrize("mode", ["default", "reduce-overhead", "max-autotune"])
def test_compile_mode_is_passed_on(monkeypatch: pytest.MonkeyPatch, seen: Seen, mode: str) -> None:
    modes: list[str] = []
    monkeypatch.setattr(torch, "compile", lambda model, mode: modes.append(mode) or model)
    build(spec(compile_mode=mode), "cpu").close()
    assert modes == [mode]


@pytest.mark.parametrize(
    "wrap",
    [lambda x: (x, None), lambda x: [None, x], lambda x: {"logits": x, "loss": None}],
    ids=["tuple", "list", "mapping"],
)
@pytest.mark.parametrize("task", ["inference", "train"])
def test_the_first_tensor_of_an_output_counts(monkeypatch: pytest.MonkeyPatch, wrap: Any, task: str) -> None:
    monkeypatch.setattr(models, "build", lambda *_: Spy(Seen(), wrap))
    with closing(build(spec(task=task), "cpu")) as load:
        assert load.is_finite(load.step())


def test_an_output_without_a_tensor_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "build", lambda *_: Spy(Seen(), lambda logits: "a cat"))
    with closing(build(spec(), "cpu")) as load, pytest.raises(TypeError, match="str"):
        load.step()


def test_dense_logits_can_be_trained() -> None:
    labels = workload._labels(torch.zeros(2, 5, 4, 4), seed=0)
    assert labels.shape == (2, 4, 4)
    assert int(labels.max()) < 5


@pytest.mark.parametrize(("value", "finite"), [(0.0, True), (float("nan"), False), (float("inf"), False)])
def test_is_finite(seen: Seen, value: float, finite: bool) -> None:
    with closing(build(spec(), "cpu")) as load:
        assert load.is_finite(torch.tensor([1.0, value])) is finite


def test_a_closed_workload_lets_its_model_go(monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[weakref.ref[nn.Module]] = []

    def make(*_: object) -> nn.Module:
        model = Spy(Seen())
        alive.append(weakref.ref(model))
        return model

    monkeypatch.setattr(models, "build", make)
    load = build(spec(), "cpu")
    load.step()
    load.close()
    del load
    gc.collect()
    assert alive[0]() is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("task", ["inference", "train"])
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "amp_fp16"])
def test_it_runs_on_a_gpu(task: str, precision: str) -> None:
    with closing(build(Spec(model="timm:resnet18", task=task, precision=precision, batch_size=4), "cuda")) as load:
        result = load.step()
        load.synchronize()
        assert result.is_cuda
        assert torch.isfinite(result).all()
