"""The training step: live memory against torch's own tracker, its split, and the backward pass in closed form."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.distributed._tools.mem_tracker import MemTracker

from visionbench.record.memory_protocol import PAPER_2022, PAPER_2022_COPIES, TODAY
from visionbench.record.record import Environment
from visionbench.record.spec import Spec
from visionbench.tracing import Trace, passes, run, trace
from visionbench.tracing.live import BLOCK, CATEGORIES, Curve, LiveTensors
from visionbench.tracing.skeleton import skeleton

Traced = Callable[[Spec], Trace]
Network = Callable[..., str]


def curve_of(traced: Trace) -> Curve:
    assert traced.curve is not None
    return traced.curve


def first_events(curve: Curve) -> dict[str, int]:
    return {phase: event for event, phase in curve.phases}


def training(model: str, batch: int, size: int = 224, **fields: str) -> Spec:
    return Spec(model=model, task="train", batch_size=batch, image_size=size, **fields)  # type: ignore[arg-type]


def peak_by_mem_tracker(spec: Spec) -> int:
    """The same step on the meta device under torch's tracker, AdamW in its steady state. It rounds nothing up."""
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
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    by_device = {str(device): parts for device, parts in tracker.get_tracker_snapshot("peak").items()}
    return int({str(kind): size for kind, size in by_device["meta"].items()}["Total"])


# One batch at which the optimizer's temporaries are the peak, and one at which what the forward pass keeps is.
STEPS = [
    training(model, batch, size, attention="math")
    for model in ("timm:resnet18", "timm:convnext_atto", "timm:deit_tiny_patch16_224")
    for batch, size in ((1, 64), (24, 224))
]


@pytest.mark.parametrize("spec", STEPS, ids=str)
@pytest.mark.slow
def test_the_peak_is_mem_trackers(spec: Spec, traced: Traced) -> None:
    theirs = peak_by_mem_tracker(spec)
    curve = curve_of(traced(spec))
    assert curve.peak == pytest.approx(theirs, rel=0.02)
    assert curve.peak_phase == ("optimizer" if spec.batch_size == 1 else "backward")


@pytest.mark.parametrize("spec", STEPS, ids=str)
def test_the_split_adds_up_and_makes_sense(spec: Spec, traced: Traced) -> None:
    found = traced(spec)
    curve = curve_of(found)
    split = curve.split
    assert tuple(split) == CATEGORIES
    assert sum(split.values()) == curve.peak == max(curve.totals) == curve.totals[curve.peak_event]
    tensors = 400  # each may be rounded up by less than a block
    assert 0 <= split["parameters"] - found.param_bytes - found.buffer_bytes < tensors * BLOCK
    assert 0 <= split["optimizer"] - 2 * found.param_bytes < 2 * tensors * BLOCK
    assert split["activations"] >= 4 * spec.batch_size * 3 * spec.image_size**2  # the images at the least
    if curve.peak_phase == "optimizer":
        # All gradients, and the denominators of the update: as much again.
        assert 0 <= split["gradients"] - found.param_bytes < tensors * BLOCK
        assert found.param_bytes <= split["temporaries"] < 1.1 * found.param_bytes
        assert split["activations"] < 0.05 * curve.peak
    else:
        assert split["gradients"] < found.param_bytes
        assert split["activations"] > 0.4 * curve.peak


@pytest.mark.parametrize("spec", STEPS, ids=str)
def test_the_curve_begins_with_the_states_and_ends_with_them(spec: Spec, traced: Traced) -> None:
    found = traced(spec)
    curve = curve_of(found)
    first = first_events(curve)
    assert [phase for _, phase in curve.phases] == ["forward", "backward", "optimizer"]
    assert 0 == first["forward"] < first["backward"] < first["optimizer"] < len(curve.totals)
    assert all(total > 0 for total in curve.totals)
    assert all(total % BLOCK == 0 for total in curve.totals)
    states = found.param_bytes + found.buffer_bytes
    images = 4 * spec.batch_size * 3 * spec.image_size**2
    # Parameters and gradients live on; the trace's own images and moments may.
    least, most = states + found.param_bytes, states + 3 * found.param_bytes + images
    assert least <= curve.totals[-1] <= 1.02 * most


