"""Exact counts of every network of the paper, against the golden file and against what others publish."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from visionbench.models import names, paper
from visionbench.record.record import Environment, from_json, to_json
from visionbench.record.spec import Spec
from visionbench.reports.printed import rows
from visionbench.tracing import Trace, run, trace

ROOT = Path(__file__).parents[2]
Traced = Callable[[Spec], Trace]


def networks() -> list[tuple[str, int]]:
    """The unique model@size rows of Tables 1, 2 and 12, and all networks that are ours, at their tables' size."""
    tables = {row.network for table in ("1", "2", "12") for row in rows(table)}
    return sorted(tables | {(f"paper:{name}", 224) for name in paper.PAPER}, key=natural)


def natural(network: tuple[str, int]) -> list[str | int]:
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", f"{network[0]}@{network[1]}")]


def line(traced: Trace) -> str:
    counts = {
        "params": traced.params,
        "macs": traced.macs_per_image,
        "activations": traced.activations_per_image,
        "buffers": traced.buffers,
        "operators": len(traced.operators),
    }
    return f'  "{traced.spec.model}@{traced.spec.image_size}": {json.dumps(counts)}'


@pytest.mark.slow
def test_the_golden_counts(golden: Callable[[str, str], None], traced: Traced) -> None:
    lines = [line(traced(Spec(model=model, image_size=size))) for model, size in networks()]
    golden("counts.json", "{\n" + ",\n".join(lines) + "\n}\n")


def test_no_row_of_the_tables_is_missing() -> None:
    in_tables = {row.network for table in ("1", "2", "12") for row in rows(table)}
    assert len([model for model, _ in in_tables if model.startswith("timm:")]) == 17
    assert {model for model, _ in in_tables if model.startswith("paper:")} == {
        *(f"paper:convnext_iso_{size}" for size in ("small", "base", "large")),
        *(f"paper:convnext_original_{size}" for size in ("tiny", "small", "base", "large", "xlarge")),
    }
    ours = {name for name in names() if name.startswith("paper:")} - {f"paper:{name}" for name in paper.DENSE}
    assert ours <= {model for model, _ in networks()}
    assert len([name for name in ours if "roadmap" in name]) >= 32


# torchvision's own counts: `meta["num_params"]` and `meta["_ops"]` (G multiply-adds at `meta`'s crop) of its weights,
# torchvision 0.21 to 0.27. Its networks are other code than timm's.
TORCHVISION = {
    ("timm:resnet50", 224): (25_557_032, 4.089),
    ("timm:regnety_160", 224): (83_590_140, 15.912),
    ("timm:tf_efficientnet_b0", 224): (5_288_548, 0.386),
    ("timm:tf_efficientnet_b7", 600): (66_347_960, 37.746),
    ("timm:tf_efficientnetv2_l", 480): (118_515_272, 56.08),
    ("timm:convnext_tiny", 224): (28_589_128, 4.456),
    ("timm:convnext_small", 224): (50_223_688, 8.684),
    ("timm:convnext_base", 224): (88_591_464, 15.355),
    ("timm:convnext_large", 224): (197_767_336, 34.361),
    ("timm:swin_tiny_patch4_window7_224", 224): (28_288_354, 4.491),
    ("timm:swin_small_patch4_window7_224", 224): (49_606_258, 8.741),
    ("timm:swin_base_patch4_window7_224", 224): (87_768_224, 15.431),
    ("timm:vit_base_patch16_224", 224): (86_567_656, 17.564),
    ("timm:vit_large_patch16_224", 224): (304_326_632, 61.555),
}


@pytest.mark.parametrize(("model", "size"), TORCHVISION)
def test_params_and_macs_are_torchvisions(model: str, size: int, traced: Traced) -> None:
    params, giga = TORCHVISION[model, size]
    found = traced(Spec(model=model, image_size=size))
    assert (found.params, round(found.macs_per_image / 1e9, 3)) == (params, giga)


# Millions of activations (outputs of convolutions and matrix products) as printed in timm's benchmark tables
# (results/benchmark-infer-*.csv, column infer_macts, counted by fvcore) at 224 pixels. ResNet-50: also Radosavovic
# et al. 2020, "Designing Network Design Spaces", table 4.
ACTIVATIONS = {
    "timm:resnet50": 11.11,
    "timm:swin_tiny_patch4_window7_224": 17.06,
    "timm:deit_small_patch16_224": 11.95,
    "timm:tf_efficientnet_b0": 6.75,
    "timm:convnext_tiny": 13.44,
    "timm:regnety_160": 23.04,
}


@pytest.mark.parametrize("model", ACTIVATIONS)
def test_activations_are_timms(model: str, traced: Traced) -> None:
    assert round(traced(Spec(model=model)).activations_per_image / 1e6, 2) == ACTIVATIONS[model]


