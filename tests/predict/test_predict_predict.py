"""Predictions end to end: printed rows, tiers, refusals, memory, a card of one's own."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from perf.prediction import published
from tests.cards import TOML
from visionbench.predicting import calibrate
from visionbench.predicting import samples as room
from visionbench.predicting.basis import DATA_SHEET, VOLTA, basis_of, refusal
from visionbench.predicting.calibration import Calibration, read, shipped, write
from visionbench.predicting.features import features, peaks_of
from visionbench.predicting.memory import CONTEXT, FRAGMENTATION, capacity, largest_batch, memory
from visionbench.predicting.samples import Step, traced, traced_samples
from visionbench.predicting.step_time import predict_step, predict_traced
from visionbench.predicting.targets import from_toml, target
from visionbench.record.devices import DEVICES, find
from visionbench.record.errors import BenchError
from visionbench.record.prediction import distinguishable, prediction
from visionbench.record.record import Environment, Measurement, Record, from_json, to_json
from visionbench.record.spec import Spec
from visionbench.record.statistics import images_per_second
from visionbench.reports.results.validations import layouts

SHIPPED = shipped()
VIT = Spec(model="timm:deit_small_patch16_224", batch_size=64)
V100 = find("v100-sxm2-16gb")


def test_a_printed_row_lies_in_the_interval():
    """arXiv 2201.03545v2, Table 1: DeiT-S, 978.5 img/s on a V100 in fp32 (batch 64)."""
    record = predict_step(replace(VIT, attention="math"), V100)
    predicted = prediction(record)
    assert predicted.low < 978.5 < predicted.high
    assert predicted.centre == pytest.approx(978.5, rel=0.15)
    assert predicted.tier == "anchored"
    assert "published rows" in predicted.reason


def test_a_prediction_is_a_record_of_its_own_kind():
    record = predict_step(VIT, V100)
    assert (record.source, record.protocol, record.environment.device) == ("predicted", None, "v100-sxm2-16gb")
    assert from_json(to_json(record)) == record
    assert images_per_second(record) is None  # never mistaken for a measured throughput
    step = record.get("step_time")
    assert step.low < step.values[0] < step.high
    assert (step.level, record.basis.tier) == (0.8, "anchored")


def test_a_prediction_traces_its_step_once_and_uses_no_hardware(monkeypatch):
    specs = []

    def traced_once(spec: Spec):
        specs.append(spec)
        return run(spec)

    run = room.run
    monkeypatch.setattr(room, "run", traced_once)
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: pytest.fail("a prediction must not touch a GPU"))
    spec = replace(VIT, model="timm:resnet18", task="train")
    assert prediction(predict_step(spec, V100))
    assert specs == [spec]


@pytest.mark.parametrize(
    ("spec", "card", "tier"),
    [
        (replace(VIT, precision="amp_fp16"), "rtx-3090", "calibrated"),
        (replace(VIT, precision="amp_fp16", memory_format="channels_last"), "rtx-4090", "calibrated"),
        (VIT, "v100-pcie-16gb", "anchored"),
        (replace(VIT, precision="tf32", memory_format="channels_last"), "a100-sxm4-80gb", "anchored"),
        (replace(VIT, precision="bf16"), "h200-sxm-141gb", "data sheet"),
        (replace(VIT, precision="tf32"), "h100-sxm5-80gb", "data sheet"),
        (replace(VIT, precision="fp32", task="train"), "a100-sxm4-80gb", "data sheet"),
    ],
)
def test_tiers(spec, card, tier):
    basis = basis_of(spec, find(card), SHIPPED)
    assert basis.tier == tier
    assert basis.low < 0 < basis.high
    assert basis.reason


def test_less_is_claimed_with_less_behind_it():
    def width(card: str, **changes) -> float:
        basis = basis_of(replace(VIT, **changes), find(card), SHIPPED)
        return basis.high - basis.low

    own = width("rtx-4090", precision="amp_fp16")
    assert own < width("v100-sxm2-16gb") < width("v100-pcie-16gb") < width("l4")


@pytest.mark.parametrize(("precision", "card"), [("tf32", "v100-sxm2-16gb"), ("amp_bf16", "t4"), ("tf32", "t4")])
def test_a_precision_that_the_card_lacks_is_refused(precision, card):
    record = predict_step(replace(VIT, precision=precision), find(card))
    assert record.measurements == ()
    assert (record.failure.kind, record.failure.stage) == ("unsupported", "predict")
    assert f"has no {precision}" in record.failure.message


def test_a_launch_bound_batch_is_refused():
    record = predict_step(replace(VIT, batch_size=1, precision="amp_fp16"), find("rtx-4090"))
    assert "launch-bound" in record.failure.message
    assert prediction(record) is None


def test_operators_that_nobody_has_classified_are_refused():
    trace = traced(replace(VIT, model="timm:resnet18"))
    odd = replace(trace.operators[0], kind="other", name="deform_conv2d", bytes=trace.bytes // 5)
    assert refusal(trace, {}, 1.0) is None
    assert "classified" in refusal(replace(trace, operators=(*trace.operators, odd)), {}, 1.0)


def test_every_card_of_the_table_gets_a_number_or_a_reason():
    trace = traced(replace(VIT, precision="amp_fp16"))
    for device in (card for card in DEVICES if card.capability >= VOLTA):
        record = predict_traced(trace, trace.spec, device, basis_of(trace.spec, device, SHIPPED))
        assert prediction(record) or record.failure.message, device.key


def test_a_faster_card_is_predicted_faster():
    spec = replace(VIT, precision="amp_fp16", batch_size=256)
    speeds = [
        prediction(predict_step(spec, find(card))).centre for card in ("t4", "rtx-3090", "rtx-4090", "h100-sxm5-80gb")
    ]
    assert speeds == sorted(speeds)


def _measured(spec: Spec, card: str, seconds: float) -> Record:
    place = Environment(device_type="cuda", device_key=card, torch="2.8.0")
    value = Measurement(metric="throughput", unit="s", better="lower", assume="nothing", values=(seconds,))
    return Record(spec=spec, protocol=None, environment=place, measurements=(value,), source="measured")


def test_the_same_spec_measured_on_another_card_is_carried_over():
    spec = replace(VIT, precision="amp_fp16", batch_size=256)
    there = predict_step(spec, find("rtx-3090")).value("step_time")
    slow = _measured(spec, "rtx-3090", 1.3 * there)
    plain, carried = (predict_step(spec, find("rtx-4090"), measured=rows) for rows in ((), (slow,)))
    assert carried.value("step_time") == pytest.approx(1.3 * plain.value("step_time"))
    assert prediction(carried).tier == "ratio"
    assert prediction(predict_step(spec, find("h100-sxm5-80gb"), measured=(slow,))).tier == "data sheet"
    other = replace(slow, spec=replace(spec, precision="fp16"))
    assert prediction(predict_step(spec, find("rtx-4090"), measured=(other,))).tier == "calibrated"


def _columns(spec, card):
    return features(traced(spec), peaks_of(card, spec.precision))


@pytest.mark.slow
def test_anchors_of_ones_own_make_a_card_calibrated():
    """Steps of a made-up H200 that is 1.4 times slower than the 3090's multipliers and its own data sheet say."""
    h200, start = find("h200-sxm-141gb"), next(c for c in SHIPPED if c.device == "rtx-3090" and c.task == "inference")
    names = (
        "resnet18",
        "vit_tiny_patch16_224",
        "mobilenetv3_small_050",
        "convnext_atto",
        "regnetx_002",
        "mixer_s32_224",
    )
    records = []
    for name in names:
        for batch in (128, 256):
            spec = Spec(model=f"timm:{name}", batch_size=batch, precision="amp_fp16")
            founded = replace(
                basis_of(spec, h200, SHIPPED),
                multipliers=start.multipliers,
                peaks=peaks_of(h200, "amp_fp16"),
                factor=1.0,
            )
            step = founded.seconds(features(traced(spec), founded.peaks), spec)
            records.append(_measured(spec, h200.key, 1.4 * step))
    [(fitted, skipped)] = calibrate.from_records(records, start)
    assert (fitted.device, fitted.origin, fitted.torch, skipped) == ("h200-sxm-141gb", "records", "2.8.0", [])
    assert fitted.held_out["model"].mean < 0.06
    # What these six say nothing of stays as believed, slowed like the rest; no dozen makes the interval narrower.
    unseen = set(start.multipliers) - {name for record in records for name in _columns(record.spec, h200)}
    assert unseen
    ratios = [fitted.multipliers[name] / start.multipliers[name] for name in unseen if start.multipliers[name]]
    assert ratios == pytest.approx([1.4] * len(ratios), rel=0.05)
    assert fitted.low <= start.low < start.high <= fitted.high
    spec = Spec(model="timm:resnet18", batch_size=128, precision="amp_fp16")
    assert basis_of(spec, h200, (*SHIPPED, fitted)).tier == "calibrated"


