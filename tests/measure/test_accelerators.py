"""AMD's, Intel's and Apple's accelerators, pretended: measured with the right waiting, dashes for what they lack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.pretended.card import APPLE, ARC, H100, MI300, Card, pretend
from visionbench.command.main import main
from visionbench.judging import duet
from visionbench.machine import accelerator, doctor
from visionbench.machine.environment import describe, find_device
from visionbench.measuring import worker
from visionbench.record.spec import Protocol, Spec

Factories = Callable[[str], str]

KINDS = [(ARC, "xpu"), (APPLE, "mps"), (MI300, "cuda")]
IDS = ["intel", "apple", "amd"]
ALL = Protocol(
    name="all",
    metrics=("throughput", "latency", "phases", "energy"),
    warmup_iterations=2,
    steady_within=0.1,
    blocks=3,
    block_iterations=2,
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A product that a CPU makes in no time, and no name of this machine's processor."""
    monkeypatch.setattr(doctor, "WIDE", 8)
    monkeypatch.setattr(doctor, "PRODUCT", 8)
    monkeypatch.setattr(accelerator, "_chip", lambda: "Apple M2 Max")


@pytest.mark.parametrize(("card", "device"), KINDS, ids=IDS)
@pytest.mark.parametrize("task", ["inference", "train"])
def test_a_launch_has_what_the_device_tells_and_no_more(
    card: Card, device: str, task: Any, factories: Factories, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, card)
    record = worker.measure(Spec(model=factories("tiny"), task=task), ALL, device)
    assert record.failure is None, record.failure
    names = {one.metric for one in record.measurements}
    assert {"throughput", "latency", "first_call"} <= names
    assert not {"energy", "power", "sm_clock", "temperature", "process_memory", "cpu_time"} & names
    assert ("device_time" in names) == (device == "cuda"), "events that nobody tried are not trusted"
    assert ("peak_memory_allocated" in names) == (device != "mps")
    found = record.get("throughput")
    assert found is not None
    assert "throttle_unknown" in found.flags
    here = record.environment
    assert (here.device_type, here.device_key, here.device_memory) == (device, None, card.memory)
    assert here.device_name == ("Apple M2 Max GPU" if device == "mps" else card.name)
    assert here.driver == (f"ROCm {card.hip}" if card.hip else None)


@pytest.mark.parametrize(("card", "device"), KINDS, ids=IDS)
def test_every_block_waits_for_the_device(
    card: Card, device: str, factories: Factories, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, replace(card, lag=0.01))
    record = worker.measure(Spec(model=factories("tiny")), replace(ALL, metrics=("throughput",)), device)
    found = record.get("throughput")
    assert found is not None
    assert min(found.values) > 0.01


@pytest.mark.parametrize(("card", "device"), KINDS, ids=IDS)
def test_tf32_is_nvidias(card: Card, device: str, factories: Factories, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, card)
    failure = worker.measure(Spec(model=factories("tiny"), precision="tf32"), ALL, device).failure
    assert failure is not None
    assert "this device has none, use fp32" in failure.message
    quick = replace(ALL, metrics=("throughput",))
    assert worker.measure(Spec(model=factories("tiny"), precision="bf16"), quick, device).failure is None


