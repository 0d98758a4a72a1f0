"""A card's health, as its driver counts it: in the environment of a record, as flags, and as reasons not to measure."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

import pytest

from tests.pretended.nvml import NOT_SUPPORTED, FakeNvml, FakeNVMLError, pretend_cuda, process
from visionbench.machine import environment, health, nvml, telemetry
from visionbench.record.record import Health

REMAPPED, ECC, WIDTH = "nvmlDeviceGetRemappedRows", "nvmlDeviceGetTotalEccErrors", "nvmlDeviceGetCurrPcieLinkWidth"
WELL = {
    ECC: 0,
    REMAPPED: [1, 0, 0, 0],
    "nvmlDeviceGetCurrPcieLinkGeneration": 1,
    "nvmlDeviceGetMaxPcieLinkGeneration": 5,
}


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts a driver's library in place, by what it answers."""

    def answering(*, mig: bool = False, **answers: Any) -> FakeNvml:
        library = FakeNvml(mig=mig, **{**WELL, **answers})
        pretend_cuda(monkeypatch)
        monkeypatch.setattr(nvml, "library", lambda: library)
        return library

    return answering


def read() -> Health:
    gpu = nvml.open_gpu("cuda")
    assert gpu is not None
    return health.read(gpu)


def test_everything_that_the_driver_counts_is_kept(card):
    card(**{ECC: 2, REMAPPED: [3, 4, 1, 0], WIDTH: 8})
    assert read() == Health(
        ecc_uncorrected=2,
        rows_remapped=7,
        remap_pending=True,
        pcie_generation=1,
        pcie_generation_max=5,
        pcie_width=8,
        pcie_width_max=16,
        power_limit_default=700.0,
    )


def test_what_a_driver_does_not_say_is_unknown(card):
    refused = FakeNVMLError(NOT_SUPPORTED)
    names = [*WELL, WIDTH, "nvmlDeviceGetMaxPcieLinkWidth", "nvmlDeviceGetPowerManagementDefaultLimit"]
    card(**dict.fromkeys(names, refused))
    assert set(asdict(read()).values()) == {None}
    assert health.unfit("cuda") == ()


def test_a_healthy_card_is_fit(card):
    library = card()
    assert health.unfit("cuda") == ()
    assert library.open == 0


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ({ECC: 1}, "its GPU's memory had 1 uncorrectable error"),
        ({ECC: 12}, "its GPU's memory had 12 uncorrectable errors"),
        ({REMAPPED: [0, 1, 1, 0]}, "a faulty row of its GPU's memory waits to be replaced (restart it)"),
        ({"nvmlDeviceGetMigMode": [1, 1]}, "its GPU is a slice of a card (MIG)"),
        (
            {"nvmlDeviceGetComputeRunningProcesses": [process(999_999_998)]},
            "other processes are on its GPU (999999998)",
        ),
        ({"nvmlDeviceGetCurrentClocksEventReasons": 0x20}, "its GPU is held down before it has work (thermal)"),
    ],
)
def test_what_forbids_measuring_is_said(card, answers, reason):
    card(**answers)
    assert health.unfit("cuda") == (reason,)


def test_a_slice_is_unfit(card):
    card(mig=True)
    assert "its GPU is a slice of a card (MIG)" in health.unfit("cuda")


def test_our_own_process_and_the_power_limit_forbid_nothing(card):
    card(nvmlDeviceGetComputeRunningProcesses=[process(os.getpid())], nvmlDeviceGetCurrentClocksEventReasons=0x04)
    assert health.unfit("cuda") == ()


def test_without_a_driver_nothing_is_said(monkeypatch):
    pretend_cuda(monkeypatch)
    monkeypatch.setattr(nvml, "library", lambda: None)
    assert health.unfit("cuda") == ()
    assert environment.driver_and_health("cuda") == (None, None, None)


@pytest.mark.parametrize(
    ("answers", "flag"), [({WIDTH: 8}, "pcie_degraded"), ({REMAPPED: [0, 2, 0, 0]}, "rows_remapped")]
)
def test_a_number_is_flagged(card, answers, flag):
    card(**answers)
    gpu = nvml.open_gpu("cuda")
    assert gpu is not None
    assert flag in telemetry.surroundings("cuda", gpu=gpu)


def test_no_flag_on_a_healthy_card(card):
    card(**{REMAPPED: [0, 0, 0, 0]})
    gpu = nvml.open_gpu("cuda")
    assert gpu is not None
    assert not {"pcie_degraded", "rows_remapped"} & set(telemetry.surroundings("cuda", gpu=gpu))


# --- the job ---

SLURM = {
    "SLURM_JOB_ID": "17",
    "SLURMD_NODENAME": "gpu-3",
    "SLURM_RESTART_COUNT": "2",
    "SLURM_CPUS_ON_NODE": str(os.cpu_count()),
}


@pytest.fixture
def outside(monkeypatch):
    for name in (*SLURM, "VISIONBENCH_NODE"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_outside_of_a_batch_system_nothing_names_a_node(outside):
    where = environment.describe("cpu")
    assert (where.node, where.job, where.restarts, where.exclusive_node) == (None,) * 4


def test_a_slurm_job_names_its_node_and_itself(outside):
    for name, value in SLURM.items():
        outside.setenv(name, value)
    where = environment.describe("cpu")
    assert (where.node, where.job, where.restarts, where.exclusive_node) == ("gpu-3", "17", 2, True)
    outside.delenv("SLURM_RESTART_COUNT")
    outside.setenv("SLURM_CPUS_ON_NODE", "0")
    where = environment.describe("cpu")
    assert (where.restarts, where.exclusive_node) == (0, False)


def test_another_batch_system_can_name_the_node_and_a_hidden_name_wins(outside):
    outside.setenv("VISIONBENCH_NODE", "node-ab12")
    assert environment.describe("cpu").node == "node-ab12"
    outside.setenv("SLURMD_NODENAME", "gpu-3")
    assert environment.describe("cpu").node == "node-ab12"


def test_a_count_on_no_hardware_names_no_node(outside):
    outside.setenv("SLURMD_NODENAME", "gpu-3")
    assert environment.describe("meta").node is None
