"""What the driver is asked, and what is made of its answers, its refusals and its silence."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.pretended.nvml import NARROW, NO_PERMISSION, NOT_SUPPORTED, WIDE, FakeNvml, FakeNVMLError, process
from tests.pretended.nvml import pretend_cuda as pretend
from visionbench.machine import environment, nvml
from visionbench.record.errors import BenchError

REFUSED = FakeNVMLError(NOT_SUPPORTED)
ALL = frozenset({"thermal", "hw_slowdown", "power_brake", "power_cap"})


@pytest.fixture(autouse=True)
def card(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)


def opened(library: FakeNvml) -> nvml.Gpu:
    gpu = nvml.open_gpu("cuda", library)
    assert gpu is not None
    return gpu


def counting(first: int, driver: str = "590.44") -> FakeNvml:
    """A driver with all four counters, the three new ones from field `first` on."""
    library = FakeNvml(driver)
    library.fields = {74: (WIDE, 10), first: (WIDE, 0), first + 1: (WIDE, 0), first + 2: (WIDE, 0)}
    return library


# --- finding the card -------------------------------------------------------------------------------------------------


def test_the_card_is_found_by_its_uuid() -> None:
    library = FakeNvml()
    gpu = opened(library)
    assert (gpu.handle, gpu.mig, gpu.driver) == ("card", False, "590.44")
    assert library.open == 1
    nvml.close(gpu)
    assert library.open == 0


def test_a_slice_is_asked_through_its_card_and_its_power_is_unknown() -> None:
    gpu = opened(FakeNvml(mig=True))
    assert (gpu.handle, gpu.mig) == ("card", True)
    assert nvml.sm_clock(gpu) == 1.98e9
    assert nvml.power(gpu) is nvml.energy(gpu) is None


def test_an_unknown_card_leaves_the_library_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid="another"))
    library = FakeNvml()
    assert nvml.open_gpu("cuda", library) is None
    assert library.open == 0


def test_a_torch_that_tells_no_uuid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace())
    assert nvml.open_gpu("cuda", FakeNvml()) is None


def test_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise FakeNVMLError(9)

    library = FakeNvml()
    monkeypatch.setattr(library, "nvmlInit", refuse)
    assert nvml.open_gpu("cuda", library) is None


def test_without_nvidia_ml_py(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert nvml.open_gpu("cuda") is None


def test_without_a_gpu_the_library_is_not_even_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(nvml, "library", lambda: pytest.fail("imported"))
    assert nvml.open_gpu("cuda") is None


# --- readings ---------------------------------------------------------------------------------------------------------


def test_answers_are_in_base_units() -> None:
    gpu = opened(FakeNvml())
    assert (nvml.sm_clock(gpu), nvml.temperature(gpu), nvml.power(gpu), nvml.energy(gpu)) == (1.98e9, 61, 650, 1000)
    assert nvml.power_limits(gpu) == (700, 700)


def test_what_a_card_does_not_tell_is_none() -> None:
    gpu = opened(FakeNvml(nvmlDeviceGetPowerUsage=REFUSED))
    assert nvml.power(gpu) is None
    assert nvml.ask(gpu, "nvmlDeviceGetSomethingNew") is None  # a binding older than the function


def test_the_clocks_reasons_had_another_name() -> None:
    library = FakeNvml(nvmlDeviceGetCurrentClocksEventReasons=REFUSED, nvmlDeviceGetCurrentClocksThrottleReasons=0x20)
    assert nvml.reasons(opened(library)) == 0x20


# --- slow-downs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("driver", "first"),
    [("575.51.03", 251), ("580.65.06", 251), ("580.82.07", 269), ("590.44.01", 269), ("615.71", 269)],
)
def test_the_fields_have_the_numbers_of_the_driver(driver: str, first: int) -> None:
    library = counting(first, driver)
    library.fields |= {
        number: (NARROW, 1) for number in (*range(251, 254), *range(269, 272)) if number - first not in range(3)
    }
    sources = nvml.plan(opened(library))
    assert dict(sources.fields) == {
        "thermal": first,
        "hw_slowdown": first + 1,
        "power_brake": first + 2,
        "power_cap": 74,
    }
    assert sources.policies == sources.bits == ()


@pytest.mark.parametrize("driver", ["535.104", "570.86", "580.76.05", "", "unknown"])
def test_other_drivers_are_not_asked_for_fields_that_mean_something_else(driver: str) -> None:
    library = counting(269, driver)
    library.fields |= counting(251).fields
    library.violations = {0: 0, 1: 0}
    sources = nvml.plan(opened(library))
    assert dict(sources.fields) == {"power_cap": 74}
    assert dict(sources.policies) == {"thermal": 1}
    assert {cause for cause, _ in sources.bits} == {"hw_slowdown", "power_brake"}


def test_a_setting_where_a_counter_should_be_is_no_counter() -> None:
    library = counting(269)
    library.fields[269] = (NARROW, 0)
    assert "thermal" not in dict(nvml.plan(opened(library)).fields)


@pytest.mark.parametrize(
    ("number", "cause"), [(269, "thermal"), (270, "hw_slowdown"), (271, "power_brake"), (74, "power_cap")]
)
def test_a_counter_that_moves_is_told_by_its_cause(number: int, cause: str) -> None:
    library = counting(269)
    gpu = opened(library)
    sources = nvml.plan(gpu)
    before = nvml.read(gpu, sources)
    assert nvml.moved(before, nvml.read(gpu, sources)) == frozenset()
    library.fields[number] = (WIDE, 10**8)
    assert nvml.moved(before, nvml.read(gpu, sources)) == {cause}


def test_violation_times_stand_in_for_fields() -> None:
    library = FakeNvml("535.104")
    library.violations = {0: 5, 1: 7}
    gpu = opened(library)
    sources = nvml.plan(gpu)
    before = nvml.read(gpu, sources)
    library.violations[1] = 8
    assert nvml.moved(before, nvml.read(gpu, sources)) == {"thermal"}


@pytest.mark.parametrize(
    ("mask", "causes"),
    [
        (0x1, set()),
        (0x20, {"thermal"}),
        (0x40, {"hw_slowdown"}),
        (0x8, {"hw_slowdown"}),
        (0x84, {"power_brake", "power_cap"}),
    ],
)
def test_bits_stand_in_for_counters_and_count_at_either_end(mask: int, causes: set[str]) -> None:
    library = FakeNvml("470.57")
    gpu = opened(library)
    sources = nvml.plan(gpu)
    assert {cause for cause, _ in sources.bits} == ALL
    quiet = nvml.read(gpu, sources)
    library.answers["nvmlDeviceGetCurrentClocksEventReasons"] = mask
    loud = nvml.read(gpu, sources)
    assert nvml.moved(quiet, loud) == nvml.moved(loud, quiet) == causes


def test_a_card_that_tells_nothing_is_unknown_and_not_well() -> None:
    gpu = opened(FakeNvml("470.57", nvmlDeviceGetCurrentClocksEventReasons=REFUSED))
    sources = nvml.plan(gpu)
    assert sources.fields == sources.policies == sources.bits == ()
    assert nvml.read(gpu, sources) is None
    assert nvml.moved(None, None) is None


def test_a_card_that_tells_its_power_cap_only_is_unknown() -> None:
    library = FakeNvml("470.57", nvmlDeviceGetCurrentClocksEventReasons=REFUSED)
    library.fields = {74: (WIDE, 0)}
    gpu = opened(library)
    assert nvml.read(gpu, nvml.plan(gpu)) is None


def test_a_card_that_falls_silent_is_unknown() -> None:
    library = counting(269)
    gpu = opened(library)
    sources = nvml.plan(gpu)
    before = nvml.read(gpu, sources)
    library.fields = {}
    assert before is not None
    assert nvml.moved(before, nvml.read(gpu, sources)) is None


# --- who else is there, and how it is set -----------------------------------------------------------------------------


def test_this_process_and_those_that_started_it_are_no_others() -> None:
    gpu = opened(
        FakeNvml(nvmlDeviceGetComputeRunningProcesses=[process(p) for p in (os.getpid(), os.getppid(), 10**8)])
    )
    assert nvml.other_processes(gpu, "cuda") == (10**8,)


def test_in_a_container_one_of_the_strangers_is_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = opened(FakeNvml(nvmlDeviceGetComputeRunningProcesses=[process(10**8)]))
    assert nvml.other_processes(gpu, "cuda") == (10**8,)
    pretend(monkeypatch, is_initialized=True, max_memory_reserved=2**20)
    assert nvml.other_processes(gpu, "cuda") == ()


@pytest.mark.parametrize(
    ("name", "mode", "costs"),
    [
        ("NVIDIA H200", [1, 1], False),
        ("NVIDIA L4", [1, 1], True),
        ("NVIDIA L4", [0, 1], False),
        ("Z900", [1, 1], True),
        ("NVIDIA L4", REFUSED, False),
    ],
)
def test_error_correction_costs_where_it_is_in_the_same_memory(name: str, mode: object, costs: bool) -> None:
    gpu = opened(FakeNvml(nvmlDeviceGetName=name, nvmlDeviceGetEccMode=mode))
    assert nvml.costly_ecc(gpu) is costs


@pytest.mark.parametrize(("limit", "lowered"), [(700_000, False), (699_000, False), (500_000, True), (REFUSED, False)])
def test_a_lowered_power_limit(limit: object, lowered: bool) -> None:
    assert nvml.is_power_lowered(opened(FakeNvml(nvmlDeviceGetEnforcedPowerLimit=limit))) is lowered


# --- the clock --------------------------------------------------------------------------------------------------------


def test_the_base_clock_is_named() -> None:
    library = FakeNvml()
    nvml.lock_base_clock(opened(library))
    locked = [arguments for name, arguments in library.calls if name == "nvmlDeviceSetGpuLockedClocks"]
    assert locked == [(0xFFFFFF01, 0xFFFFFF01)]


@pytest.mark.parametrize(("code", "remedy"), [(NO_PERMISSION, "sudo"), (NOT_SUPPORTED, "cannot"), (999, "leave")])
def test_a_refusal_comes_with_its_remedy(code: int, remedy: str) -> None:
    with pytest.raises(BenchError, match=remedy):
        nvml.lock_base_clock(opened(FakeNvml(nvmlDeviceSetGpuLockedClocks=FakeNVMLError(code))))


def test_a_clock_that_stays_locked_is_told() -> None:
    with pytest.raises(BenchError, match="reset-gpu-clocks"):
        nvml.unlock_clock(opened(FakeNvml(nvmlDeviceResetGpuLockedClocks=FakeNVMLError(999))))


# --- the real binding -------------------------------------------------------------------------------------------------


def test_the_real_library_calls_things_so() -> None:
    real = pytest.importorskip("pynvml")
    for name in FakeNvml().answers:
        assert callable(getattr(real, name)), name
    assert set(nvml.REASONS) == {
        ("thermal", real.nvmlClocksEventReasonSwThermalSlowdown),
        ("hw_slowdown", real.nvmlClocksEventReasonHwSlowdown | real.nvmlClocksEventReasonHwThermalSlowdown),
        ("power_brake", real.nvmlClocksEventReasonHwPowerBrakeSlowdown),
        ("power_cap", real.nvmlClocksEventReasonSwPowerCap),
    }
    assert real.NVML_FI_DEV_PERF_POLICY_POWER == nvml.POWER_CAP_FIELD
    assert (real.NVML_PERF_POLICY_POWER, real.NVML_PERF_POLICY_THERMAL) == (nvml.POWER_POLICY, nvml.THERMAL_POLICY)
    assert real.NVML_CLOCK_SM == nvml.CLOCK_SM
    assert set(nvml.REFUSALS) == {real.NVML_ERROR_NOT_SUPPORTED, real.NVML_ERROR_NO_PERMISSION}
    assert {real.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG, real.NVML_VALUE_TYPE_UNSIGNED_LONG} < nvml.WIDE_TYPES
    assert real.NVML_VALUE_TYPE_UNSIGNED_INT not in nvml.WIDE_TYPES


def test_without_a_driver_the_real_library_says_so() -> None:
    pytest.importorskip("pynvml")
    if not Path("/dev/nvidiactl").exists():
        assert nvml.open_gpu("cuda") is None


@pytest.mark.gpu
def test_a_real_card_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    gpu = nvml.open_gpu("cuda")
    assert gpu is not None
    try:
        assert 1e8 < (nvml.sm_clock(gpu) or 0) < 4e9
        assert 0 < (nvml.temperature(gpu) or 0) < 120
        assert nvml.read(gpu, nvml.plan(gpu)) is not None
    finally:
        nvml.close(gpu)


@pytest.mark.parametrize(("mig", "limit"), [(False, 650.0), (True, None)])
def test_an_environment_holds_driver_and_power_limit_but_a_slice_has_none(
    monkeypatch: pytest.MonkeyPatch, mig: bool, limit: float | None
) -> None:
    library = FakeNvml(mig=mig, nvmlDeviceGetEnforcedPowerLimit=650_000)
    pretend(monkeypatch)
    monkeypatch.setattr(nvml, "library", lambda: library)
    assert environment.driver_and_health("cuda")[:2] == ("590.44", limit)
    assert library.open == 0
    monkeypatch.setattr(nvml, "library", lambda: None)
    assert environment.driver_and_health("cuda") == (None, None, None)
