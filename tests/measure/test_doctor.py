"""Whether a machine is fit to measure: what is found on machines that are and on machines that are not."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from tests.pretended.nvml import NOT_SUPPORTED, WIDE, FakeNvml, FakeNVMLError, process
from tests.pretended.nvml import pretend_cuda as pretend
from visionbench.machine import doctor, environment, host, nvml, telemetry, unseen
from visionbench.machine.doctor import Finding
from visionbench.record.errors import BenchError

REFUSED = FakeNVMLError(NOT_SUPPORTED)

USERS_SECONDS = doctor.STEAL_SECONDS
"""Tests are in a hurry (conftest), users are not."""


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.what: finding for finding in findings}


# --- the page ---------------------------------------------------------------------------------------------------------


def test_a_page_has_a_line_per_finding_and_a_verdict() -> None:
    page = doctor.render(
        (
            Finding(level="ok", what="cores", found="8 of 8"),
            Finding(level="warn", what="governor", found="powersave", advice="do this."),
            Finding(level="bad", what="GPU", found="gone", advice="find it."),
        )
    )
    assert page.splitlines() == [
        "✓ cores     8 of 8",
        "! governor  powersave",
        "            do this.",
        "✗ GPU       gone",
        "            find it.",
        "",
        "Not fit to measure: see what is marked ✗.",
    ]


@pytest.mark.parametrize(("level", "verdict"), [("ok", "Fit to measure."), ("warn", "with reservations")])
def test_the_verdict_is_that_of_the_worst(level: Any, verdict: str) -> None:
    assert verdict in doctor.render((Finding(level=level, what="a", found="b"),))
    assert "Fit to measure." in doctor.render(())


def test_this_machine_is_examined() -> None:
    findings = doctor.examine("cpu")
    assert {"torch", "timm", "cores", "threads", "load", "steal", "governor", "machine", "memory"} < {
        finding.what for finding in findings
    }
    assert findings[-1].what == "timing self-test"
    assert all(finding.advice for finding in findings if finding.level != "ok")
    assert not any(finding.level == "bad" for finding in findings if finding.what not in ("memory", "load"))
    assert doctor.render(findings)


def test_a_gpu_that_is_not_there_is_told_and_the_rest_is_examined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(doctor, "examine_host", list)
    [gpu] = [finding for finding in doctor.examine("cuda") if finding.level == "bad"]
    assert gpu.what == "GPU"
    assert gpu.advice


def test_a_word_that_is_no_device_is_a_mistake() -> None:
    with pytest.raises(BenchError, match="gpu0"):
        doctor.examine("gpu0")


@pytest.mark.parametrize(
    ("name", "version", "level"),
    [
        ("torch", "2.6.0+cu124", "ok"),
        ("torch", "2.15.0", "ok"),
        ("torch", "2.15.1", "ok"),
        ("torch", "2.16.0a0+gitabc", "warn"),
        ("torch", "3.0", "warn"),
        ("torch", "2.5.1", "bad"),
        ("timm", "1.0.15", "ok"),
        ("timm", "1.0.31", "ok"),
        ("timm", "1.0.9", "bad"),
        ("timm", "0.9.16", "bad"),
        ("timm", "1.1.0.dev0", "warn"),
    ],
)
def test_versions(name: str, version: str, level: str) -> None:
    assert doctor.software(name, version).level == level


def test_a_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(doctor.OLDEST, "no-such-package", (1,))
    finding = doctor.software("no-such-package")
    assert (finding.level, finding.advice) == ("bad", "pip install no-such-package")


def test_the_supported_versions_are_those_of_the_distribution() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    for name, version in doctor.OLDEST.items():
        assert f"{name}>={'.'.join(map(str, version))}" in project["dependencies"]


# --- the timing self-test ---------------------------------------------------------------------------------------------


class Queue:
    """A device at 1 GHz whose work runs beside the host; `waits`: whether a synchronisation waits for it."""

    def __init__(self, waits: bool) -> None:
        self.waits, self.time, self.done_at = waits, 0.0, 0.0

    def spin(self, cycles: int) -> None:
        self.time += 1e-5
        self.done_at = max(self.done_at, self.time) + cycles / 1e9

    def synchronize(self) -> None:
        self.time += 1e-6
        if self.waits:
            self.time = max(self.time, self.done_at)

    def now(self) -> float:
        return self.time


@pytest.mark.parametrize(("waits", "level"), [(True, "ok"), (False, "bad")])
def test_a_synchronisation_that_does_not_wait_is_found_out(
    monkeypatch: pytest.MonkeyPatch, waits: bool, level: str
) -> None:
    monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())
    queue = Queue(waits)
    found = doctor.timing_self_test("cuda", spin=queue.spin, synchronize=queue.synchronize, now=queue.now)
    assert (found.level, found.what) == (level, "timing self-test")


def test_a_cpu_has_nothing_to_wait_for() -> None:
    assert doctor.timing_self_test("cpu").level == "ok"


@pytest.mark.gpu
def test_a_real_gpu_is_waited_for() -> None:
    found = doctor.timing_self_test("cuda")
    assert found.level == "ok", found
    assert doctor.timing_self_test("cuda", synchronize=lambda: None).level == "bad"


# --- the host ---------------------------------------------------------------------------------------------------------


def host_files(folder: Path, **files: str) -> Path:
    for name in files:
        (folder / name).write_text(files[name])
    return folder


@pytest.mark.filterwarnings("ignore:.*memory stats:RuntimeWarning")  # psutil looks for more lines than are played
@pytest.mark.parametrize(
    ("name", "text", "level", "found"),
    [
        ("meminfo", "MemTotal: 33554432 kB\nMemFree: 1 kB\nMemAvailable:   16777216 kB\n", "ok", "16.0 GiB"),
        ("meminfo", "MemTotal: 33554432 kB\nMemFree: 1 kB\nMemAvailable:    2097152 kB\n", "warn", "2.00 GiB"),
        ("meminfo", "MemTotal: 33554432 kB\nMemFree: 1 kB\nMemAvailable:     524288 kB\n", "bad", "512 MiB"),
        ("meminfo", "MemTotal: 33554432 kB\nMemFree: 8388608 kB\n", "ok", "8.00 GiB"),
        ("cpuinfo", "model name : x\nflags\t\t: fpu vme hypervisor avx2\n", "warn", "virtual"),
        ("cpuinfo", "flags\t\t: fpu vme avx2\n", "ok", "not virtual"),
        ("cpuinfo", "Features\t: fp asimd\n", "ok", "unknown"),
        ("loadavg", "9.9 9.9 9.9 1/300 42\n", "ok", "0 threads want"),
        ("loadavg", "0.0 0.0 0.0 2/300 42\n", "ok", "1 thread wants"),
        ("loadavg", "0.0 0.0 0.0 3/300 42\n", "bad", "2 threads want"),
        ("loadavg", "0.0 0.0 0.0 5/300 42\n", "bad", "4 threads want"),
    ],
)
def test_what_the_host_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, level: str, found: str
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    folder = host_files(tmp_path, **{name: text})
    if name == "meminfo":
        monkeypatch.setattr(psutil, "PROCFS_PATH", str(folder))
    findings = by_name(doctor.examine_host(folder, tmp_path, lambda _: None))
    finding = findings[{"meminfo": "memory", "cpuinfo": "machine", "loadavg": "load"}[name]]
    assert finding.level == level
    assert found in finding.found
    assert bool(finding.advice) == (level != "ok")


def test_threads_that_wait_for_each_other_are_too_many_beside_one_neighbour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    folder = host_files(tmp_path, loadavg="0.0 0.0 0.0 2/300 42\n")
    finding = by_name(doctor.examine_host(folder, tmp_path, lambda _: None))["load"]
    assert finding.level == "warn"
    assert "--threads 1" in finding.advice


@pytest.mark.parametrize(("stolen", "level"), [(1, "ok"), (30, "warn")])
def test_steal_is_watched_for_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stolen: int, level: str
) -> None:
    monkeypatch.setattr(doctor, "STEAL_SECONDS", USERS_SECONDS)
    host_files(tmp_path, stat="cpu 0 0 0 0 0 0 0 0\n")
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        host_files(tmp_path, stat=f"cpu 100 0 0 {200 - stolen} 0 0 0 {stolen}\n")

    assert by_name(doctor.examine_host(tmp_path, tmp_path, sleep))["steal"].level == level
    assert slept == [1.0]


@pytest.mark.parametrize(
    ("names", "level"), [(["performance"], "ok"), (["performance", "schedutil"], "warn"), ([], "ok")]
)
def test_governors(tmp_path: Path, names: list[str], level: str) -> None:
    for core, name in enumerate(names):
        (tmp_path / f"cpu{core}" / "cpufreq").mkdir(parents=True)
        (tmp_path / f"cpu{core}" / "cpufreq" / "scaling_governor").write_text(name)
    assert by_name(doctor.examine_host(tmp_path, tmp_path, lambda _: None))["governor"].level == level


def test_threads_and_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "usable_cores", lambda: (0, 1, 2, 3))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert doctor._threads().level == "ok"
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert "--threads 4" in doctor._threads().advice
    assert doctor._cores(quota=8.0).level == "ok"
    assert doctor._cores(quota=1.5).level == "warn"


# --- the GPU ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Callable[[FakeNvml], dict[str, Finding]]:
    pretend(monkeypatch)
    monkeypatch.setattr(torch.version, "cuda", "13.2")

    def examined(library: FakeNvml) -> dict[str, Finding]:
        library.fields = library.fields or dict.fromkeys((74, 269, 270, 271), (WIDE, 0))
        return by_name(doctor.examine_gpu("cuda", nvml.open_gpu("cuda", library)))

    return examined


def test_a_card_in_good_health(card: Callable[[FakeNvml], dict[str, Finding]]) -> None:
    findings = card(FakeNvml())
    assert {finding.level for finding in findings.values()} == {"ok"}
    assert not any(finding.advice for finding in findings.values())
    assert findings["GPU"].found == "NVIDIA H200 (sm_90)"
    assert findings["driver"].found == "590.44, for CUDA 13.2; torch is built for 13.2"
    assert findings["clocks"].found == "1980 of 1980 MHz"
    assert findings["temperature"].found == "61 degrees C, slows down at 87"
    assert findings["PCIe"].found == "16 of 16 lanes, generation 5"
    assert findings["throttling"].found == "counted: thermal, hw_slowdown, power_brake, power_cap"


@pytest.mark.parametrize(
    ("what", "level", "answers"),
    [
        ("driver", "bad", {"cuda": 12080}),
        ("driver", "warn", {"cuda": 13000}),
        ("driver", "ok", {"cuda": 14000}),
        ("GPU's processes", "bad", {"nvmlDeviceGetComputeRunningProcesses": [process(10**8)]}),
        ("compute mode", "warn", {"nvmlDeviceGetComputeMode": 3}),
        ("compute mode", "bad", {"nvmlDeviceGetComputeMode": 2}),
        ("compute mode", "ok", {"nvmlDeviceGetComputeMode": REFUSED}),
        ("MIG", "warn", {"nvmlDeviceGetMigMode": [1, 1]}),
        ("MIG", "ok", {"nvmlDeviceGetMigMode": REFUSED}),
        ("ECC", "warn", {"nvmlDeviceGetName": "NVIDIA L4"}),
        ("ECC", "ok", {"nvmlDeviceGetEccMode": REFUSED}),
        ("persistence", "warn", {"nvmlDeviceGetPersistenceMode": 0}),
        ("persistence", "ok", {"nvmlDeviceGetPersistenceMode": REFUSED}),
        ("power limit", "warn", {"nvmlDeviceGetEnforcedPowerLimit": 400_000}),
        ("power limit", "ok", {"nvmlDeviceGetEnforcedPowerLimit": REFUSED}),
        ("temperature", "warn", {"nvmlDeviceGetTemperature": 80}),
        ("temperature", "ok", {"nvmlDeviceGetTemperatureThreshold": REFUSED}),
        ("temperature", "ok", {"nvmlDeviceGetTemperature": REFUSED}),
        ("clocks", "bad", {"nvmlDeviceGetCurrentClocksEventReasons": 0x20}),
        ("clocks", "warn", {"nvmlDeviceGetCurrentClocksEventReasons": 0x2}),
        ("clocks", "ok", {"nvmlDeviceGetCurrentClocksEventReasons": 0x4}),
        ("clocks", "ok", {"nvmlDeviceGetClockInfo": REFUSED}),
        ("PCIe", "warn", {"nvmlDeviceGetCurrPcieLinkWidth": 4}),
        ("PCIe", "ok", {"nvmlDeviceGetMaxPcieLinkWidth": REFUSED}),
    ],
)
def test_a_card_with_a_fault(
    card: Callable[[FakeNvml], dict[str, Finding]], what: str, level: str, answers: dict[str, Any]
) -> None:
    findings = card(FakeNvml(**answers))
    assert findings[what].level == level
    assert bool(findings[what].advice) == (level != "ok")
    assert {finding.level for name, finding in findings.items() if name != what} == {"ok"}


def test_a_card_that_does_not_tell_when_it_slows_down(card: Callable[[FakeNvml], dict[str, Finding]]) -> None:
    library = FakeNvml("470.57", nvmlDeviceGetCurrentClocksEventReasons=REFUSED)
    library.fields = {74: (WIDE, 0)}
    assert card(library)["throttling"].level == "warn"
    assert "polled" in card(FakeNvml("470.57"))["throttling"].found


def test_a_slice_of_a_card(card: Callable[[FakeNvml], dict[str, Finding]]) -> None:
    assert card(FakeNvml(mig=True))["MIG"].level == "warn"


def test_a_card_without_kernels(
    card: Callable[[FakeNvml], dict[str, Finding]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, get_device_capability=(7, 0), get_device_name="Tesla V100-SXM2-16GB")
    finding = card(FakeNvml())["kernels"]
    assert finding.level == "bad"
    assert "2.10" in finding.advice


def test_a_driver_that_cannot_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    monkeypatch.setitem(sys.modules, "pynvml", None)
    finding = by_name(doctor.examine_gpu("cuda"))["driver"]
    assert (finding.level, "nvidia-ml-py" in finding.advice) == ("warn", True)


@pytest.mark.parametrize(
    ("built", "there", "word"), [(None, False, "built for CPUs"), ("13.2", True, "name one"), ("13.2", False, "driver")]
)
def test_why_torch_sees_no_gpu(monkeypatch: pytest.MonkeyPatch, built: str | None, there: bool, word: str) -> None:
    pretend(monkeypatch, is_available=there)
    monkeypatch.setattr(torch, "version", SimpleNamespace(cuda=built))
    finding = doctor.absent_gpu("cuda:7")
    assert finding.level == "bad"
    assert word in finding.advice


@pytest.mark.gpu
def test_a_real_gpu_is_examined() -> None:
    findings = by_name(doctor.examine_gpu("cuda"))
    assert {"GPU", "driver", "clocks", "PCIe"} < set(findings)


@pytest.mark.parametrize(
    ("name", "value", "counts"),
    [
        ("NVIDIA_TF32_OVERRIDE", "0", True),
        ("CUDA_LAUNCH_BLOCKING", "1", True),
        ("CUDA_LAUNCH_BLOCKING", "0", False),
        ("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True", True),
        ("PYTORCH_ALLOC_CONF", "", False),
        ("PYTORCH_ENABLE_MPS_FALLBACK", "1", True),
        ("PYTORCH_TUNABLEOP_ENABLED", "0", False),
        ("AMD_SERIALIZE_KERNEL", "3", True),
        ("TORCH_CUDNN_V8_API_DISABLED", "1", True),
        ("TORCH_CUDNN_V8_API_DISABLED", "0", False),
        ("TORCH_CUBLASLT_UNIFIED_WORKSPACE", "0", True),
        ("PYTORCH_NO_HIP_MEMORY_CACHING", "1", True),
    ],
)
def test_a_variable_that_changes_numbers_is_told(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, counts: bool
) -> None:
    for known in environment.VARIABLES:
        monkeypatch.delenv(known, raising=False)
    monkeypatch.setenv(name, value)
    assert [finding.found for finding in doctor.examine_variables("cuda")] == ([f"{name}={value}"] if counts else [])
    assert doctor.examine_variables("cpu") == [], "a GPU's variable changes nothing on a CPU"


@pytest.mark.parametrize(("name", "effect"), environment.CPU_VARIABLES.items())
def test_a_variable_that_changes_a_cpus_numbers_is_a_flag_and_kept(
    monkeypatch: pytest.MonkeyPatch, name: str, effect: str
) -> None:
    for known in environment.CPU_VARIABLES:
        monkeypatch.delenv(known, raising=False)
    before = environment.describe("cpu")
    assert (before.variables, doctor.examine_variables("cpu")) == (None, [])
    monkeypatch.setenv(name, "BF16")
    assert doctor.examine_variables("cpu") == [
        Finding(level="warn", what="variable", found=f"{name}=BF16", advice=f"{effect}: unset it.")
    ]
    assert environment.describe("cpu").variables == f"{name}=BF16", "no repetition of what was measured without it"
    assert "variables_set" in telemetry.surroundings("cpu", threads=1)


@pytest.mark.parametrize(
    ("device", "here", "headers", "level", "told"),
    [
        ("cpu", ("g++",), False, "ok", "g++"),
        ("cpu", ("gcc",), True, "warn", "no g++"),
        ("cuda", ("gcc",), True, "ok", "gcc"),
        ("cuda", ("clang",), True, "ok", "clang"),
        ("cuda", ("gcc",), False, "warn", "without Python's headers"),
        ("cuda:1", (), True, "warn", "no gcc"),
        ("xpu", ("g++",), True, "warn", "no gcc"),
    ],
)
def test_what_compiling_needs_is_looked_for(
    device: str,
    here: tuple[str, ...],
    headers: bool,
    level: str,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: name if name in here else None)
    if headers:
        (tmp_path / "Python.h").touch()
    finding = doctor.compiler(device, tmp_path)
    assert (finding.level, finding.what) == (level, "compiler")
    assert told in finding.found
    assert ("build-essential python3-dev" in finding.advice) == (level == "warn")


def test_a_compiler_that_is_named_is_the_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda name: name if name == "icx" else None)
    monkeypatch.setenv("CXX", "icx -O2")
    assert doctor.compiler("cpu", tmp_path).found == "icx -O2"


def test_a_card_without_slices_does_not_hide_that_another_is_cut_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class Nvml:
        class NVMLError(Exception):
            pass

        def nvmlDeviceGetMigMode(self, handle: int) -> tuple[int, int]:  # noqa: N802
            if handle == 0:
                raise self.NVMLError("not supported")
            return (1, 1) if handle == 1 else (0, 0)

    for handles, is_cut_up in (([0, 1], True), ([0, 2], False), ([], False)):
        monkeypatch.setattr(unseen, "_handles", lambda _library, handles=handles: nullcontext(handles))
        assert unseen._is_cut_up(Nvml()) == is_cut_up
