"""How long a sweep on a GPU will take, said before it starts: by predicted steps and what a launch costs beside them.

A step's time is that of a record of the same card where there is one, else the predictor's. Of a card without a data
sheet, and of a CPU, nothing is said: a guess would be worse.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import mean

from visionbench.command import inputs
from visionbench.models import ModelError
from visionbench.record import store
from visionbench.record.devices import DeviceSpec
from visionbench.record.errors import BenchError
from visionbench.record.record import Record
from visionbench.record.spec import Protocol, Spec
from visionbench.record.statistics import images_per_second

LAUNCH_SECONDS = 5.0
"""CUDA's start, building, autotuning: 2 to 10 s for most rows on an H100 (docs/measuring.md)."""

COMPILE_SECONDS = 60.0
"""`torch.compile` from an empty cache, about; a large network takes minutes."""

IMPORT_SECONDS = 15.0
"""Two processes that import torch and timm beside each other, on the same day."""

PATIENCE = 15.0
"""Seconds that predicting may take for a sweep. Rows that are left then count as the mean of the others."""

UNTIMED_STEP = 0.1
"""Seconds of a step where a protocol times none: three such steps are little beside a launch."""


def step_seconds(specs: Iterable[Spec], card: DeviceSpec, records: Sequence[Record]) -> dict[Spec, float]:
    """Seconds of a step by spec, as far as they are known or can be predicted in `PATIENCE` seconds."""
    known: dict[Spec, float] = {}
    files = [path for path in inputs.committed_folder().glob("*.jsonl") if not path.stem.startswith("computed")]
    ours = [record for path in files for record in store.read(path).records]
    for record in sorted([*ours, *records], key=lambda record: record.source == "measured"):
        rate = images_per_second(record) if record.source == "measured" else None
        seconds = record.spec.batch_size / rate if rate else record.value("step_time")
        if record.environment.device_key == card.key and seconds:
            known[record.spec] = seconds
    wanted, began = tuple(dict.fromkeys(specs)), time.monotonic()
    with warnings.catch_warnings(action="ignore"):
        for spec in wanted:
            if spec not in known and time.monotonic() - began < PATIENCE:
                known[spec] = _predicted(spec, card)
    found = {spec: seconds for spec in wanted if (seconds := known.get(spec))}
    usual = mean(found.values()) if found else 0.0
    return {spec: found.get(spec, usual) for spec in wanted}


def _predicted(spec: Spec, card: DeviceSpec) -> float:
    """Seconds of a step; 0 for one that cannot be predicted, or not be built: that is for its launch to say."""
    from visionbench.predicting.step_time import predict_step

    try:
        return predict_step(spec, card).value("step_time") or 0.0
    except (BenchError, ModelError):
        return 0.0


def launch_seconds(spec: Spec, protocol: Protocol, step: float) -> float:
    """Seconds that one launch of `spec` takes, when its step takes `step`."""
    from visionbench.measuring.metrics.energy import IDLE_SECONDS, SETTLE_SECONDS, WINDOW_SECONDS

    warm = max(protocol.warmup_iterations * step, protocol.warmup_seconds) + (protocol.steady_within or 0.0) / 4
    block = protocol.block_iterations * step if protocol.block_iterations else max(protocol.block_seconds, step)
    passes = sum(metric in ("throughput", "latency") for metric in protocol.metrics)
    if spec.processes is not None:
        return LAUNCH_SECONDS + warm + 3 * protocol.blocks * block
    energy = WINDOW_SECONDS + SETTLE_SECONDS + IDLE_SECONDS if "energy" in protocol.metrics else 0.0
    compiling = COMPILE_SECONDS if spec.compile_mode else 0.0
    return LAUNCH_SECONDS + compiling + warm + passes * protocol.blocks * block + energy


def turns_seconds(compiled: Sequence[bool], launches: int) -> float:
    """Seconds of so many launches of rows in turns on a GPU, a candidate each; `compiled` says which are compiled.

    A launch is two processes that import torch; a row builds on both sides, one after the other, warms up on each, and
    takes its turns.
    """
    from visionbench.judging.duet import ROW_SECONDS
    from visionbench.measuring.process.side_process import WARM_UP

    row = 2 * (LAUNCH_SECONDS + WARM_UP["gpu"][1]) + ROW_SECONDS
    return launches * (IMPORT_SECONDS + sum(row + COMPILE_SECONDS * slow for slow in compiled))


def by_launch(
    launches: Sequence[Spec], protocol: Protocol, card: DeviceSpec, records: Sequence[Record]
) -> dict[Spec, float]:
    """Seconds of a launch by spec. What is not timed needs no prediction.

    Of a launch of several processes, whose blocks are of three kinds, the step of one process is what is predicted.
    """
    alone = {spec: replace(spec, processes=None, parallel=None) for spec in dict.fromkeys(launches)}
    steps = step_seconds(alone.values(), card, records) if protocol.metrics else {}
    return {spec: launch_seconds(spec, protocol, steps.get(lone, UNTIMED_STEP)) for spec, lone in alone.items()}