def test_a_step_of_one_layer_in_closed_form(network: Network) -> None:
    # images (4, 3, 32, 32) -> (4, 3072) @ (3072, 256): large tensors are multiples of a block.
    traced = run(training(network("nn.Sequential(nn.Flatten(), nn.Linear(3072, 256, bias=False))"), batch=4, size=32))
    weight, images = 4 * 3072 * 256, 4 * 4 * 3072
    curve = curve_of(traced)
    assert curve.peak_phase == "optimizer"
    assert curve.split["parameters"] == weight
    assert curve.split["gradients"] == weight
    assert curve.split["optimizer"] == 2 * weight
    assert curve.split["temporaries"] == weight  # the denominator
    assert images <= curve.split["activations"] <= images + 16 * BLOCK
    kept = images + 4 * 4 * 256 + 3 * BLOCK  # images, logarithm of the softmax; labels, loss, sum of the class weights
    assert curve.totals[first_events(curve)["backward"] - 1] == 3 * weight + kept


def test_activations_grow_with_the_batch_and_states_do_not(traced: Traced) -> None:
    small, large = (
        curve_of(traced(training("timm:deit_tiny_patch16_224", batch, attention="math"))) for batch in (24, 48)
    )
    assert large.split["activations"] == pytest.approx(2 * small.split["activations"], rel=0.01)
    assert large.split["parameters"] == small.split["parameters"]
    assert large.split["optimizer"] == small.split["optimizer"]


def test_inference_has_no_curve(traced: Traced) -> None:
    found = traced(Spec(model="timm:deit_tiny_patch16_224"))
    assert found.curve is None
    assert {op.phase for op in found.operators} == {"forward"}
    record = trace(found.spec, Environment(device_type="meta"))
    assert record.value("peak_memory_live") is None


def test_the_record_of_a_step_has_the_peak_and_its_parts(traced: Traced) -> None:
    spec = STEPS[0]
    record = trace(spec, Environment(device_type="meta"))
    assert record.value("peak_memory_live") == curve_of(traced(spec)).peak
    parts = [record.value(f"peak_memory_live.{category}") for category in CATEGORIES]
    assert sum(part or 0 for part in parts) == record.value("peak_memory_live")


KEPT = [
    training("timm:resnet18", 8),
    training("timm:convnext_atto", 4, memory_format="channels_last"),
    training("timm:deit_tiny_patch16_224", 8, attention="math"),
    training("timm:deit_tiny_patch16_224", 1, precision="amp_bf16"),  # a gradient that is a slice of another
    training("timm:mobilenetv3_large_100", 4, precision="amp_bf16"),
    training("timm:vgg11", 1),  # its peak is in the optimizer, where gradients live in any case
    training("paper:convnext_iso_small", 2, attention="math"),
]


