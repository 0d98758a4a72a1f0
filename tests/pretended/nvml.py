"""A driver's management library that says what a test tells it to: it stands where the module `pynvml` stands."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

UUID = "3f2a1b00-1111-2222-3333-444455556666"
NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND, GPU_IS_LOST = 3, 4, 6, 15
WIDE, NARROW = 3, 1
"""NVML_VALUE_TYPE_UNSIGNED_LONG_LONG and _INT."""


class FakeNVMLError(Exception):
    """Has a code, as the library's has."""

    def __init__(self, value: int) -> None:
        super().__init__({3: "Not Supported", 4: "Insufficient Permissions"}.get(value, f"code {value}"))
        self.value = value


class FakeNvml:
    """One card. `answers`: function -> its answer, or an exception to raise; `fields`: number -> (type, value)."""

    NVMLError = FakeNVMLError

    def __init__(self, driver: str = "590.44", *, mig: bool = False, **answers: Any) -> None:
        self.lost: Any = lambda: False
        self.driver, self.mig, self.open, self.calls = driver, mig, 0, list[tuple[str, tuple[Any, ...]]]()
        self.fields: dict[int, tuple[int, Any]] = {}
        self.violations: dict[int, int] = {}
        self.answers: dict[str, Any] = {
            "nvmlDeviceGetClockInfo": 1980,
            "nvmlDeviceGetTemperature": 61,
            "nvmlDeviceGetPowerUsage": 650_000,
            "nvmlDeviceGetTotalEnergyConsumption": 1_000_000,
            "nvmlDeviceGetName": "NVIDIA H200",
            "nvmlDeviceGetEccMode": [1, 1],
            "nvmlDeviceGetMigMode": [0, 0],
            "nvmlDeviceGetPersistenceMode": 1,
            "nvmlDeviceGetEnforcedPowerLimit": 700_000,
            "nvmlDeviceGetPowerManagementDefaultLimit": 700_000,
            "nvmlDeviceGetComputeRunningProcesses": [],
            "nvmlDeviceGetMaxClockInfo": 1980,
            "nvmlDeviceGetTemperatureThreshold": 87,
            "nvmlDeviceGetCurrPcieLinkWidth": 16,
            "nvmlDeviceGetMaxPcieLinkWidth": 16,
            "nvmlDeviceGetMaxPcieLinkGeneration": 5,
            "nvmlDeviceGetCurrentClocksEventReasons": 0x1,
            "nvmlDeviceSetGpuLockedClocks": None,
            "nvmlDeviceResetGpuLockedClocks": None,
            **answers,
        }

    def nvmlInit(self) -> None:  # noqa: N802
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return self.driver

    def nvmlSystemGetCudaDriverVersion(self) -> int:  # noqa: N802
        return self.answers.get("cuda", 13020)

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return self.answers.get("count", 1)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:  # noqa: N802
        return "card"

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        if self.lost():
            raise FakeNVMLError(GPU_IS_LOST)
        if uuid != ("MIG-" if self.mig else "GPU-") + UUID:
            raise FakeNVMLError(NOT_FOUND)
        return "slice" if self.mig else "card"

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, handle: str) -> str:  # noqa: N802
        assert handle == "slice"
        return "card"

    def nvmlDeviceGetFieldValues(self, handle: str, numbers: list[int]) -> list[Any]:  # noqa: N802
        assert handle == "card"
        return [self._field(number) for number in numbers]

    def _field(self, number: int) -> Any:
        kind, value = self.fields.get(number, (WIDE, 0))
        code = 0 if number in self.fields else NOT_SUPPORTED
        value = value() if callable(value) else value
        return SimpleNamespace(nvmlReturn=code, valueType=kind, value=SimpleNamespace(ullVal=value))

    def nvmlDeviceGetViolationStatus(self, handle: str, policy: int) -> Any:  # noqa: N802
        if policy not in self.violations:
            raise FakeNVMLError(NOT_SUPPORTED)
        return SimpleNamespace(violationTime=self.violations[policy])

    def __getattr__(self, name: str) -> Any:
        if name not in self.__dict__["answers"]:
            raise AttributeError(name)

        def call(handle: str, *arguments: Any) -> Any:
            assert handle == "card"
            self.calls.append((name, arguments))
            answer = self.answers[name]
            if isinstance(answer, Exception):
                raise answer
            return answer() if callable(answer) else answer

        return call


def process(pid: int) -> Any:
    """One entry of the list of compute processes."""
    return SimpleNamespace(pid=pid, usedGpuMemory=None)


def pretend_cuda(monkeypatch: pytest.MonkeyPatch, **answers: Any) -> None:
    """Let torch see one CUDA device with the UUID that the fake driver knows, and no context of ours on it."""
    import torch

    for function, answer in {
        "is_available": True,
        "device_count": 1,
        "is_initialized": False,
        "max_memory_reserved": 0,
        "get_device_name": "NVIDIA H200",
        "get_device_capability": (9, 0),
        "get_arch_list": ["sm_80", "sm_90"],
        "get_device_properties": SimpleNamespace(uuid=UUID),
        **answers,
    }.items():
        monkeypatch.setattr(torch.cuda, function, lambda *_, answer=answer: answer)
