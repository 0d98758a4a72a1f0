"""The phases of a training step: they are the step, each is timed alone, and inference has none."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import nn

from visionbench import models
from visionbench.measuring.metrics import phases
from visionbench.measuring.timing import WarmUp
from visionbench.measuring.workload import Phase, Workload, build
from visionbench.record.spec import Protocol, Spec

WARM = WarmUp(first_call=8.0, iterations=9, iteration_seconds=1.0, finite=True)
PROTOCOL = Protocol(name="p", warmup_iterations=1, blocks=1, block_iterations=2)
COUNT = 8  # four times the block's two: see `latency.iterations`
COSTS = {"forward": 1.0, "backward": 2.0, "optimizer": 0.5}


@dataclass
class Device:
    """Phases that are done when somebody waits for them, and an allocator with a peak of its own for each."""

    time: float = 0.0
    pending: float = 0.0
    peak: int = 99
    log: list[str] = field(default_factory=list)

    def run(self, name: str) -> None:
        self.log.append(name)
        self.pending += COSTS[name]
        self.peak = max(self.peak, len(name))

    def synchronize(self) -> None:
        self.log.append("sync")
        self.time += self.pending
        self.pending = 0.0

    def reset(self) -> None:
        self.log.append("reset")
        self.peak = 0

    def workload(self) -> Workload:
        parts = tuple(Phase(name=name, run=lambda name=name: self.run(name)) for name in COSTS)

        def step() -> torch.Tensor:
            self.log.append("step")
            return torch.zeros(())

        return Workload(step=step, synchronize=self.synchronize, close=lambda: None, phases=parts)


def test_each_phase_is_timed_between_synchronisations() -> None:
    device = Device(pending=50.0)
    found = phases.measure(device.workload(), PROTOCOL, WARM, lambda: device.time)
    assert device.log == ["sync", "forward", "sync", "backward", "sync", "optimizer", "sync"] * COUNT
    assert {one.metric: one.values for one in found} == {name: (cost,) * COUNT for name, cost in COSTS.items()}
    assert {(one.unit, one.better, one.assume, one.iterations, one.warmups) for one in found} == {
        ("s", "lower", "nothing", 1, 9)
    }


def test_peaks_are_of_one_phase_each_and_no_reset_is_timed() -> None:
    device = Device()
    found = phases.peaks(device.workload(), device.reset, lambda: device.peak)
    assert [(one.metric, one.unit, one.values) for one in found] == [
        ("peak_memory_forward", "B", (7,)),
        ("peak_memory_backward", "B", (8,)),
        ("peak_memory_optimizer", "B", (9,)),
    ]
    assert device.log[:5] == ["sync", "reset", "forward", "sync", "sync"]
    assert device.log[-3:] == ["sync", "step", "sync"], "the counter is left with a whole step's peak"


def test_inference_has_no_phases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "build", lambda *_: _net())
    with closing(build(_spec("inference"), "cpu")) as load:
        assert load.phases == ()
        assert phases.measure(load, PROTOCOL, WARM) == ()


def _net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))


def _spec(task: Any, precision: Any = "fp32") -> Spec:
    return Spec(model="timm:net", task=task, precision=precision, batch_size=3, image_size=8)


def _trained(monkeypatch: pytest.MonkeyPatch, precision: str, *, by_phases: bool) -> dict[str, torch.Tensor]:
    made: list[nn.Module] = []
    monkeypatch.setattr(models, "build", lambda *_: made.append(_net()) or made[-1])
    with closing(build(_spec("train", precision), "cpu", seed=3)) as load:
        for _ in range(4):
            if by_phases:
                for phase in load.phases:
                    phase.run()
            else:
                load.step()
    return made[0].state_dict()


@pytest.mark.parametrize("precision", ["fp32", "amp_bf16"])
def test_the_phases_in_order_are_the_step_bit_by_bit(monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    step = _trained(monkeypatch, precision, by_phases=False)
    parts = _trained(monkeypatch, precision, by_phases=True)
    assert step.keys() == parts.keys()
    assert all(torch.equal(step[name], parts[name]) for name in step)
    start = _net().state_dict()
    assert any(not torch.equal(step[name], start[name]) for name in step)


def test_a_phase_does_its_own_work_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[nn.Module] = []
    monkeypatch.setattr(models, "build", lambda *_: made.append(_net()) or made[-1])
    with closing(build(_spec("train"), "cpu")) as load:
        forward, backward, optimizer = load.phases
        (weight,) = (p for name, p in made[0].named_parameters() if name == "4.weight")
        before = weight.detach().clone()
        forward.run()
        assert weight.grad is None
        backward.run()
        assert weight.grad is not None
        assert torch.equal(weight, before)
        optimizer.run()
        assert not torch.equal(weight, before)
        load.step()  # the two ways may alternate
        forward.run()
        assert weight.grad is None


def test_a_cpu_has_no_peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "build", lambda *_: _net())
    with closing(build(_spec("train"), "cpu")) as load:
        found = phases.measure(load, PROTOCOL, WARM)
    assert [one.metric for one in found] == ["forward", "backward", "optimizer"]
    assert all(len(one.values) == COUNT and min(one.values) > 0 for one in found)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_has_peaks_by_phase() -> None:
    with closing(build(Spec(model="timm:resnet18", task="train", batch_size=4), "cuda")) as load:
        load.step()
        load.synchronize()
        found = {one.metric: one.values for one in phases.measure(load, PROTOCOL, WARM)}
        left = torch.cuda.max_memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        load.step()
        load.synchronize()
        peaks = [found[f"peak_memory_{name}"][0] for name in COSTS]
        assert left == pytest.approx(torch.cuda.max_memory_allocated(), rel=0.05)
        assert max(peaks) == pytest.approx(left, rel=0.05)