def test_anchors_of_equal_times_have_no_rank(tmp_path):
    """A file of records may hold anything: equal times of all networks have no rank correlation, and that is null."""
    networks = ("resnet18", "resnet34", "vit_tiny_patch16_224", "convnext_atto", "regnetx_002", "mixer_s32_224",
                "mobilenetv3_small_050", "efficientnet_b0")  # fmt: skip
    specs = [replace(VIT, model=f"timm:{name}", precision="amp_fp16") for name in networks]
    [(fitted, _)] = calibrate.from_records([_measured(spec, "rtx-4090", 0.1) for spec in specs])
    assert fitted.held_out["model"].rank is None
    assert read(write(fitted, tmp_path)).held_out["model"].rank is None
    [held_out] = layouts([fitted])
    assert held_out.rows[0].cells[[column.key for column in held_out.columns].index("rank")].value is None


NETWORKS = ("resnet18", "resnet34", "vit_tiny_patch16_224", "convnext_atto", "regnetx_002", "mixer_s32_224",
            "mobilenetv3_small_050", "efficientnet_b0", "resnet26")  # fmt: skip


def _flagged(record: Record, *flags: str) -> Record:
    return replace(record, measurements=(replace(record.measurements[0], flags=flags),))


@pytest.fixture(scope="module")
def rows() -> Iterator[list[Record]]:
    """Nine measured networks. Each is traced once for all tests that fit something to them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "run", functools.cache(room.run))
        yield [_measured(replace(VIT, model=f"timm:{n}", precision="amp_fp16"), "rtx-4090", 0.1) for n in NETWORKS]


@pytest.fixture(scope="module")
def clean_fit(rows: list[Record]) -> Calibration:
    """What the first eight of them give."""
    [(fitted, _)] = calibrate.from_records(rows[:-1])
    return fitted


@pytest.mark.parametrize("flag", ["host_bound", "throttled", "other_gpu_processes", "nan_output"])
def test_a_calibration_leaves_out_what_a_flag_doubts(flag, rows, clean_fit):
    *clean, last = rows
    [(fitted, skipped)] = calibrate.from_records([*clean, _flagged(replace(last), flag)])
    assert (fitted.rows, [skip.reason for skip in skipped]) == (8, [f"flagged {flag}"])
    assert fitted.skipped == {f"flagged {flag}": 1}
    assert fitted.multipliers == clean_fit.multipliers
    [(fitted, skipped)] = calibrate.from_records([*rows, _flagged(last, flag)])  # another launch of it is clean
    assert (fitted.rows, skipped) == (9, [])


def test_a_row_at_the_power_limit_stays_in_a_calibration(rows):
    *clean, last = rows
    [(fitted, skipped)] = calibrate.from_records([*clean, _flagged(last, "power_capped")])  # as a big model always is
    assert (fitted.rows, skipped) == (9, [])


def test_rows_that_are_all_doubtful_are_refused_with_the_reason():
    rows = [_measured(replace(VIT, model=f"timm:{name}", precision="amp_fp16"), "rtx-4090", 0.1) for name in NETWORKS]
    with pytest.raises(BenchError, match="9 launches were left out, flagged host_bound"):
        calibrate.from_records([_flagged(row, "host_bound") for row in rows])


def test_too_few_anchors_are_refused():
    with pytest.raises(BenchError, match="too few"):
        calibrate.from_records([_measured(replace(VIT, precision="amp_fp16"), "rtx-3090", 0.1)])


@pytest.mark.parametrize("trouble", [None, RuntimeError("Invalid pretrained tag (sam)\nand more")])
def test_a_row_whose_model_cannot_be_built_is_left_out_and_takes_nothing_along(trouble, monkeypatch):
    names = ["no_such_network_at_all", "resnet18"]
    if trouble:
        names[0] = "resnet34"
        plain = room.run
        monkeypatch.setattr(room, "run", lambda spec: plain(spec) if "18" in spec.model else _raise(trouble))
    peaks = peaks_of(V100, "fp32")
    steps = [Step(spec=Spec(model=f"timm:{name}", batch_size=8), seconds=0.1, peaks=peaks) for name in names]
    samples, skipped = traced_samples(steps)
    assert [sample.model for sample in samples] == ["timm:resnet18"]
    assert [skip.row for skip in skipped] == [str(steps[0].spec)]
    assert "\n" not in skipped[0].reason


def _raise(error):
    raise error


# --- memory ---

TRAIN = Spec(model="timm:resnet18", task="train", batch_size=32)


def test_memory_is_three_numbers_in_order():
    needed = memory(traced(TRAIN), V100)
    assert needed.allocated < needed.reserved < needed.process
    assert needed.process == pytest.approx(needed.allocated / FRAGMENTATION + CONTEXT)
    assert memory(traced(replace(TRAIN, task="inference")), V100) is None


@pytest.mark.parametrize(
    ("iso", "vit", "printed"),
    [
        ("paper:convnext_iso_small", "timm:deit_small_patch16_224", 4.2 / 4.9),
        ("paper:convnext_iso_base", "timm:deit_base_patch16_224", 7.7 / 9.1),
    ],
)
def test_the_paper_s_ratio_of_training_memory(iso, vit, printed):
    """arXiv 2201.03545v2, Table 2: fp32, batch 32. The absolute figures hold more than a step (EMA, DDP)."""
    spec = Spec(model=iso, task="train", batch_size=32, attention="math")
    ours = memory(traced(spec), V100).allocated / memory(traced(replace(spec, model=vit)), V100).allocated
    assert ours == pytest.approx(printed, rel=0.06)


def test_the_largest_batch_fits_and_a_much_larger_one_does_not():
    card = find("t4")
    batch = largest_batch(TRAIN, card)
    room = (capacity(card) - CONTEXT) * FRAGMENTATION
    assert memory(traced(replace(TRAIN, batch_size=batch)), card).allocated <= room
    assert memory(traced(replace(TRAIN, batch_size=int(batch * 1.05))), card).allocated > room
    with pytest.raises(BenchError, match="training only"):
        largest_batch(replace(TRAIN, task="inference"), card)


def test_a_step_that_cannot_fit_is_refused():
    record = predict_step(replace(TRAIN, batch_size=4096), find("t4"))
    assert record.failure.kind == "out_of_memory"


# --- cards ---


def test_a_card_of_ones_own(tmp_path):
    path = tmp_path / "card.toml"
    path.write_text(TOML)
    [card] = target(str(path))
    assert (card.key, card.capability, card.tf32) == ("my-card", (8, 9), None)
    assert prediction(predict_step(replace(VIT, precision="amp_fp16"), card)).tier == "data sheet"


@pytest.mark.parametrize(
    "change", [("fp16 = 1.5e14", ""), ("l2 = 4.8e7", "l2 = -1"), ('"8.9"', '"nine"'), ("key", "kye")]
)
def test_a_wrong_file_is_refused(change, tmp_path):
    path = tmp_path / "card.toml"
    path.write_text(TOML.replace(*change))
    with pytest.raises(BenchError, match=r"card\.toml"):
        from_toml(path)


def test_a_card_is_found_by_the_drivers_exact_name_or_by_key():
    assert [d.key for d in target("NVIDIA GeForce RTX 4090")] == ["rtx-4090"]
    assert len(target("a100")) == 4
    with pytest.raises(BenchError):
        target("NVIDIA GeForce RTX 4090 D")


# --- validation ---


def test_a_calibration_errs_less_than_seconds_per_mac():
    held_out, publications = layouts(SHIPPED)
    assert len(held_out.rows) == len(SHIPPED)
    assert publications.rows
    for known in SHIPPED:
        assert known.held_out["model"].mean < known.held_out["flops"].mean


def test_printed_rows_have_sources_and_some_are_kept_for_checking():
    rows = published.published()
    assert all(row.source and find(row.device) and row.images_per_second > 0 for row in rows)
    assert {row.fit for row in rows} == {True, False}
    fitted = {(row.device, row.spec) for row in rows if row.fit}
    assert not fitted & {(row.device, row.spec) for row in rows if not row.fit}


def test_two_predictions_differ_only_beyond_the_resolution():
    assert distinguishable(1.0, 1.3, 0.2)
    assert not distinguishable(1.0, 1.2, 0.2)
    assert DATA_SHEET[0] < -math.log(1.3)


@pytest.mark.parametrize("card", ["p100-pcie-16gb", "p100-sxm2-16gb", "gtx-1080-ti"])
def test_a_card_older_than_all_that_were_measured_is_refused(card):
    device = find(card)
    assert device is not None
    record = predict_step(Spec(model="timm:resnet18", batch_size=8), device)
    assert record.failure is not None
    assert "`run anchors` there, and `calibrate`" in record.failure.message


def test_a_file_does_not_choose_where_a_calibration_is_written(rows: list[Record], tmp_path: Path) -> None:
    """The torch that a record names is part of the calibration's id, which is the name of its file."""
    hostile = [replace(row, environment=replace(row.environment, torch="2.15/../../../evil\x00")) for row in rows]
    [(fitted, _)] = calibrate.from_records(hostile)
    assert write(fitted, tmp_path / "folder").parent == tmp_path / "folder"
    assert [path.parent.name for path in tmp_path.rglob("*.json")] == ["folder"]
