"""Which machines may be compared: what must agree, what need not, and what is said where it does not."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from visionbench.record.fingerprint import Difference, differences, digest, fingerprint, fingerprint_id
from visionbench.record.record import Environment, Health

GPU = Environment(
    device_type="cuda",
    device_key="a100-sxm4-80gb",
    device_name="NVIDIA A100-SXM4-80GB",
    device_memory=80 * 2**30,
    device_index=0,
    driver="580.95",
    cuda="13.0",
    cudnn="91300",
    torch="2.15.0",
    timm="1.0.31",
    python="3.11.7",
    platform="Linux-6.8.0-x86_64-with-glibc2.39",
    cpu="AMD EPYC 7B13",
    cores=16,
    threads=8,
    power_limit=400.0,
    git_commit="a" * 40,
    git_dirty=False,
    started="2026-01-02T03:04:05+00:00",
)
META = Environment(device_type="meta", torch="2.15.0+cpu", timm="1.0.31", python="3.11.7", platform="Linux-6.8.0")

OTHER = {
    "device_type": "cpu",
    "device_name": "NVIDIA A100-PCIE-80GB",
    "device_memory": 40 * 2**30,
    "driver": "570.86",
    "cuda": "12.8",
    "cudnn": "90800",
    "torch": "2.14.1",
    "timm": "1.0.15",
    "python": "3.12.1",
    "platform": "Linux-6.9.0-x86_64-with-glibc2.39",
    "cpu": "Intel Xeon",
    "cores": 15,
    "threads": 4,
    "power_limit": 350.0,
    "variables": "CUDA_LAUNCH_BLOCKING=1",
}
FREE = {
    "device_index": 1,
    "device_key": None,
    "git_commit": "b" * 40,
    "git_dirty": True,
    "started": "2026-02-02T00:00:00+00:00",
    "node": "gpu-17",
    "malloc": "32 MiB, 64 MiB",
    "communication": "nccl",
    "nccl": "2.28.3",
    "gpu_uuid": "3f2a",
    "job": "17",
    "restarts": 1,
    "exclusive_node": True,
    "health": Health(rows_remapped=1),
    "python": "3.11.9",
}


@pytest.mark.parametrize(("field", "value"), OTHER.items())
def test_what_moves_a_time_makes_another_machine(field, value):
    told = differences(GPU, replace(GPU, **{field: value}))
    assert field in {one.field for one in told}
    assert fingerprint_id(GPU) != fingerprint_id(replace(GPU, **{field: value}))


@pytest.mark.parametrize(("field", "value"), FREE.items())
def test_what_is_under_test_or_says_when_and_which_one_is_no_part_of_it(field, value):
    other = replace(GPU, **{field: value})
    assert differences(GPU, other) == ()
    assert fingerprint_id(GPU) == fingerprint_id(other)


def test_every_field_of_an_environment_has_been_thought_about():
    assert {field.name for field in fields(Environment)} == set(OTHER) | set(FREE)


def test_both_values_are_told():
    [told] = differences(GPU, replace(GPU, threads=4))
    assert told == Difference(field="threads", baseline=8, candidate=4)
    assert str(told) == "threads: 8 against 4"


def test_unknown_is_like_unknown_and_like_nothing_that_is_known():
    blind = replace(GPU, driver=None)
    assert differences(blind, blind) == ()
    assert [str(one) for one in differences(blind, GPU)] == ["driver: unknown against 580.95"]
    assert [str(one) for one in differences(GPU, blind)] == ["driver: 580.95 against unknown"]


def test_a_count_depends_on_torch_s_minor_version_and_on_no_machine():
    elsewhere = replace(META, torch="2.15.1+cu132", timm="1.0.15", python="3.12.0", platform="Darwin", threads=4)
    assert differences(META, elsewhere) == ()
    assert [one.field for one in differences(META, replace(META, torch="2.16.0"))] == ["torch"]


def test_a_count_is_not_compared_with_a_time():
    assert "device_type" in {one.field for one in differences(META, GPU)}


def test_the_id_is_short_stable_and_of_no_order():
    assert fingerprint_id(GPU) == digest(dict(reversed(fingerprint(GPU).items())))
    assert len(fingerprint_id(GPU)) == 12
    assert digest({"cpu": "x", "cores": 2}) == "d58b7a806ad2"
    assert digest({"cpu": "x", "cores": 2, "driver": None}) == digest({"cpu": "x", "cores": 2})
