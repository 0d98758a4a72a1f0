"""What only a real GPU can show: precision, layout, compiling, memory, clocks and energy. Skipped where there is none.

The pretended cards (`tests/pretended/card.py`) show that every line runs; these show that what the lines claim is so.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch

from visionbench.comparison.comparison import Launch, Side
from visionbench.judging import duet
from visionbench.machine import device_clock, nvml, support, telemetry
from visionbench.machine.environment import describe
from visionbench.measuring import worker
from visionbench.measuring.largest_batch import FIT, METRIC, largest_batch
from visionbench.measuring.process.launch import launch
from visionbench.measuring.process.side_process import LiveSide
from visionbench.measuring.workload import Workload, build
from visionbench.record.memory_protocol import PEAK
from visionbench.record.record import Record
from visionbench.record.spec import MEMORY, Protocol, Spec
from visionbench.tracing import trace

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

RESNET = Spec(model="timm:resnet18", batch_size=64)
QUICK = Protocol(name="quick", warmup_iterations=20, warmup_seconds=1.0, blocks=5, block_seconds=0.1)


@contextmanager
def running(spec: Spec) -> Iterator[Workload]:
    """The spec's workload on the GPU, if the card can run it."""
    try:
        support.check(spec, "cuda")
    except support.UnsupportedError as error:
        pytest.skip(str(error))
    with closing(build(spec, "cuda")) as workload:
        yield workload


def logits(spec: Spec) -> torch.Tensor:
    with running(spec) as workload:
        result = workload.step().float().cpu()
    assert torch.isfinite(result).all()
    return result


def far(spec: Spec) -> float:
    """How far a spec's logits are from those of fp32, as a share of their spread."""
    exact = logits(replace(spec, precision="fp32", memory_format="contiguous", compile_mode=None))
    return float((logits(spec) - exact).abs().max() / exact.std())


def measured(spec: Spec, protocol: Protocol = QUICK) -> Record:
    record = worker.measure(spec, protocol, "cuda")
    assert record.failure is None, record.failure
    return record


