"""A launch from inside: the steps, in order, and never an exception because of the model."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from visionbench.machine import linux
from visionbench.measuring.worker import measure
from visionbench.record.errors import BenchError
from visionbench.record.record import from_json, to_json
from visionbench.record.spec import Protocol, Spec

Factories = Callable[[str], str]


def spec(model: str, **fields: object) -> Spec:
    return Spec(**{"model": model, "image_size": 16, **fields})  # type: ignore[arg-type]


def test_a_record_holds_everything(factories: Factories, once: Protocol) -> None:
    stages: list[str] = []
    record = measure(spec(factories("tiny")), once, "cpu", 1, tell_stage=stages.append)
    assert stages == ["check", "build", "first call", "warm-up", "time", "memory"]
    assert record.failure is None
    assert record.source == "measured"
    assert record.environment.threads == 1
    measured = {m.metric: m.values for m in record.measurements}
    assert {"throughput", "cpu_time", "process_memory", "first_call"} <= set(measured)
    assert min(*measured["throughput"], *measured["first_call"]) > 0
    assert from_json(to_json(record)) == record


@pytest.mark.parametrize("task", ["inference", "train"])
def test_both_tasks(factories: Factories, once: Protocol, task: str) -> None:
    record = measure(spec(factories("tiny"), task=task, batch_size=2), once, "cpu")
    assert record.failure is None


@pytest.mark.parametrize(
    ("factory", "kind", "stage", "words"),
    [
        ("raises", "error", "first call", "ValueError: first line second line"),
        ("memory_error", "out_of_memory", "first call", "MemoryError"),
        ("too_large", "out_of_memory", "first call", "allocate"),
        ("exits", "crashed", "first call", "sys.exit(3)"),
        ("no_such_factory", "error", "build", "no_such_factory"),
    ],
)
def test_a_failing_model_is_a_failure(
    factories: Factories, once: Protocol, factory: str, kind: str, stage: str, words: str
) -> None:
    threads = torch.get_num_threads()
    record = measure(spec(factories(factory), precision="fp32"), once, "cpu", threads=1)
    assert record.failure is not None
    assert (record.failure.kind, record.failure.stage) == (kind, stage)
    assert words in record.failure.message
    assert "\n" not in record.failure.message
    assert record.measurements == ()
    assert torch.get_num_threads() == threads


def test_what_the_machine_cannot_do_is_a_failure(factories: Factories, once: Protocol) -> None:
    record = measure(spec(factories("tiny"), precision="tf32"), once, "cpu")
    assert record.failure is not None
    assert (record.failure.kind, record.failure.stage) == ("unsupported", "check")


def test_a_missing_gpu_is_a_failure(monkeypatch: pytest.MonkeyPatch, factories: Factories, once: Protocol) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    record = measure(spec(factories("tiny")), once, "cuda")
    assert record.failure is not None
    assert record.failure.kind == "unsupported"


def test_nan_is_flagged(factories: Factories, once: Protocol) -> None:
    record = measure(spec(factories("nan")), once, "cpu")
    found = record.get("throughput")
    assert record.failure is None
    assert found is not None
    assert len(found.values) == once.blocks
    assert "nan_output" in found.flags


def test_a_ctrl_c_passes(factories: Factories, once: Protocol) -> None:
    with pytest.raises(KeyboardInterrupt):
        measure(spec(factories("interrupted")), once, "cpu")


@pytest.mark.parametrize(
    ("change", "word"),
    [({"metrics": ("troughput",)}, "throughput")],
)
def test_a_wrong_protocol_is_a_mistake(once: Protocol, change: dict[str, object], word: str) -> None:
    with pytest.raises(BenchError, match=word):
        measure(spec("timm:resnet18"), replace(once, **change), "cpu")  # type: ignore[arg-type]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_memory_is_counted_on_a_gpu(factories: Factories, once: Protocol) -> None:
    record = measure(spec(factories("tiny"), task="train"), once, "cuda")
    names = [m.metric for m in record.measurements]
    assert {"throughput", "device_time", "peak_memory_allocated", "peak_memory_reserved", "first_call"} <= set(names)
    allocated, reserved = record.value("peak_memory_allocated"), record.value("peak_memory_reserved")
    assert allocated is not None
    assert reserved is not None
    assert 0 < allocated <= reserved


def test_a_launch_with_fewer_threads_than_torch_leaves_room_for_others(
    factories: Factories, once: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linux, "runnable_others", lambda *_: 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)  # torch's own number, before the launch sets its threads

    def flags(threads: int) -> tuple[str, ...]:
        record = measure(spec(factories("tiny")), once, "cpu", threads)
        return next(m.flags for m in record.measurements if m.metric == "throughput")

    assert "busy_machine" not in flags(1)
    assert "busy_machine" in flags(2)
