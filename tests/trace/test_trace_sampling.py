"""The curve of live memory in a record: short, its peak kept, and nothing of what comes before or after the step."""

from __future__ import annotations

from visionbench.record.record import Environment
from visionbench.record.spec import Spec
from visionbench.tracing.live import CATEGORIES
from visionbench.tracing.step import SAMPLES, run, to_record, trace

META = Environment(device_type="meta")


def test_a_training_record_keeps_the_curve_with_its_peak() -> None:
    traced = run(Spec(model="timm:resnet50", task="train", batch_size=4, image_size=64))
    record = to_record(traced, META)
    curves = {phase: record.get(f"live_memory.{phase}") for phase in SAMPLES}
    values = [value for curve in curves.values() if curve for value in curve.values]
    assert all(curves.values())
    assert all(curve is None or len(curve.values) <= SAMPLES[phase] for phase, curve in curves.items())
    assert max(values) == record.value("peak_memory_live")
    assert traced.curve is not None
    peak = curves[traced.curve.peak_phase]
    assert peak is not None
    assert max(peak.values) == traced.curve.peak


def test_the_curve_never_falls_below_what_stands_throughout() -> None:
    record = trace(Spec(model="timm:convnext_atto", task="train", batch_size=2, image_size=64), META)
    parts = {category: record.value(f"peak_memory_live.{category}") or 0 for category in CATEGORIES}
    standing = parts["parameters"] + parts["optimizer"]
    for phase in SAMPLES:
        curve = record.get(f"live_memory.{phase}")
        assert curve is not None
        assert min(curve.values) >= standing


def test_the_curve_describes_and_is_compared_with_nothing() -> None:
    record = trace(Spec(model="timm:resnet18", task="train", image_size=64), META)
    curves = [one for one in record.measurements if one.metric.startswith("live_memory.")]
    assert [one.better for one in curves] == ["none"] * 3
    assert not [
        one
        for one in trace(Spec(model="timm:resnet18", image_size=64), META).measurements
        if one.metric.startswith("live_memory.")
    ]


def test_macs_by_kind_add_up_to_macs() -> None:
    record = trace(Spec(model="timm:convnext_atto", batch_size=4, image_size=64), META)
    kinds = {one.metric: one.values[0] for one in record.measurements if one.metric.startswith("macs.")}
    assert {"macs.matmul", "macs.conv", "macs.depthwise_conv"} == set(kinds)
    assert sum(kinds.values()) == record.value("macs")
    assert all(record.value(name.replace("macs.", "bytes.")) for name in kinds)
