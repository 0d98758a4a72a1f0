"""The tracer against what one would use without it: torch's FLOP counter, fvcore, torch's memory tracker.

    python -m pytest perf --benchmark-only

All sides start from a model's name, so building the network is part of each of them.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed._tools.mem_tracker import MemTracker
from torch.utils.flop_counter import FlopCounterMode

from visionbench.models import build
from visionbench.record.spec import ImageSize, Spec, sides
from visionbench.reports.printed import Network, rows
from visionbench.tracing import run
from visionbench.tracing.skeleton import skeleton

ROOT = Path(__file__).parents[1]
Versus = Callable[..., Any]

TABLES = sorted({row.network for table in ("1", "2", "12") for row in rows(table)}, key=str)
"""The unique (model, image size) of Tables 1, 2 and 12."""

DENSE = sorted({row.network for table in ("3", "4") for row in rows(table)}, key=str)
"""The 25 detectors and segmentors of Tables 3 and 4, at their sizes."""

HELD_BY_FVCORE = [
    ("paper:convnext_iso_small", 224),
    ("paper:convnext_original_base", 384),
    ("paper:convnext_original_tiny", 224),
    ("timm:deit_base_patch16_224", 224),
    ("timm:deit_small_patch16_224", 224),
    ("timm:regnety_160", 224),
    ("timm:swin_tiny_patch4_window7_224", 224),
    ("timm:vit_base_patch16_384", 384),
]
"""A quarter of them, up to 55 GMACs: rows whose weights a laptop can hold and whose forward pass it can wait for."""

STEPS = ("timm:deit_small_patch16_224", "timm:convnext_tiny", "timm:swin_tiny_patch4_window7_224")


def trace_all(networks: list[Network]) -> list[int]:
    return [run(Spec(model=model, image_size=size)).macs_per_image for model, size in networks]


def on_meta(name: str, size: ImageSize) -> torch.nn.Module:
    try:
        with torch.device("meta"):
            return build(name, size)
    except NotImplementedError:  # timm 1.0.15 reads values while it builds some
        return build(name, size).to("meta")


def count_all(networks: list[Network]) -> list[int]:
    """The same networks with torch's counter on the meta device: one number each."""
    counts = []
    for name, size in networks:
        model = on_meta(name, size).eval()
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(torch.empty(1, 3, *sides(size), device="meta"))
        counts.append(counter.get_total_flops() // 2)
    return counts


def fvcore_all(networks: list[tuple[str, int]]) -> list[int]:
    """The same networks with fvcore, which needs real tensors.

    With values: whatever stands in uninitialised weights, subnormal numbers say, can make a CPU several times slower.
    """
    from fvcore.nn import FlopCountAnalysis

    logging.getLogger("fvcore").setLevel(logging.ERROR)
    counts = []
    for name, size in networks:
        model = build(name, size).eval()
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            analysis = FlopCountAnalysis(model, torch.randn(1, 3, size, size))
            counts.append(int(analysis.unsupported_ops_warnings(False).total()))
    return counts


def peak_by_mem_tracker(spec: Spec) -> int:
    """Peak bytes of the same training step on the meta device by torch's own tracker."""
    model = skeleton(spec.model, spec.image_size).train()
    optimizer = torch.optim.AdamW(model.parameters(), foreach=True)
    for parameter in model.parameters():
        moments = {name: torch.empty_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
        optimizer.state[parameter] = {"step": torch.tensor(1.0), **moments}
    images = torch.empty(spec.batch_size, 3, spec.image_size, spec.image_size, device="meta")
    labels = torch.empty(spec.batch_size, dtype=torch.long, device="meta")
    tracker = MemTracker()
    tracker.track_external(model, optimizer, images, labels)
    with tracker:
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    parts = {str(device): sizes for device, sizes in tracker.get_tracker_snapshot("peak").items()}["meta"]
    return int({str(kind): size for kind, size in parts.items()}["Total"])


def test_tracing_the_tables_takes_at_most_1_3_times_what_counting_flops_takes(benchmark: Any, versus: Versus) -> None:
    networks = [("timm:convnext_tiny", 224)] if benchmark.disabled else TABLES
    comparison = versus(lambda: trace_all(networks), lambda: count_all(networks), rounds=3)
    if comparison:
        benchmark.extra_info["rows"] = len(networks)
        assert comparison.ratio >= 1 / 1.3


@pytest.mark.slow
def test_counting_detectors_and_segmentors_takes_at_most_half_of_what_counting_flops_takes(
    benchmark: Any, versus: Versus
) -> None:
    networks = DENSE[:1] if benchmark.disabled else DENSE
    assert trace_all(networks[:1]) == count_all(networks[:1])
    comparison = versus(lambda: trace_all(networks), lambda: count_all(networks), rounds=3)
    if comparison:
        benchmark.extra_info["rows"] = len(networks)
        assert comparison.ratio >= 2


@pytest.mark.slow
@pytest.mark.parametrize(("table", "limit"), [("1, 2 and 12", 1.2e9), ("3 and 4", 1.0e9)])
def test_tracing_the_tables_takes_at_most_a_gigabyte_or_so(benchmark: Any, table: str, limit: float) -> None:
    networks = [("timm:convnext_tiny", 224)] if benchmark.disabled else TABLES if "12" in table else DENSE
    code = (
        "import json, sys, timm; from visionbench.tracing import run; from visionbench.record.spec import Spec\n"
        "for model, size in json.loads(sys.argv[1]): run(Spec(model=model, image_size=size))\n"
        # not `ru_maxrss`, which begins with the peak of the process that started this one
        "print(1024 * int(next(l.split()[1] for l in open('/proc/self/status') if l.startswith('VmHWM'))))"
    )

    def peak() -> int:
        command = [sys.executable, "-c", code, json.dumps(networks)]
        return int(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)

    benchmark.extra_info["peak_bytes"] = peak_bytes = benchmark.pedantic(peak, rounds=1)
    assert peak_bytes <= limit


def test_tracing_is_ten_times_faster_than_fvcore(benchmark: Any, versus: Versus) -> None:
    networks = HELD_BY_FVCORE[:1] if benchmark.disabled else HELD_BY_FVCORE
    comparison = versus(lambda: trace_all(networks), lambda: fvcore_all(networks), rounds=3)
    if comparison:
        benchmark.extra_info["rows"] = len(networks)
        assert comparison.ratio >= 10


@pytest.mark.slow
def test_tracing_a_training_step_is_ten_times_faster_than_mem_tracker(benchmark: Any, versus: Versus) -> None:
    # On the meta device size is free. MemTracker sees no fused kernels, so neither side has any.
    models = STEPS[:1] if benchmark.disabled else STEPS
    specs = [Spec(model=model, task="train", batch_size=32, attention="math") for model in models]
    peaks: dict[str, list[int]] = {}

    def ours() -> None:
        peaks["ours"] = [curve.peak for spec in specs if (curve := run(spec).curve)]

    def theirs() -> None:
        peaks["theirs"] = [peak_by_mem_tracker(spec) for spec in specs]

    comparison = versus(ours, theirs, rounds=5)
    assert peaks["ours"] == pytest.approx(peaks["theirs"], rel=0.02)
    if comparison:
        benchmark.extra_info |= {f"peaks_{side}": sizes for side, sizes in peaks.items()}
        assert comparison.ratio >= 10
