"""The devices' data sheets: recognised by the exact name or not at all, and plausible by the physics."""

from __future__ import annotations

import pytest

from visionbench.record.devices import DEVICES, find, identify, select
from visionbench.record.errors import BenchError
from visionbench.record.spec import PRECISIONS

LANES = {"Volta": 64, "Turing": 64, "Hopper": 128, "Ada": 128, "Blackwell": 128}
"""FP32 lanes per multiprocessor (CUDA programming guide, arithmetic throughput); Ampere: 64 in 8.0, 128 in 8.6."""


def test_the_table_has_no_key_and_no_name_twice():
    assert len({device.key for device in DEVICES}) == len(DEVICES) >= 31
    names = [name for device in DEVICES for name in device.names]
    assert len(set(names)) == len(names)
    assert all(name and name == name.strip() for name in names)


@pytest.mark.parametrize("device", DEVICES, ids=lambda device: device.key)
def test_every_row_has_a_source_and_a_word_on_how_sure_it_is(device):
    assert len(device.source) > 10
    assert device.confidence.startswith(("high", "medium", "low"))


@pytest.mark.parametrize("device", DEVICES, ids=lambda device: device.key)
def test_every_row_is_plausible(device):
    lanes = LANES.get(device.architecture) or {(6, 0): 64, (6, 1): 128, (8, 0): 64, (8, 6): 128}[device.capability]
    assert device.fp32 == pytest.approx(2 * lanes * device.multiprocessors * device.clock, rel=0.10)
    known = [peak for peak in (device.fp32, device.tf32, device.fp16, device.fp8) if peak is not None]
    assert known == sorted(known) or device.capability == (6, 1), "which computes halves at 1/64 of the rate"
    assert device.bf16 in (device.fp16, None)
    assert (device.bf16 is None) == (device.tf32 is None) == (device.capability < (8, 0))
    assert device.achieved_bf16 is None or device.achieved_bf16 < device.bf16
    assert 1e9 <= device.clock <= 3e9
    assert 9e9 < device.memory < 2e11
    assert 2e11 < device.bandwidth < 1e13
    assert 2e6 < device.l2 < 2e8
    assert 50 < device.power <= 1200


@pytest.mark.parametrize("device", DEVICES, ids=lambda device: device.key)
def test_a_device_is_found_by_its_key_and_by_each_of_its_names(device):
    assert find(device.key) is device
    assert select(device.key) == (device,)
    assert all(identify(name) is device for name in device.names)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("NVIDIA L4", "l4"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA A10", "a10"),
        ("NVIDIA A100-SXM4-40GB", "a100-sxm4-40gb"),
        ("A100-SXM4-40GB", "a100-sxm4-40gb"),
        ("NVIDIA A100-SXM4-80GB", "a100-sxm4-80gb"),
        ("NVIDIA A100 80GB PCIe", "a100-pcie-80gb"),
        ("Tesla V100-SXM2-16GB", "v100-sxm2-16gb"),
        ("Tesla V100-SXM2-32GB", "v100-sxm2-32gb"),
        ("NVIDIA H100 80GB HBM3", "h100-sxm5-80gb"),
        ("Tesla T4", "t4"),
    ],
)
def test_the_drivers_exact_name_identifies(name, key):
    assert identify(name).key == key


@pytest.mark.parametrize(
    "name",
    [
        "NVIDIA L40G",
        "NVIDIA A10G",
        "NVIDIA A100",
        "nvidia l4",
        "NVIDIA L4 ",
        "L4",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA GeForce RTX 4090 D",
        "NVIDIA A100-SXM4-80GB MIG 1g.10gb",
        "NVIDIA H100 NVL 47C",
        "AMD Instinct MI300X",
        "l4",
        "",
    ],
)
def test_a_name_that_only_looks_alike_is_nobodys(name):
    assert identify(name) is None


def test_find_knows_keys_only():
    assert find("a100") is None
    assert find("") is None