@pytest.mark.parametrize(("card", "device"), KINDS, ids=IDS)
def test_the_device_that_is_here_is_found(card: Card, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if device != "cuda":
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    pretend(monkeypatch, card)
    assert find_device() == device
    assert describe(f"{device}:3").device_name is None


@pytest.mark.parametrize(
    ("card", "device", "name"),
    [
        (APPLE, "mps", "PYTORCH_ENABLE_MPS_FALLBACK"),
        (APPLE, "mps", "PYTORCH_MPS_HIGH_WATERMARK_RATIO"),
        (APPLE, "mps", "PYTORCH_MPS_FAST_MATH"),
        (ARC, "xpu", "PYTORCH_ALLOC_CONF"),
        (ARC, "xpu", "ONEDNN_DEFAULT_FPMATH_MODE"),
        (MI300, "cuda", "PYTORCH_MIOPEN_SUGGEST_NHWC"),
        (MI300, "cuda", "AMD_SERIALIZE_KERNEL"),
        (MI300, "cuda", "HSA_OVERRIDE_GFX_VERSION"),
    ],
)
def test_their_variables_are_a_flag_and_kept(
    card: Card, device: str, name: str, factories: Factories, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, card)
    monkeypatch.setenv(name, "1")
    record = worker.measure(Spec(model=factories("tiny")), replace(ALL, metrics=("throughput",)), device)
    timed = record.get("throughput")
    assert timed is not None
    assert "variables_set" in timed.flags
    assert record.environment.variables == f"{name}=1"


@pytest.mark.parametrize("device", ["xpu", "mps"])
def test_a_device_that_is_not_here_is_refused(
    device: str, factories: Factories, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("visionbench.command.verbs.run.start_early", lambda **_: None)
    assert main(["run", "resnet18", "--device", device]) == 2
    assert f"--device {device}: torch finds no such GPU here" in capsys.readouterr().err
    failure = worker.measure(Spec(model=factories("tiny")), ALL, device).failure
    assert failure is not None
    assert "is not here" in failure.message
    main(["doctor", "--device", device])
    assert f"torch does not see {device}" in capsys.readouterr().out


@pytest.mark.parametrize(("card", "device"), KINDS, ids=IDS)
def test_a_device_that_does_not_wait_is_not_measured(
    card: Card, device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its product takes the same time at any depth, as one that is only enqueued does."""
    pretend(monkeypatch, card)
    monkeypatch.setattr(doctor, "product_on", lambda _: lambda depth: None)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("visionbench.command.verbs.run.start_early", lambda **_: None)
    monkeypatch.setattr(doctor, "spin_seconds", lambda *_, **__: (1e-4, 1e-4))
    assert main(["run", "resnet18", "--device", device]) == 2
    assert "cannot be timed" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    for words in (["gate", "resnet18", "--vary", "memory_format=channels_last"], ["effects", "resnet18"]):
        assert main([*words, "--device", device]) == 2
        assert "cannot be timed" in capsys.readouterr().err


def test_twice_the_depth_is_one_product_of_twice_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []
    monkeypatch.setattr(torch, "mm", lambda left, right: shapes.append((*left.shape, *right.shape)))
    multiply = doctor.product_on("cpu")
    for depth in (8, 16, 80):
        multiply(depth)
    assert shapes == [(8, 8, 8, 8), (8, 16, 16, 8), (8, 16, 16, 8)]


@pytest.mark.parametrize(
    ("card", "device", "sentence"),
    [
        (ARC, "xpu", "unknown stay: clocks, throttling, energy"),
        (APPLE, "mps", "peak memory"),
        (MI300, "cuda", "no such library is asked for AMD"),
        (H100, "cuda", "580.159.04"),
    ],
)
def test_doctor_knows_them(
    card: Card,
    device: str,
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pretend(monkeypatch, card)
    monkeypatch.setattr(doctor, "product_on", lambda _: lambda depth: torch.cuda._sleep(depth * 1000))
    monkeypatch.setattr(doctor, "spin_seconds", lambda *_, **__: (0.01, 0.02))
    main(["doctor", "--device", device])
    printed = capsys.readouterr().out
    assert sentence in printed
    assert "synchronising waits" in printed


@pytest.mark.parametrize(("device", "timer"), [("xpu", "wall"), ("mps", "wall"), ("cuda", "device"), ("xpu:1", "wall")])
def test_turns_are_timed_by_a_clock_that_was_tried(device: str, timer: str) -> None:
    assert duet.timer_of(device, None) == duet.timer_of(device, 1) == timer
    assert duet._turn(0.001, device)["drop"] == 2
