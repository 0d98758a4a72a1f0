"""NVIDIA's management library (NVML), thinly: one card, typed answers in base units, None where it has no answer.

NVML is the driver's view of the whole machine, not this process's. It counts all cards, in the order of the bus, and
does not know CUDA_VISIBLE_DEVICES; so the card is found by the UUID that CUDA gives for its device. A slice of a card
(MIG) has its own UUID; clocks and their limits are the whole card's, so those are asked of the card, while power and
energy, which a slice shares with strangers, are unknown.

**Slow-downs.** A GPU lowers its clock to keep a power limit (normal for big models) or because it is too hot or its
supply fails (not normal). The driver counts the nanoseconds of each cause since it was loaded, so reading the counters
before and after a block misses nothing between, as a polled bit mask does. The counters advance in steps (about 0.1 s
have been seen), so what happens at the end of a short block may be found in the one after it. Their field numbers
belong to the *driver*, not to the Python binding, and moved: 251 to 253 in 575 and in 580.65, where 269 to 271 are
settings of another feature; 269 to 271 from 580.82 on (nvidia-ml-py 12.575.51, 13.580.65 and 13.580.82).
Asked by the wrong number, the driver would answer with something that never moves: "no throttling". Hence the table
below. Where the counters are missing: `nvmlDeviceGetViolationStatus` (deprecated, gone in CUDA 14), then the bit mask.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

import torch

from visionbench.machine import accelerator, host
from visionbench.record import devices
from visionbench.record.errors import BenchError

Cause = Literal["thermal", "hw_slowdown", "power_brake", "power_cap"]

POWER_CAP_FIELD = 74  # NVML_FI_DEV_PERF_POLICY_POWER, since Volta
POWER_POLICY, THERMAL_POLICY = 0, 1  # NVML_PERF_POLICY_*
WIDE_TYPES = {2, 3, 4}  # NVML_VALUE_TYPE_*: unsigned long, unsigned long long, signed long long; a setting is narrower
REASONS: tuple[tuple[Cause, int], ...] = (  # nvmlClocksEventReason*
    ("thermal", 0x20),
    ("hw_slowdown", 0x08 | 0x40),
    ("power_brake", 0x80),
    ("power_cap", 0x04),
)
CLOCK_SM = 1  # NVML_CLOCK_SM
BASE_CLOCK = 0xFFFFFF01  # NVML_CLOCK_LIMIT_ID_TDP: the clock that the card holds within its power limit
LOWERED = 0.99
EXCLUSIVE_THREAD, PROHIBITED, EXCLUSIVE_PROCESS = 1, 2, 3  # NVML_COMPUTEMODE_*
REFUSALS = {  # NVML_ERROR_*
    3: "this card or its driver cannot; leave --lock-clocks out.",
    4: "only root may; run it with sudo, or leave --lock-clocks out.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One card, opened. `mig`: CUDA's device is a slice of it. `library` is the module `pynvml`."""

    library: Any
    handle: Any
    mig: bool
    driver: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Where each cause of slowing down is read on this card: fields, violation policies, bits; or not at all."""

    fields: tuple[tuple[Cause, int], ...]
    policies: tuple[tuple[Cause, int], ...]
    bits: tuple[tuple[Cause, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slowdowns:
    """A reading by a plan: nanoseconds so far by cause, and the causes whose bit is set now."""

    counted: dict[Cause, int]
    active: frozenset[Cause]


def open_gpu(device: str, module: Any = None) -> Gpu | None:
    """The card behind CUDA's `device`; None without a driver, without nvidia-ml-py, or if the card is not found.

    AMD's cards are torch's `cuda` devices, too, and NVML knows none of them.
    """
    nvidia = torch.device(device).type == "cuda" and torch.cuda.is_available() and not accelerator.is_amd()
    module = (module or library()) if nvidia else None
    if module is None:
        return None
    uuid = accelerator.uuid(device)
    try:
        module.nvmlInit()
    except module.NVMLError:
        return None
    found = _handle(module, uuid)
    if found is None:
        module.nvmlShutdown()
        return None
    driver: str | None = None
    with suppress(module.NVMLError):
        driver = str(module.nvmlSystemGetDriverVersion())
    return Gpu(library=module, handle=found[0], mig=found[1], driver=driver)


@contextmanager
def opened(device: str, gpu: Gpu | None = None) -> Iterator[Gpu | None]:
    """The card meanwhile, or None, as `open_gpu` has it; one that is open already stays open."""
    card = gpu or open_gpu(device)
    try:
        yield card
    finally:
        if card is not None and gpu is None:
            close(card)


def driver_cuda(module: Any) -> tuple[int, int] | None:
    """The newest CUDA that the driver runs, as (major, minor); None where no driver answers."""
    try:
        module.nvmlInit()
        number = int(module.nvmlSystemGetCudaDriverVersion())
        module.nvmlShutdown()
    except module.NVMLError:
        return None
    return number // 1000, number % 1000 // 10


def answers(device: str) -> bool:
    """Whether the driver finds the card and has an answer about it. A card that fell off the bus has none."""
    with opened(device) as gpu:
        return gpu is not None and ask(gpu, "nvmlDeviceGetName") is not None


def compute_mode(device: str) -> Literal["exclusive", "prohibited"] | None:
    """Whether one process at a time may use the card, or none; None where all may, or where this is unknown."""
    with opened(device) as gpu:
        mode = ask(gpu, "nvmlDeviceGetComputeMode") if gpu else None
    if mode == PROHIBITED:
        return "prohibited"
    return "exclusive" if mode in (EXCLUSIVE_THREAD, EXCLUSIVE_PROCESS) else None


def close(gpu: Gpu) -> None:
    """Let the library go; it counts its users."""
    with suppress(gpu.library.NVMLError):
        gpu.library.nvmlShutdown()


def ask(gpu: Gpu, function: str, *arguments: Any) -> Any:
    """The answer of one of the library's functions about the card, or None: card, driver or binding have none."""
    call = getattr(gpu.library, function, None)
    if call is None:
        return None
    try:
        return call(gpu.handle, *arguments)
    except gpu.library.NVMLError:
        return None