@pytest.mark.parametrize(
    ("word", "keys"),
    [
        ("a100", ["a100-sxm4-40gb", "a100-sxm4-80gb", "a100-pcie-40gb", "a100-pcie-80gb"]),
        ("A100", ["a100-sxm4-40gb", "a100-sxm4-80gb", "a100-pcie-40gb", "a100-pcie-80gb"]),
        ("a100-sxm4", ["a100-sxm4-40gb", "a100-sxm4-80gb"]),
        ("a100-sxm4-80gb", ["a100-sxm4-80gb"]),
        ("v100", ["v100-sxm2-16gb", "v100-sxm2-32gb", "v100-pcie-16gb", "v100-pcie-32gb"]),
        ("l4", ["l4"]),
        ("a10", ["a10"]),
    ],
)
def test_a_word_selects_its_family_and_no_other(word, keys):
    assert [device.key for device in select(word)] == keys


@pytest.mark.parametrize(
    ("word", "near"), [("a1000", "a100"), ("h10", "h100"), ("rtx-4091", "rtx-4090"), ("l400", "l40")]
)
def test_a_near_miss_is_suggested(word, near):
    with pytest.raises(BenchError) as caught:
        select(word)
    told = str(caught.value)
    assert f"'{word}'" in told
    assert "did you mean" in told
    assert near in told.split("did you mean")[1].rstrip("?").split()


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (("rtx3090", "3090", "RTX 3090", "GeForce RTX 3090", "NVIDIA GeForce RTX 3090"), ["rtx-3090"]),
        (("2080ti", "rtx 2080 ti", "RTX2080Ti", "2080-ti"), ["rtx-2080-ti"]),
        (("1080ti", "GTX 1080 Ti"), ["gtx-1080-ti"]),
        (("a6000", "RTX A6000", "rtxa6000"), ["rtx-a6000"]),
        (("6000ada", "rtx 6000 ada", "RTX6000Ada"), ["rtx-6000-ada"]),
        (("Tesla T4", "NVIDIA T4"), ["t4"]),
        (("tesla p100", "P100"), ["p100-pcie-16gb", "p100-sxm2-16gb"]),
        (("H100 SXM5", "h100sxm5", "NVIDIA H100 SXM5 80GB"), ["h100-sxm5-80gb"]),
        (("B200", "b200 sxm"), ["b200-sxm-180gb"]),
        (("L40", "nvidia l40"), ["l40"]),
        (("A40",), ["a40"]),
    ],
)
def test_names_are_taken_as_people_type_them(words, keys):
    for word in words:
        assert [device.key for device in select(word)] == keys, word


@pytest.mark.parametrize("word", ["nvidia", "GeForce", "3090 ti", "309", "tesla", "a100 sxm4 8", "a6000 ada"])
def test_a_maker_alone_and_a_part_of_a_number_are_no_names(word):
    with pytest.raises(BenchError):
        select(word)


@pytest.mark.parametrize("word", ["mi300x-oam", "", "a100-", "-", "a100-sxm4-8"])
def test_a_word_for_no_device_is_one_sentence(word):
    with pytest.raises(BenchError) as caught:
        select(word)
    assert "\n" not in str(caught.value)
    assert "GPU" in str(caught.value)


@pytest.mark.parametrize(
    ("key", "precision", "peak"),
    [
        ("v100-sxm2-16gb", "fp32", 15.7e12),
        ("v100-sxm2-16gb", "tf32", None),
        ("v100-sxm2-16gb", "fp16", 125e12),
        ("v100-sxm2-16gb", "amp_fp16", 125e12),
        ("v100-sxm2-16gb", "bf16", None),
        ("v100-sxm2-16gb", "amp_bf16", None),
        ("a100-sxm4-80gb", "fp32", 19.5e12),
        ("a100-sxm4-80gb", "tf32", 156e12),
        ("a100-sxm4-80gb", "fp16", 312e12),
        ("a100-sxm4-80gb", "bf16", 312e12),
        ("a100-sxm4-80gb", "amp_bf16", 312e12),
        ("h100-sxm5-80gb", "tf32", 494.7e12),
        ("t4", "tf32", None),
        ("rtx-3090", "fp16", 71.2e12),
    ],
)
def test_a_peak_is_dense_and_of_the_precision_asked_for(key, precision, peak):
    assert find(key).peak(precision) == (None if peak is None else pytest.approx(peak))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_device_answers_for_every_precision(precision):
    for device in DEVICES:
        peak = device.peak(precision)
        assert peak is None or peak > 1e11