def block_seconds(record: Record, metric: str) -> float:
    found = record.get(metric)
    assert found is not None
    return sorted(found.values)[len(found.values) // 2] / found.iterations


# --- precision, layout, compiling ---


def test_tf32_rounds_where_fp32_does_not() -> None:
    assert far(RESNET) < 1e-4
    assert 1e-5 < far(replace(RESNET, precision="tf32")) < 0.1


@pytest.mark.parametrize("precision", ["fp16", "bf16", "amp_fp16", "amp_bf16"])
def test_half_precision_is_near_and_is_not_fp32(precision: Any) -> None:
    assert 1e-4 < far(replace(RESNET, precision=precision)) < 0.5


def test_flags_of_torch_are_as_before() -> None:
    before = (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark)
    with running(replace(RESNET, precision="tf32")):
        assert torch.backends.cudnn.allow_tf32
    after = (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark)
    assert after == before


def test_channels_last_computes_the_same() -> None:
    assert far(replace(RESNET, memory_format="channels_last")) < 1e-3


def test_a_compiled_network_computes_the_same_in_a_launch() -> None:
    record = launch(replace(RESNET, compile_mode="default", batch_size=8), replace(QUICK, blocks=1), "cuda")
    assert record.failure is None, record.failure
    compiled = record.get("throughput")
    assert compiled is not None
    assert "recompiled" not in compiled.flags
    assert far(replace(RESNET, compile_mode="default", batch_size=8)) < 1e-2


# --- memory ---


def test_running_out_of_memory_is_a_failure_with_that_name_and_leaves_the_card_usable() -> None:
    record = worker.measure(replace(RESNET, batch_size=10**6), MEMORY, "cuda")
    assert record.failure is not None
    assert record.failure.kind == "out_of_memory"
    torch.cuda.empty_cache()
    assert measured(RESNET, MEMORY).value("peak_memory_allocated")


@pytest.mark.slow
def test_the_largest_batch_runs_and_a_tenth_more_does_not() -> None:
    huge = Spec(model="timm:vgg19", image_size=1024, task="train")
    record = largest_batch(huge, lambda spec: launch(spec, FIT, "cuda"))
    size = record.value(METRIC)
    assert record.failure is None
    assert size is not None
    assert launch(replace(huge, batch_size=int(size)), MEMORY, "cuda").failure is None
    failure = launch(replace(huge, batch_size=int(size * 1.1) + 1), MEMORY, "cuda").failure
    assert failure is not None
    assert failure.kind == "out_of_memory"


@pytest.mark.parametrize("model", ["timm:resnet50", "timm:deit_small_patch16_224"])
def test_training_memory_is_what_the_trace_computes(model: str) -> None:
    spec = Spec(model=model, task="train", batch_size=32)
    computed = trace(spec, describe("meta")).value(PEAK)
    allocated = launch(spec, MEMORY, "cuda").value("peak_memory_allocated")
    assert computed is not None
    assert allocated is not None
    assert 0.98 < allocated / computed < 1.10  # 1.008 to 1.041 on an H100; workspaces are the rest


def test_memory_is_the_same_by_three_steps_and_by_many() -> None:
    spec = Spec(model="timm:resnet50", task="train", batch_size=32)
    few, many = (launch(spec, protocol, "cuda").value("peak_memory_allocated") for protocol in (MEMORY, QUICK))
    assert few is not None
    assert few == pytest.approx(many, rel=0.02)


def test_the_largest_of_the_phases_peaks_is_the_steps() -> None:
    record = measured(
        Spec(model="timm:resnet50", task="train", batch_size=32), replace(QUICK, metrics=("throughput", "phases"))
    )
    peaks = [record.value(f"peak_memory_{phase}") for phase in ("forward", "backward", "optimizer")]
    allocated = record.value("peak_memory_allocated")
    assert allocated is not None
    assert max(peak for peak in peaks if peak is not None) == pytest.approx(allocated, rel=0.05)


# --- clocks ---


def test_the_wall_and_the_events_agree() -> None:
    record = measured(Spec(model="timm:resnet50", batch_size=64))
    wall, events = block_seconds(record, "throughput"), block_seconds(record, "device_time")
    assert wall == pytest.approx(events, rel=device_clock.AGREEMENT)


def test_a_small_step_is_bound_by_the_host_and_a_large_one_is_not() -> None:
    for spec, bound in ((replace(RESNET, batch_size=1, image_size=64), True), (replace(RESNET, batch_size=512), False)):
        found = measured(spec).get("throughput")
        assert found is not None
        assert ("host_bound" in found.flags) is bound, spec


def test_a_step_takes_longer_with_more_images() -> None:
    few, many = (block_seconds(measured(replace(RESNET, batch_size=size)), "device_time") for size in (128, 512))
    assert 2.5 < many / few < 5.5


def test_energy_is_power_times_time() -> None:
    record = measured(replace(RESNET, batch_size=256), replace(QUICK, metrics=("throughput", "energy")))
    joules, seconds, idle = (record.value(name) for name in ("energy", "energy_seconds", "idle_power"))
    if joules is None or seconds is None:
        pytest.skip("this card counts no energy")
    gpu = nvml.open_gpu("cuda")
    assert gpu is not None
    limit = nvml.power_limits(gpu)[0]
    nvml.close(gpu)
    watts = joules / seconds
    assert watts > (idle or 0.0)
    assert limit is None or watts < 1.1 * limit


def test_the_watch_reads_a_clock_under_load() -> None:
    with running(RESNET) as workload:
        watch = telemetry.Watch("cuda")
        watch.before()
        for _ in range(50):
            workload.step()
        workload.synchronize()
        weather = watch.after()
        watch.close()
    if weather.sm_clock is None:
        pytest.skip("this driver tells no clock")
    assert 1e8 < weather.sm_clock < 4e9
    assert weather.cpu is None


# --- turns ---


def test_a_duet_of_equal_sides_is_even() -> None:
    side = Side(label="same", spec=replace(RESNET, batch_size=128))
    row = duet.Row(name="same", baseline=side, candidate=side)
    played = duet.launch([row], duet.stage("cuda", None, rounds=20), random.Random(1))["same"]
    assert isinstance(played, Launch), played
    ratios = sorted(turn.candidate / turn.baseline for turn in played.rounds)
    assert ratios[len(ratios) // 2] == pytest.approx(1.0, abs=0.05)


def test_a_side_gives_its_memory_back() -> None:
    side = LiveSide("cuda", None, None)
    before = torch.cuda.memory_reserved()
    order = {"do": "prepare", "spec": asdict(replace(RESNET, batch_size=256)), "seed": 1, "cores": []}
    assert side.answer(order) == {"done": True}
    assert torch.cuda.memory_reserved() > before
    side._forget()
    assert torch.cuda.memory_reserved() <= before + 64 * 2**20