def sm_clock(gpu: Gpu) -> float | None:
    """The clock of the multiprocessors now, in Hz."""
    return _scaled(ask(gpu, "nvmlDeviceGetClockInfo", CLOCK_SM), 1e6)


def temperature(gpu: Gpu) -> float | None:
    """Degrees Celsius now."""
    return _scaled(ask(gpu, "nvmlDeviceGetTemperature", 0), 1.0)


def power(gpu: Gpu) -> float | None:
    """Watts of the board: from Ampere on the mean over the last second, on GA100 and before a sample."""
    return None if gpu.mig else _scaled(ask(gpu, "nvmlDeviceGetPowerUsage"), 1e-3)


def energy(gpu: Gpu) -> float | None:
    """Joules of the board since the driver was loaded (Volta and later)."""
    return None if gpu.mig else _scaled(ask(gpu, "nvmlDeviceGetTotalEnergyConsumption"), 1e-3)


def power_limits(gpu: Gpu) -> tuple[float | None, float | None]:
    """Watts: the current limit, and the default one."""
    enforced = _scaled(ask(gpu, "nvmlDeviceGetEnforcedPowerLimit"), 1e-3)
    return enforced, _scaled(ask(gpu, "nvmlDeviceGetPowerManagementDefaultLimit"), 1e-3)


def is_power_lowered(gpu: Gpu) -> bool:
    """Whether the limit is set below the card's default (a percent is allowed for: drivers round)."""
    enforced, default = power_limits(gpu)
    return enforced is not None and default is not None and enforced < LOWERED * default


def reasons(gpu: Gpu) -> int | None:
    """The bit mask of what limits the clocks at this moment; drivers before 535 know it by its old name."""
    mask = ask(gpu, "nvmlDeviceGetCurrentClocksEventReasons")
    mask = ask(gpu, "nvmlDeviceGetCurrentClocksThrottleReasons") if mask is None else mask
    return None if mask is None else int(mask)


def plan(gpu: Gpu) -> Plan:
    """For each cause the best source that this card and this driver have."""
    fields = _throttle_fields(gpu.driver)
    answers = _counted(gpu, fields)
    fields = tuple((cause, number) for cause, number in fields if cause in answers)
    known = set(answers)
    candidates: tuple[tuple[Cause, int], ...] = (("power_cap", POWER_POLICY), ("thermal", THERMAL_POLICY))
    policies = tuple((c, policy) for c, policy in candidates if c not in known and _violation(gpu, policy) is not None)
    known |= {cause for cause, _ in policies}
    bits = tuple((cause, mask) for cause, mask in REASONS if cause not in known) if reasons(gpu) is not None else ()
    return Plan(fields=fields, policies=policies, bits=bits)


def tells_heat(sources: Plan) -> bool:
    """Whether slowing down by heat would be noticed: without that, "it was not slowed down" cannot be said."""
    causes = {cause for cause, _ in (*sources.fields, *sources.policies, *sources.bits)}
    return not causes.isdisjoint({"thermal", "hw_slowdown"})


def read(gpu: Gpu, sources: Plan) -> Slowdowns | None:
    """The reading now; None where heat is not reported, or a source no longer answers."""
    counted = _counted(gpu, sources.fields)
    counted |= {c: ns for c, policy in sources.policies if (ns := _violation(gpu, policy)) is not None}
    mask = reasons(gpu) if sources.bits else 0
    silent = len(counted) < len(sources.fields) + len(sources.policies)
    if mask is None or silent or not tells_heat(sources):
        return None
    return Slowdowns(counted=counted, active=frozenset(cause for cause, bit in sources.bits if mask & bit))


