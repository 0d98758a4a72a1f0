"""The measuring engine against doing it by hand: what timing, launching and repeating cost, and what A/A says.

python -m pytest perf/test_perf_measure.py --benchmark-only
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch

from visionbench import models
from visionbench.measuring import timing
from visionbench.measuring.process.launch import launch, prepare
from visionbench.measuring.sweep import sweep
from visionbench.measuring.worker import measure
from visionbench.measuring.workload import build
from visionbench.record.spec import Protocol, Spec
from visionbench.record.statistics import estimate, images_per_second

BLOCK = 5
"""Iterations of ResNet-18 per block: about a quarter of a second on one core."""

BRIEF = Protocol(name="brief", warmup_iterations=2, blocks=5, block_iterations=2)
"""A launch that does little: what a launch costs beside its work shows most clearly so."""

SMALL = tuple(Spec(model="timm:resnet18", image_size=size) for size in range(64, 224, 16))
"""Ten small specs."""


def test_throughput_is_that_of_a_bare_loop(benchmark: Any) -> None:
    """Interleaved blocks of the same model and input: what we report and what a hand-written loop reports."""
    spec = Spec(model="timm:resnet18")
    workload = build(spec, "cpu", threads=1)
    try:
        model = models.build(spec.model, spec.image_size).eval()
        images = torch.randn(1, 3, 224, 224)
        ours, bare = [], []

        def by_hand() -> float:
            with torch.inference_mode():
                start = time.perf_counter()
                for _ in range(BLOCK):
                    model(images)
                return time.perf_counter() - start

        def both() -> None:
            blocks = timing.time_blocks(workload, blocks=1, iterations=BLOCK, now=time.perf_counter)
            ours.append(blocks.wall[0])
            bare.append(by_hand())

        benchmark.pedantic(both, rounds=40, warmup_rounds=3)
    finally:
        workload.close()
    if benchmark.disabled:
        return
    ratio = median(a / b for a, b in zip(ours[3:], bare[3:], strict=True))
    benchmark.extra_info["ours_over_bare_loop"] = ratio
    assert abs(ratio - 1) <= 0.01


@pytest.mark.slow
def test_a_launch_costs_a_thirtieth_of_a_cold_start(benchmark: Any) -> None:
    """A launch, less the same work in this process, against importing torch and timm in a new interpreter."""
    spec, once = SMALL[0], Protocol(name="once", warmup_iterations=1, blocks=1, block_iterations=1)
    prepare()
    launch(spec, once, "cpu", 1)
    measure(spec, once, "cpu", 1)
    cold, extra = [], []

    def round_() -> None:
        cold.append(seconds(lambda: subprocess.run([sys.executable, "-c", "import torch, timm"], check=True)))
        extra.append(seconds(lambda: launch(spec, once, "cpu", 1)) - seconds(lambda: measure(spec, once, "cpu", 1)))

    benchmark.pedantic(round_, rounds=1 if benchmark.disabled else 7)
    if benchmark.disabled:
        return
    benchmark.extra_info |= {"cold_start": median(cold), "launch_beyond_its_work": median(extra)}
    assert median(cold) / median(extra) >= 30


def seconds(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


@pytest.mark.slow
def test_a_sweep_spends_its_time_in_its_children(benchmark: Any, tmp_path: Path) -> None:
    """Ten small specs, three launches each: wall time beyond what the same measurements take in one process."""
    prepare()
    launch(SMALL[0], BRIEF, "cpu", 1)
    swept: list[float] = []
    inside: list[float] = []

    def both() -> None:
        start = time.perf_counter()
        three = Protocol(name="brief", warmup_iterations=2, blocks=5, block_iterations=2, launches=3)
        sweep(SMALL, three, tmp_path / f"{len(swept)}.jsonl", ["cpu"], threads=1)
        swept.append(time.perf_counter() - start)
        start = time.perf_counter()
        for spec in SMALL * 3:
            measure(spec, BRIEF, "cpu", 1)
        inside.append(time.perf_counter() - start)

    if benchmark.disabled:
        pytest.skip("half a minute, for a ratio that is not taken")
    benchmark.pedantic(both, rounds=3)
    overhead = median((a - b) / a for a, b in zip(swept, inside, strict=True))
    benchmark.extra_info |= {"outside_child_work": overhead, "seconds": median(swept)}
    assert overhead <= 0.20


def test_intervals_of_identical_specs_overlap(benchmark: Any) -> None:
    """A/A for real: twenty times two rows of seven launches of one spec, taking turns."""
    if benchmark.disabled:
        pytest.skip("minutes, for a number that is not taken")
    overlaps: list[bool] = []

    def repetition() -> None:
        rows: tuple[list[float], list[float]] = ([], [])
        for number in range(14):
            rate = images_per_second(launch(SMALL[0], BRIEF, "cpu", 1))
            assert rate is not None
            rows[number % 2].append(rate)
        first, second = map(estimate, rows)
        assert first.low
        assert first.high
        assert second.low
        assert second.high
        overlaps.append(first.low <= second.high and second.low <= first.high)

    benchmark.pedantic(repetition, rounds=20)
    benchmark.extra_info["overlaps"] = f"{sum(overlaps)} of {len(overlaps)}"
    assert sum(overlaps) >= 18
