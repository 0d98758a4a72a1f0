"""Every family of the zoo, twice, in precisions that take turns: a count is a fact, and no precision changes it."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import pytest
import timm
import torch

from visionbench.models import ModelError
from visionbench.record.errors import BenchError
from visionbench.record.spec import Precision, Spec, Task
from visionbench.tracing import run

SMALL = ("atto", "femto", "pico", "nano", "xxs", "xx_small", "x_small", "tiny", "_xs", "small", "_s", "18", "26", "50")


def small_models() -> list[str]:
    """A small model of every file of timm's that has models."""

    def rank(name: str) -> tuple[int, int, str]:
        return next((place for place, word in enumerate(SMALL) if word in name), len(SMALL)), len(name), name

    return [min(models, key=rank) for module in timm.list_modules() if (models := timm.list_models(module=module))]


TURNS: tuple[Precision, ...] = ("amp_fp16", "amp_bf16", "fp16", "amp_bf16", "amp_fp16", "bf16", "tf32")
"""Precisions take turns, those with casts twice as often: all of them on all families would take many minutes.

`VISIONBENCH_ZOO=all pytest tests/trace/test_trace_zoo.py` takes them all, inference and training.
"""

ALL = os.environ.get("VISIONBENCH_ZOO") == "all"


TOO_SMALL: set[str] = set()
"""Networks whose windows do not fit into 96 pixels."""


def counts(model: str, precision: Precision, task: Task) -> tuple[object, ...]:
    card = timm.models.get_pretrained_cfg(model)
    own = max(card.input_size[1:]) if card else 224
    spec = Spec(model=f"timm:{model}", image_size=own, precision=precision, task=task, batch_size=2)
    fixed = model in TOO_SMALL or (card and card.fixed_input_size)
    try:
        trace = run(spec if fixed else replace(spec, image_size=96))
    except BenchError:
        TOO_SMALL.add(model)
        trace = run(spec)
    return trace.macs_per_image, trace.params, len(trace.operators), trace.bytes, trace.curve and trace.curve.peak


def faults(number: int, model: str) -> list[str]:
    """What is not equal of a model in the precision whose turn it is, traced twice, and in fp32."""
    torch.set_num_threads(1)
    turns = dict.fromkeys(TURNS) if ALL else (TURNS[number % len(TURNS)],)
    return [fault for turn in turns for fault in faults_in(turn, model, trained=ALL or bool(number % 2))]


def faults_in(turn: Precision, model: str, *, trained: bool) -> list[str]:
    try:
        tasks: tuple[Task, ...] = ("inference", "train") if trained else ("inference",)
        pairs = [[counts(model, turn, task) for _ in range(2)] for task in tasks]
        unequal = [f"{model} {turn}: {first} {second}" for first, second in pairs if first != second]
        plain = counts(model, "fp32", "inference")
        return unequal + ([f"{model} {turn}: {pairs[0][0]} {plain}"] if pairs[0][0][:2] != plain[:2] else [])
    except (BenchError, ModelError) as error:
        return [f"{model}: {error}"]


@pytest.mark.slow
def test_every_family_counts_alike_every_time_and_in_any_precision() -> None:
    models = small_models()
    assert len(models) > 60
    with ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("fork")) as pool:
        found = list(pool.map(faults, range(len(models)), models))
    assert [fault for of_model in found for fault in of_model] == []