def moved(before: Slowdowns | None, after: Slowdowns | None) -> frozenset[Cause] | None:
    """The causes that slowed the card down between two readings; None is unknown, which is not "none"."""
    if before is None or after is None:
        return None
    ticked = {cause for cause, nanoseconds in after.counted.items() if nanoseconds != before.counted.get(cause)}
    return frozenset(ticked | before.active | after.active)


def lock_base_clock(gpu: Gpu) -> None:
    """Lock the graphics clock at its base frequency. Raises `BenchError` if the driver refuses.

    The base clock is the one that the card can hold within its power limit, hence the steadiest.
    """
    library = gpu.library
    try:
        library.nvmlDeviceSetGpuLockedClocks(gpu.handle, BASE_CLOCK, BASE_CLOCK)
    except library.NVMLError as error:
        remedy = REFUSALS.get(getattr(error, "value", 0), "leave --lock-clocks out.")
        raise BenchError(f"the driver did not lock the GPU's clock ({error}): {remedy}") from error


def unlock_clock(gpu: Gpu) -> None:
    """Let the graphics clock go. Raises `BenchError` if the driver refuses."""
    try:
        gpu.library.nvmlDeviceResetGpuLockedClocks(gpu.handle)
    except gpu.library.NVMLError as error:
        raise BenchError(
            f"the GPU's clock is still locked ({error}): run `sudo nvidia-smi --reset-gpu-clocks`."
        ) from error


def other_processes(gpu: Gpu, device: str) -> tuple[int, ...]:
    """PIDs of compute processes on the card that are neither this one nor among those that started it.

    Where this process surely holds a context there but its PID is not listed, the driver numbers processes as the host
    does and we are in a container: one of them is this one.
    """
    found = ask(gpu, "nvmlDeviceGetComputeRunningProcesses") or ()
    listed = tuple(int(process.pid) for process in found)
    ours = host.lineage()
    others = tuple(pid for pid in listed if pid not in ours)
    holds = torch.cuda.is_initialized() and torch.cuda.max_memory_reserved(device) > 0
    return others[1:] if holds and os.getpid() not in listed else others


def costly_ecc(gpu: Gpu) -> bool:
    """Whether error correction is on where it costs: GDDR keeps the check bits in the memory itself, which takes
    capacity and bandwidth; HBM has extra room for them (NVIDIA, "Pascal Tuning Guide", section "HBM2 DRAM").
    """
    mode = ask(gpu, "nvmlDeviceGetEccMode")
    known = devices.identify(str(ask(gpu, "nvmlDeviceGetName")))
    return bool(mode and mode[0]) and not (known and known.memory_type.startswith("HBM"))


def library() -> Any:
    """The module `pynvml`; None where it is not installed."""
    try:
        import pynvml
    except ImportError:
        return None
    return pynvml


def _handle(library: Any, uuid: str) -> tuple[Any, bool] | None:
    """The card with that UUID and whether the UUID was a slice's."""
    with suppress(library.NVMLError):
        return library.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}"), False
    with suppress(library.NVMLError):
        part = library.nvmlDeviceGetHandleByUUID(f"MIG-{uuid.removeprefix('MIG-')}")
        return library.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(part), True
    return None


def _scaled(value: Any, scale: float) -> float | None:
    return None if value is None else float(value) * scale


def _throttle_fields(driver: str | None) -> tuple[tuple[Cause, int], ...]:
    found = re.match(r"(\d+)\.(\d+)", driver or "")
    version = (int(found[1]), int(found[2])) if found else (0, 0)
    if version >= (580, 82):
        first = 269
    elif (575, 0) <= version <= (580, 65):
        first = 251
    else:  # before 575 there were none; between 580.65 and 580.82 nobody says which
        return (("power_cap", POWER_CAP_FIELD),)
    return (
        ("thermal", first),  # ..._SW_THERM_SLOWDOWN
        ("hw_slowdown", first + 1),  # ..._HW_THERM_SLOWDOWN
        ("power_brake", first + 2),  # ..._HW_POWER_BRAKE_SLOWDOWN
        ("power_cap", POWER_CAP_FIELD),
    )


def _counted(gpu: Gpu, fields: tuple[tuple[Cause, int], ...]) -> dict[Cause, int]:
    """Nanoseconds of those fields that the card has."""
    answers = ask(gpu, "nvmlDeviceGetFieldValues", [number for _, number in fields]) if fields else None
    return {
        cause: int(answer.value.ullVal)
        for (cause, _), answer in zip(fields, answers or (), strict=False)
        if answer.nvmlReturn == 0 and answer.valueType in WIDE_TYPES
    }


def _violation(gpu: Gpu, policy: int) -> int | None:
    found = ask(gpu, "nvmlDeviceGetViolationStatus", policy)
    return None if found is None else int(found.violationTime)
