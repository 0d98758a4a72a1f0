"""What is refused before it is built."""

from __future__ import annotations

import pytest
import torch

from visionbench.machine.support import UnsupportedError, check, has_kernels
from visionbench.record.errors import BenchError
from visionbench.record.spec import Spec

TORCH_2_15 = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]
TORCH_2_10 = ["sm_70", "sm_75", "sm_80", "sm_86", "sm_90"]


@pytest.mark.parametrize(
    ("capability", "architectures", "runs"),
    [
        ((7, 0), TORCH_2_15, False),  # V100
        ((7, 0), TORCH_2_10, True),
        ((8, 0), TORCH_2_15, True),
        ((8, 9), TORCH_2_15, True),  # L4, by sm_86's code
        ((8, 9), ["sm_90"], False),
        ((8, 0), ["sm_86"], False),
        ((9, 0), ["sm_90a"], True),
        ((9, 1), ["sm_90a"], False),
        ((12, 1), TORCH_2_15, True),
        ((13, 0), TORCH_2_15, True),  # by the portable code
        ((13, 0), ["sm_120"], False),
        ((9, 0), ["gfx90a"], False),
    ],
)
def test_a_wheel_has_kernels_for_a_card(capability: tuple[int, int], architectures: list[str], runs: bool) -> None:
    assert has_kernels(capability, architectures) is runs


def pretend(monkeypatch: pytest.MonkeyPatch, name: str, capability: tuple[int, int], architectures: list[str]) -> None:
    """Let torch see one such card."""
    for function, answer in {
        "is_available": True,
        "device_count": 1,
        "get_device_name": name,
        "get_device_capability": capability,
        "get_arch_list": architectures,
    }.items():
        monkeypatch.setattr(torch.cuda, function, lambda *_, answer=answer: answer)


def test_a_v100_owner_is_told_which_torch_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "Tesla V100-SXM2-16GB", (7, 0), TORCH_2_15)
    with pytest.raises(UnsupportedError, match=r"(?s)V100.*sm_70.*torch 2\.10 or older.*CUDA 12\.6"):
        check(Spec(model="timm:resnet50"), "cuda")


def test_the_owner_of_a_newer_card_is_told_to_upgrade(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "NVIDIA Z900", (13, 0), TORCH_2_10)
    with pytest.raises(UnsupportedError, match="newer torch"):
        check(Spec(model="timm:resnet50"), "cuda")


@pytest.mark.parametrize(
    ("precision", "runs"),
    [("fp32", True), ("fp16", True), ("amp_fp16", True), ("tf32", False), ("bf16", False), ("amp_bf16", False)],
)
def test_what_volta_has_not(monkeypatch: pytest.MonkeyPatch, precision: str, runs: bool) -> None:
    pretend(monkeypatch, "Tesla V100-SXM2-16GB", (7, 0), TORCH_2_10)
    spec = Spec(model="timm:resnet50", precision=precision)  # type: ignore[arg-type]
    if runs:
        check(spec, "cuda")
    else:
        with pytest.raises(UnsupportedError, match=precision):
            check(spec, "cuda")


def test_an_a100_has_all(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "NVIDIA A100-SXM4-80GB", (8, 0), TORCH_2_15)
    for precision in ("fp32", "tf32", "bf16", "amp_bf16"):
        check(Spec(model="timm:resnet50", precision=precision), "cuda")  # type: ignore[arg-type]


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "NVIDIA A100-SXM4-80GB", (8, 0), TORCH_2_15)
    with pytest.raises(UnsupportedError, match="cuda:3"):
        check(Spec(model="timm:resnet50"), "cuda:3")


def test_a_cpu_has_no_tf32() -> None:
    check(Spec(model="timm:resnet50"), "cpu")
    with pytest.raises(UnsupportedError, match="TF32"):
        check(Spec(model="timm:resnet50", precision="tf32"), "cpu")


def test_nothing_is_measured_on_meta() -> None:
    with pytest.raises(UnsupportedError, match="meta"):
        check(Spec(model="timm:resnet50"), "meta")


def test_a_word_that_is_no_device_is_a_mistake() -> None:
    with pytest.raises(BenchError, match="gpu0"):
        check(Spec(model="timm:resnet50"), "gpu0")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_training_in_fp16_alone_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    pretend(monkeypatch, "NVIDIA A100-SXM4-80GB", (8, 0), TORCH_2_15)
    with pytest.raises(UnsupportedError, match="use amp_fp16"):
        check(Spec(model="timm:resnet50", task="train", precision="fp16"), device)
    for task, precision in (("inference", "fp16"), ("train", "amp_fp16"), ("train", "bf16"), ("train", "fp32")):
        check(Spec(model="timm:resnet50", task=task, precision=precision), device)  # type: ignore[arg-type]
