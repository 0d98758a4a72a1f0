"""Every family of the zoo, traced twice in every precision: a count is a fact, and no precision changes it."""

from __future__ import annotations

import pytest
import timm

from visionbench.models import ModelError
from visionbench.record.errors import BenchError
from visionbench.record.spec import PRECISIONS, Precision, Spec
from visionbench.tracing import run

SMALL = ("atto", "femto", "pico", "nano", "xxs", "xx_small", "x_small", "tiny", "_xs", "small", "_s", "18", "26", "50")


def family_members() -> dict[str, str]:
    """A small model of every file of timm's, by its file."""

    def rank(name: str) -> tuple[int, int, str]:
        return next((place for place, word in enumerate(SMALL) if word in name), len(SMALL)), len(name), name

    return {
        module: min(models, key=rank) for module in timm.list_modules() if (models := timm.list_models(module=module))
    }


def counts(model: str, precision: Precision, task: str) -> tuple[object, ...]:
    card = timm.models.get_pretrained_cfg(model)
    size = max(card.input_size[1:]) if card and card.fixed_input_size else 128
    spec = Spec(model=f"timm:{model}", image_size=size, precision=precision, task=task, batch_size=2)  # type: ignore[arg-type]
    trace = run(spec)
    return trace.macs_per_image, trace.params, len(trace.operators), trace.bytes, trace.curve and trace.curve.peak


@pytest.mark.slow
def test_every_family_counts_alike_every_time_and_in_every_precision() -> None:
    different: list[str] = []
    for number, model in enumerate(family_members().values()):
        # Every precision of every family; training takes turns, so that all precisions meet many families in a minute.
        by_precision: dict[str, object] = {}
        for place, precision in enumerate(PRECISIONS):
            tasks = ["inference", *(["train"] if place == number % len(PRECISIONS) else [])]
            for task in tasks:
                try:
                    first, second = counts(model, precision, task), counts(model, precision, task)
                except (BenchError, ModelError) as error:
                    different.append(f"{model} {precision} {task}: {error}")
                    continue
                different += [f"{model} {precision} {task}: {first} {second}"] if first != second else []
                if task == "inference":
                    by_precision[precision] = first[0]
        different += [f"{model}: {by_precision}"] if len(set(by_precision.values())) > 1 else []
    assert different == []