@pytest.mark.parametrize("spec", KEPT, ids=str)
def test_what_kept_gradients_cost_is_what_a_step_with_kept_gradients_takes(
    spec: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Worked out of a step that lets go of them, against a step traced with gradients that are there from the start."""
    worked_out = curve_of(run(spec))
    optimizer_of = passes._optimizer_in_steady_state

    def with_gradients(model: nn.Module) -> torch.optim.Optimizer:
        optimizer = optimizer_of(model)
        for parameter in optimizer.param_groups[0]["params"]:
            parameter.grad = torch.empty_like(parameter)
        return optimizer

    monkeypatch.setattr(passes, "_optimizer_in_steady_state", with_gradients)
    kept = curve_of(run(spec))
    assert worked_out.peak <= worked_out.peak_kept_gradients == kept.peak == kept.peak_kept_gradients


def test_the_record_of_a_step_has_the_peak_with_kept_gradients() -> None:
    record = trace(training("timm:resnet18", 8), Environment(device_type="meta"))
    counted = PAPER_2022.peak(record)
    assert counted is not None
    assert counted > (TODAY.peak(record) or 0) > 0
    assert PAPER_2022_COPIES.peak(record) == counted + 2 * (record.value("param_bytes") or 0) + (
        record.value("buffer_bytes") or 0
    )


def test_two_steps_are_equal() -> None:
    for attention in ("fused", "math"):
        spec = training("timm:deit_tiny_patch16_224", 2, attention=attention, precision="amp_fp16")
        assert run(spec) == run(spec)


# MACs of the backward pass: each counted operator has two gradients, each as large as itself; but the first layer
# needs none of the images.


def macs_by_phase(traced: Trace) -> dict[str, int]:
    total = {"forward": 0, "backward": 0, "optimizer": 0}
    for op in traced.operators:
        total[op.phase] += op.macs
    return total


@pytest.mark.parametrize(
    ("layers", "macs"),
    [
        ("nn.Flatten(), nn.Linear(3072, 10)", [3072 * 10]),
        ("nn.Flatten(), nn.Linear(3072, 64), nn.ReLU(), nn.Linear(64, 10)", [3072 * 64, 64 * 10]),
        (
            "nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, groups=4), nn.Flatten(), "
            "nn.Linear(3136, 10)",
            [8 * 30 * 30 * 27, 16 * 14 * 14 * 2 * 9, 3136 * 10],
        ),
        (
            "nn.Conv2d(3, 8, 4, 4), nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.ConvTranspose2d(8, 2, 2, 2), "
            "nn.Flatten(), nn.Linear(512, 10)",
            [8 * 8 * 8 * 48, 8 * 8 * 8 * 9, 8 * 8 * 8 * 2 * 4, 512 * 10],
        ),
    ],
)
def test_backward_takes_twice_the_macs_of_forward_but_for_the_first_layer(
    network: Network, layers: str, macs: list[int]
) -> None:
    batch = 2
    traced = run(training(network(f"nn.Sequential({layers})"), batch, size=32))
    forward = batch * sum(macs)
    assert macs_by_phase(traced) == {"forward": forward, "backward": 2 * forward - batch * macs[0], "optimizer": 0}
    assert traced.macs_per_image == 3 * sum(macs) - macs[0]


def test_frozen_layers_take_no_gradients(network: Network) -> None:
    frozen = "nn.Linear(3072, 64).requires_grad_(False)"
    traced = run(training(network(f"nn.Sequential(nn.Flatten(), {frozen}, nn.Linear(64, 10))"), 2, size=32))
    assert macs_by_phase(traced)["backward"] == 2 * 64 * 10
    assert curve_of(traced).split["optimizer"] < 4 * 2 * (64 * 10 + 10) + 4 * BLOCK


def test_the_optimizer_is_foreach(traced: Traced) -> None:
    # One operator for the list of all parameters, as on CUDA, not one per parameter.
    found = traced(STEPS[0])
    optimizer = [op for op in found.operators if op.phase == "optimizer"]
    assert {op.kind for op in optimizer} == {"elementwise"}
    assert 5 <= len(optimizer) <= 15
    assert all(op.module == "" for op in found.operators if op.phase != "forward")


# The tracker on its own.


def test_a_storage_lives_until_its_last_view_goes() -> None:
    live = LiveTensors()
    live.phase("forward")
    whole = torch.empty(1000, device="meta")
    live.add(whole)
    live.add([whole[:10], (whole.view(10, 100),)])
    view = whole[1:]
    del whole
    assert live.curve().totals == (4096,)  # 4,000 bytes in blocks of 512
    del view
    assert live.curve().totals == (4096, 0)
    assert live.curve().peak == 4096


def test_categories_are_given_at_birth_by_name_or_by_surviving() -> None:
    live = LiveTensors()
    live.phase("forward")
    weight, kept, lost, gradient = (torch.empty(128 * n, device="meta") for n in (1, 2, 4, 8))
    live.add(weight, "parameters")
    live.add([kept, lost])
    del lost
    live.keep()
    live.phase("backward")
    live.add(gradient)
    live.mark([gradient, None], "gradients")
    temporary = torch.empty(128 * 16, device="meta")
    live.add(temporary)
    curve = live.curve()
    assert curve.split == {
        "parameters": 512,
        "gradients": 8 * 512,
        "optimizer": 0,
        "activations": 2 * 512,
        "temporaries": 16 * 512,
    }
    assert curve.totals == tuple(512 * n for n in (1, 3, 7, 3, 11, 27))
    assert (curve.peak_event, curve.peak_phase) == (5, "backward")