# G multiply-adds as printed: Touvron et al. 2021 (DeiT) table 5 rounds DeiT-S to 4.6; timm's table prints 4.61 with
# fvcore's 9.5 M of norms in it. Tan & Le 2019 (EfficientNet) table 2: B0 0.39. The others as above.
PRINTED = {
    "timm:vit_base_patch16_224": 17.56,
    "timm:resnet50": 4.09,
    "timm:deit_small_patch16_224": 4.60,
    "timm:tf_efficientnet_b0": 0.39,
    "timm:swin_tiny_patch4_window7_224": 4.49,
}


@pytest.mark.parametrize("model", PRINTED)
def test_macs_are_the_printed_ones(model: str, traced: Traced) -> None:
    assert round(traced(Spec(model=model)).macs_per_image / 1e9, 2) == PRINTED[model]


def test_a_trace_becomes_a_record_of_exact_counts(traced: Traced) -> None:
    found = traced(Spec(model="timm:convnext_tiny", batch_size=3))
    record = trace(found.spec, Environment(device_type="meta"))
    assert record.source == "computed"
    assert record.protocol is None
    assert record.value("params") == 28_589_128
    assert record.value("macs") == found.macs_per_image == 4_455_531_264
    assert record.value("flops") == 2 * found.macs_per_image
    assert record.value("bytes") == found.bytes
    assert record.value("operators") == len(found.operators)
    by_kind = [m for m in record.measurements if m.metric.startswith("operators.")]
    assert sum(m.values[0] for m in by_kind) == len(found.operators)
    assert sum(m.values[0] for m in record.measurements if m.metric.startswith("bytes.")) == found.bytes
    assert all(m.assume == "exact" and len(m.values) == 1 for m in record.measurements)
    assert from_json(to_json(record)) == record


def test_counts_per_image_do_not_depend_on_the_batch(traced: Traced) -> None:
    one, seven = (traced(Spec(model="timm:swin_tiny_patch4_window7_224", batch_size=n)) for n in (1, 7))
    assert one.macs_per_image == seven.macs_per_image
    assert one.activations_per_image == seven.activations_per_image
    assert one.bytes < seven.bytes < 7 * one.bytes


def test_memory_format_and_precision_change_no_count(traced: Traced) -> None:
    plain = traced(Spec(model="timm:convnext_tiny"))
    for spec in (
        Spec(model="timm:convnext_tiny", memory_format="channels_last"),
        Spec(model="timm:convnext_tiny", precision="tf32"),
        Spec(model="timm:convnext_tiny", precision="bf16"),
    ):
        other = traced(spec)
        assert (other.params, other.macs_per_image) == (plain.params, plain.macs_per_image)
        assert other.activations_per_image == plain.activations_per_image


def test_half_precision_halves_the_bytes(traced: Traced) -> None:
    full, half = (traced(Spec(model="timm:deit_tiny_patch16_224", precision=p)) for p in ("fp32", "fp16"))
    assert half.param_bytes * 2 == full.param_bytes == full.params * 4
    assert half.bytes < 0.51 * full.bytes  # the log-sum-exp of attention stays fp32


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.slow
def test_the_largest_network_takes_no_memory() -> None:
    # 937 million parameters would be 3.7 GB. What this process holds is torch's and timm's code. Its own high-water
    # mark, and not `ru_maxrss`: that begins with the peak of whoever started it, which is this test process.
    code = (
        "import timm; from visionbench.tracing import run; from visionbench.record.spec import Spec\n"
        "t = run(Spec(model='timm:resnetv2_152x4_bit', image_size=480))\n"
        "print(t.params, next(l.split()[1] for l in open('/proc/self/status') if l.startswith('VmHWM')))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    params, kibibytes = map(int, done.stdout.split())
    assert params == 936_533_224
    assert kibibytes * 1024 <= 1.2e9


def test_two_traces_are_equal() -> None:
    spec = Spec(model="timm:deit_tiny_patch16_224")
    assert run(spec) == run(spec)


def test_sparse_buffers_and_parameters_are_counted(tmp_path):
    (tmp_path / "sparse_net.py").write_text(
        "import torch\nfrom torch import nn\n\nclass Net(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.conv = nn.Conv2d(3, 8, 3)\n"
        "        self.register_buffer('adjacency', torch.eye(3).to_sparse())\n"
        "        self.weight = nn.Parameter(torch.eye(2).to_sparse())\n"
        "    def forward(self, x):\n        return self.conv(x).mean((2, 3))\n\ndef make():\n    return Net()\n"
    )
    traced = run(Spec(model=f"user:{tmp_path}/sparse_net.py:make", image_size=32))
    assert (traced.params, traced.param_bytes) == (3 * 8 * 9 + 8 + 4, 4 * (3 * 8 * 9 + 8 + 4))
    assert (traced.buffers, traced.buffer_bytes) == (9, 36)
