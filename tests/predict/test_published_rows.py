"""Printed rows: what is fitted on them, what is only checked with them, and what they say of whole cards."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest

from perf.prediction.published import calibrate_published, fit_slower, published, tabled
from visionbench.predicting.basis import DATA_SHEET, OF_HBM, OF_THE_CHIP, basis_of
from visionbench.predicting.calibration import average, chip, shipped
from visionbench.predicting.features import LAUNCH, features
from visionbench.predicting.fit import fit
from visionbench.predicting.samples import family_of, traced
from visionbench.predicting.step_time import predict_step
from visionbench.record.devices import find
from visionbench.record.spec import Spec

SHIPPED = shipped()
ROWS = published()
PUBLISHED = [calibration for calibration in SHIPPED if calibration.origin == "published"]
VIT = Spec(model="timm:deit_small_patch16_224", batch_size=64, precision="amp_fp16")


def _groups():
    groups = defaultdict(list)
    for row in ROWS:
        if row.fit:
            groups[(chip(row.device), row.spec.precision, row.spec.memory_format, row.spec.task)].append(row)
    return groups


def test_networks_of_convnext_s_block_are_held_out_together():
    names = ("paper:convnext_original_tiny", "paper:convnext_iso_small", "timm:convnext_tiny", "timm:resnet18")
    *block, other = (family_of(traced(Spec(model=name)).family) for name in names)
    assert len(set(block)) == 1
    assert other not in block


def test_rows_of_the_authors_program_say_so():
    """Their repositories say so: VMamba's analyze/tp.py imports the authors' file, InceptionNeXt's models/convnext.py
    is made of it, throughput-bench runs timm's.
    """
    for row in ROWS:
        if any(paper in row.source for paper in ("2201.03545", "2401.10166", "2303.16900")):
            assert not row.spec.model.startswith("timm:convnext")
        if "throughput-bench" in row.source:
            assert row.spec.model.startswith("timm:")


def test_a_group_is_fitted_only_if_two_publications_print_it():
    for way, rows in _groups().items():
        assert len({row.source for row in rows}) >= 2, way


def test_every_fitted_group_has_a_shipped_calibration_of_just_these_rows():
    groups = _groups()
    assert len(PUBLISHED) == len(groups) >= 4
    for calibration in PUBLISHED:
        rows = groups[(chip(calibration.device), calibration.precision, calibration.memory_format, calibration.task)]
        assert calibration.rows == len(rows)
        assert calibration.sources == tuple(sorted({row.source for row in rows}))


@pytest.mark.parametrize(
    ("start", "mean"),
    [
        ("v100-sxm2-16gb-fp32-contiguous-inference", 0.085),
        ("v100-sxm2-32gb-amp_fp16-contiguous-inference", 0.07),
        ("a100-sxm4-40gb-tf32-channels_last-inference", 0.12),
        ("a100-sxm4-80gb-amp_fp16-channels_last-inference", 0.13),
    ],
)
def test_held_out_families_of_printed_rows(start, mean):
    [calibration] = [calibration for calibration in PUBLISHED if calibration.id == f"{start}-published"]
    assert calibration.held_out["model"].mean <= mean
    assert calibration.held_out["model"].rank >= 0.97
    assert calibration.low < -0.05 < 0.05 < calibration.high


@pytest.mark.slow
def test_the_shipped_calibration_comes_from_the_rows():
    """Fitted anew from the file, A100 TF32 is what is shipped (to a percent: releases of timm differ by less)."""
    rows = [row for row in ROWS if chip(row.device) == "a100" and row.spec.precision == "tf32"]
    [(fitted, skipped)] = calibrate_published(rows)
    [before] = [other for other in PUBLISHED if other.id == fitted.id]
    assert skipped == []
    assert (fitted.rows, fitted.families, fitted.sources) == (before.rows, before.families, before.sources)
    assert fitted.multipliers == pytest.approx(before.multipliers, rel=0.01, abs=0.01)
    assert (fitted.low, fitted.high) == pytest.approx((before.low, before.high), abs=0.01)


CHECKED = [
    ("v100-sxm2-16gb", "resnet50", "amp_fp16", "channels_last", "inference"),
    ("v100-sxm2-32gb", "swin_tiny_patch4_window7_224", "fp16", "contiguous", "inference"),
    ("v100-sxm2-32gb", "efficientnet_b0", "fp16", "contiguous", "inference"),
    ("v100-sxm2-16gb", "pit_s_224", "fp32", "contiguous", "inference"),
    ("v100-sxm2-16gb", "vit_base_patch16_224", "fp32", "contiguous", "inference"),
    ("a100-sxm4-80gb", "deit_small_patch16_224", "fp32", "contiguous", "inference"),
    ("a100-sxm4-80gb", "hiera_tiny_224", "amp_fp16", "contiguous", "inference"),
    ("a100-sxm4-80gb", "efficientnet_b0", "tf32", "contiguous", "inference"),
    ("t4", "resnet50", "amp_fp16", "channels_last", "inference"),
    ("a100-sxm4-80gb", "resnet50", "tf32", "contiguous", "train"),
    ("a100-sxm4-80gb", "resnet50", "amp_fp16", "contiguous", "train"),
    ("h100-sxm5-80gb", "resnet50", "tf32", "contiguous", "train"),
]


def _checked():
    for card, model, *way in CHECKED:
        rows = [
            row
            for row in ROWS
            if (row.device, row.spec.model) == (card, f"timm:{model}")
            and [row.spec.precision, row.spec.memory_format, row.spec.task] == way
        ]
        yield max(rows, key=lambda row: row.spec.batch_size)


@pytest.mark.slow
def test_rows_that_no_multiplier_was_fitted_on():
    """A dozen of the check rows, over cards and ways of running: on average near, and in their intervals."""
    errors, inside = [], []
    for row in _checked():
        assert not row.fit
        founded = basis_of(row.spec, find(row.device), SHIPPED)
        predicted = founded.seconds(features(traced(row.spec), founded.peaks), row.spec)
        error = math.log(row.seconds / predicted)
        errors.append(error)
        inside.append(founded.low <= error <= founded.high)
    assert np.abs(np.expm1(errors)).mean() < 0.12
    assert abs(np.mean(errors)) < 0.06
    assert np.mean(inside) >= 0.8


# --- what rows of a chip say of all its multipliers ---


def test_data_centre_cards_are_slowed_and_geforce_cards_are_not():
    spec = replace(VIT, memory_format="channels_last")
    factors = {
        card: basis_of(spec, find(card), SHIPPED).factor
        for card in ("rtx-5090", "l4", "t4", "v100-sxm2-16gb", "h100-sxm5-80gb", "b200-sxm-180gb")
    }
    assert factors["rtx-5090"] == factors["l4"] == 1.0
    assert (
        1.2 < factors["v100-sxm2-16gb"] < factors["t4"] < factors["h100-sxm5-80gb"] == factors["b200-sxm-180gb"] < 2.2
    )


def test_the_factor_of_a_chip_is_the_one_that_its_rows_show():
    """V100 AMP in channels_last, ResNet-50 (the fit was on contiguous rows): within a tenth of the factor in use."""
    card = find("v100-sxm2-16gb")
    spec = Spec(model="timm:resnet50", batch_size=256, precision="amp_fp16", memory_format="channels_last")
    founded = basis_of(spec, card, SHIPPED)
    columns = features(traced(spec), founded.peaks)
    [row] = [row for row in ROWS if row.spec == replace(spec, attention="math") and row.device == card.key]
    assert row.seconds / replace(founded, factor=1.0).seconds(columns, spec) == pytest.approx(founded.factor, rel=0.1)


def test_the_factor_slows_the_device_and_not_the_host():
    founded = replace(
        basis_of(VIT, find("h100-sxm5-80gb"), SHIPPED), multipliers={LAUNCH: 1.0, "copy": 1.0}, factor=2.0
    )
    assert founded.seconds({LAUNCH: 1e-3}, VIT) == pytest.approx(1e-3)
    assert founded.seconds({"copy": 1e-3}, VIT) == pytest.approx(2e-3)


def test_intervals_by_how_near_the_evidence_is():
    def interval(card: str, **changes):
        founded = basis_of(replace(VIT, **changes), find(card), SHIPPED)
        return founded.tier, (founded.low, founded.high)

    assert interval("a100-pcie-40gb", memory_format="channels_last")[0] == "anchored"
    assert interval("a100-pcie-40gb") == ("data sheet", OF_THE_CHIP)
    assert interval("v100-sxm2-16gb", precision="fp16") == ("data sheet", OF_THE_CHIP)
    assert interval("h100-sxm5-80gb") == ("data sheet", OF_HBM)
    assert interval("a100-sxm4-80gb", task="train") == ("data sheet", OF_HBM)
    assert interval("rtx-5090", task="train") == ("data sheet", DATA_SHEET)
    assert interval("l40s") == ("data sheet", DATA_SHEET)
    assert OF_THE_CHIP[1] - OF_THE_CHIP[0] < OF_HBM[1] - OF_HBM[0] < DATA_SHEET[1] - DATA_SHEET[0]


def test_another_chip_s_printed_rows_do_not_mix_with_tables():
    for card in ("h100-sxm5-80gb", "rtx-5090"):
        assert "published" not in basis_of(VIT, find(card), SHIPPED).calibration
    assert "a100" in basis_of(replace(VIT, precision="tf32"), find("h100-sxm5-80gb"), SHIPPED).calibration


def test_few_rows_of_a_slower_card_keep_the_shape_that_is_believed():
    random = np.random.default_rng(0)
    design = random.lognormal(-6, 1, (200, 6))
    believed = np.array([0.4, 0.6, 1.1, 1.6, 3.0, 0.2])
    measured = 1.9 * (design @ believed) * np.exp(random.normal(0, 0.05, 200))

    def error(solve) -> float:
        multipliers = solve(design[:8], measured[:8], believed)
        return float(np.abs(design[8:] @ multipliers / measured[8:] - 1).mean())

    assert error(fit_slower) < 0.06 < error(fit)


def test_tables_are_averaged_by_the_way_they_were_run():
    tables = tabled(SHIPPED, "channels_last", "inference")
    assert {c.device for c in tables} == {"rtx-3090", "rtx-4090"}
    assert average(tables)["copy"] == pytest.approx(sum(c.multipliers["copy"] for c in tables) / 2)
    assert average([]) == {}


# --- what is not carried over from one card to another ---


def test_fp32_is_never_faster_than_tf32():
    """An EfficientNet on an A100: its fp32 multipliers are a V100's, whose memory is another."""
    spec = Spec(model="timm:efficientnet_b0", batch_size=256, memory_format="channels_last")
    card = find("a100-sxm4-80gb")
    founded = basis_of(spec, card, SHIPPED)
    assert founded.limit is not None
    alone = founded.seconds(features(traced(spec), founded.peaks), spec)
    slow, fast = (predict_step(replace(spec, precision=way), card).value("step_time") for way in ("fp32", "tf32"))
    assert slow == pytest.approx(fast)
    assert alone < 0.95 * slow
    assert basis_of(spec, find("v100-sxm2-16gb"), SHIPPED).limit is None
    assert basis_of(replace(spec, precision="tf32"), card, SHIPPED).limit is None


def test_what_makes_an_a100_slow_is_not_carried_to_a_geforce_card():
    tf32 = replace(VIT, precision="tf32")
    assert "a100" not in basis_of(tf32, find("rtx-4090"), SHIPPED).calibration
    assert basis_of(tf32, find("h100-sxm5-80gb"), SHIPPED).calibration.startswith("a100")
    times = [
        predict_step(replace(VIT, precision=way), find("l4")).value("step_time") for way in ("fp32", "tf32", "fp16")
    ]
    assert times == sorted(times, reverse=True)


def test_one_card_s_slow_gradients_of_grouped_convolutions_stay_its_own():
    spec = Spec(model="timm:resnext50_32x4d", task="train", batch_size=64, precision="amp_fp16",
                memory_format="channels_last")  # fmt: skip
    own, carried = (basis_of(spec, find(card), SHIPPED).multipliers for card in ("rtx-3090", "a100-sxm4-80gb"))
    assert own["grouped.backward.scalar.last"] > 5 * carried["grouped.backward.scalar.last"]
    assert own["elementwise"] == carried["elementwise"]


def test_compiling_does_not_make_a_slow_card_a_fast_one():
    """The speed-up on an A100 is about that of the 4090, whose compiled table it comes from; the interval is wide."""
    eager = replace(VIT, batch_size=256, memory_format="contiguous")
    compiled = replace(eager, compile_mode="default")

    def speed_up(card: str) -> float:
        slow, fast = (predict_step(spec, find(card)).value("step_time") for spec in (eager, compiled))
        return slow / fast

    assert speed_up("a100-sxm4-80gb") == pytest.approx(speed_up("rtx-4090"), rel=0.2)
    founded = basis_of(compiled, find("a100-sxm4-80gb"), SHIPPED)
    assert founded.factor > 1.5
    assert (founded.low, founded.high) == DATA_SHEET
