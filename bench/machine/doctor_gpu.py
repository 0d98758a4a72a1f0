"""Is the GPU fit to measure? Its kernels in torch, its driver, its other users, and the state that it is in.

Nothing is changed: what a person may set (persistence, power limit, clocks) is told with the command that sets it.
"""

from __future__ import annotations

import torch

from visionbench.machine import nvml
from visionbench.machine.finding import Finding
from visionbench.machine.support import has_kernels, missing_kernels

NEARLY_HOT = 10.0
"""Degrees below the temperature at which the card slows itself down."""

SLOWDOWN_TEMPERATURE = 1  # NVML_TEMPERATURE_THRESHOLD_SLOWDOWN
APPLICATION_CLOCKS = 0x02  # nvmlClocksEventReasonApplicationsClocksSetting


def absent(device: str) -> Finding:
    """Why torch does not see the GPU that was asked for."""
    if torch.version.cuda is None:
        advice = "this torch is built for CPUs: install a build for CUDA (pytorch.org, Get Started)."
    elif torch.cuda.is_available():
        advice = f"torch sees {torch.cuda.device_count()} CUDA devices: name one of them; see CUDA_VISIBLE_DEVICES."
    else:
        advice = (
            f"is there an NVIDIA driver (nvidia-smi), new enough for CUDA {torch.version.cuda}? Or use --device cpu."
        )
    return Finding(level="bad", what="GPU", found=f"torch does not see {device}", advice=advice)


def examine(device: str, gpu: nvml.Gpu | None = None) -> list[Finding]:
    """The card, its kernels in torch, its driver, and the state that it is in."""
    name, capability = torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device)
    architectures = torch.cuda.get_arch_list()
    findings = [Finding(level="ok", what="GPU", found=f"{name} (sm_{capability[0]}{capability[1]})")]
    if not has_kernels(capability, architectures):
        advice = missing_kernels(name, capability)
        findings.append(Finding(level="bad", what="kernels", found=" ".join(architectures) or "none", advice=advice))
    opened = gpu or nvml.open_gpu(device)
    if opened is None:
        advice = "clocks and throttling stay unknown: pip install nvidia-ml-py"
        return [*findings, Finding(level="warn", what="driver", found="does not answer", advice=advice)]
    try:
        return [*findings, *(look(opened, device) for look in LOOKS)]
    finally:
        if gpu is None:
            nvml.close(opened)


def _driver(gpu: nvml.Gpu, _: str) -> Finding:
    """CUDA's rule: a driver runs programs of its own major version of CUDA and of older ones; within one major version
    an older driver lacks what came later ("CUDA Compatibility", minor version compatibility).
    """
    try:
        number = int(gpu.library.nvmlSystemGetCudaDriverVersion())
    except gpu.library.NVMLError:
        return Finding(level="ok", what="driver", found=f"{gpu.driver}")
    knows = (number // 1000, number % 1000 // 10)
    needs = tuple(int(part) for part in (torch.version.cuda or "0.0").split(".")[:2])
    found = f"{gpu.driver}, for CUDA {knows[0]}.{knows[1]}; torch is built for {torch.version.cuda}"
    if knows >= needs:
        return Finding(level="ok", what="driver", found=found)
    remedy = "update the driver, or install torch for an older CUDA."
    if knows[0] < needs[0]:
        return Finding(level="bad", what="driver", found=found, advice=f"too old: {remedy}")
    return Finding(level="warn", what="driver", found=found, advice=f"most works, compiling may not: {remedy}")


def _company(gpu: nvml.Gpu, device: str) -> Finding:
    others = nvml.other_processes(gpu, device)
    if not others:
        return Finding(level="ok", what="GPU's processes", found="none but this one")
    found = f"others: {', '.join(map(str, others))}"
    return Finding(
        level="bad", what="GPU's processes", found=found, advice="wait for them, end them, or take another GPU."
    )


def _sharing(gpu: nvml.Gpu, _: str) -> Finding:
    mode = nvml.ask(gpu, "nvmlDeviceGetMigMode")
    if gpu.mig or (mode and mode[0]):
        advice = "a slice is no whole card, and its neighbours share clock and power: `sudo nvidia-smi -mig 0`."
        return Finding(level="warn", what="MIG", found="on", advice=advice)
    return Finding(level="ok", what="MIG", found="off" if mode else "not on this card")


def _ecc(gpu: nvml.Gpu, _: str) -> Finding:
    mode = nvml.ask(gpu, "nvmlDeviceGetEccMode")
    found = "unknown" if mode is None else "on" if mode[0] else "off"
    if nvml.costly_ecc(gpu):
        advice = "takes memory and bandwidth on this card: compare only with cards where it is on, too."
        return Finding(level="warn", what="ECC", found=found, advice=advice)
    return Finding(level="ok", what="ECC", found=found)


def _persistence(gpu: nvml.Gpu, _: str) -> Finding:
    mode = nvml.ask(gpu, "nvmlDeviceGetPersistenceMode")
    if mode == 0:
        advice = "the driver starts anew with every launch: `sudo nvidia-smi -pm 1`."
        return Finding(level="warn", what="persistence", found="off", advice=advice)
    return Finding(level="ok", what="persistence", found="unknown" if mode is None else "on")


def _power(gpu: nvml.Gpu, _: str) -> Finding:
    limit, default = nvml.power_limits(gpu)
    if limit is None:
        return Finding(level="ok", what="power limit", found="unknown")
    if nvml.is_power_lowered(gpu):
        advice = f"below the card's own: `sudo nvidia-smi -pl {default:.0f}`, or say so beside the numbers."
        return Finding(level="warn", what="power limit", found=f"{limit:.0f} of {default:.0f} W", advice=advice)
    return Finding(level="ok", what="power limit", found=f"{limit:.0f} W")


def _temperature(gpu: nvml.Gpu, _: str) -> Finding:
    now = nvml.temperature(gpu)
    limit = nvml.ask(gpu, "nvmlDeviceGetTemperatureThreshold", SLOWDOWN_TEMPERATURE)
    found = "unknown" if now is None else f"{now:.0f} degrees C"
    found += f", slows down at {limit}" if now is not None and limit else ""
    if now is not None and limit and now > limit - NEARLY_HOT:
        advice = "too warm to begin: let it rest, see to its air."
        return Finding(level="warn", what="temperature", found=found, advice=advice)
    return Finding(level="ok", what="temperature", found=found)


def _clocks(gpu: nvml.Gpu, _: str) -> Finding:
    """Where the clock is and what holds it down now; a resting card's is low, and that is right."""
    now, most = nvml.sm_clock(gpu), nvml.ask(gpu, "nvmlDeviceGetMaxClockInfo", nvml.CLOCK_SM)
    found = "unknown" if now is None or most is None else f"{now / 1e6:.0f} of {most} MHz"
    mask = nvml.reasons(gpu) or 0
    causes = [cause.replace("_", " ") for cause, bit in nvml.REASONS if mask & bit and cause != "power_cap"]
    if causes:
        told = f"{found}; held down now: {', '.join(causes)}"
        advice = "the card is in trouble before it has work: see to its air and its power supply."
        return Finding(level="bad", what="clocks", found=told, advice=advice)
    if mask & APPLICATION_CLOCKS:
        advice = "somebody has set the clocks: `sudo nvidia-smi --reset-applications-clocks`, or say so."
        return Finding(level="warn", what="clocks", found=f"{found}, set by hand", advice=advice)
    return Finding(level="ok", what="clocks", found=found)


def _throttle_counters(gpu: nvml.Gpu, _: str) -> Finding:
    sources = nvml.plan(gpu)
    counted = [cause for cause, _ in (*sources.fields, *sources.policies)]
    found = f"counted: {', '.join(counted) or 'nothing'}"
    if not nvml.tells_heat(sources):
        advice = "this driver does not tell whether it slows the card down: every number is flagged throttle_unknown."
        return Finding(level="warn", what="throttling", found="unknown", advice=advice)
    polled = [cause for cause, _ in sources.bits]
    return Finding(level="ok", what="throttling", found=found + (f"; polled: {', '.join(polled)}" if polled else ""))


def _link(gpu: nvml.Gpu, _: str) -> Finding:
    """The lanes; not the generation, which a resting card lowers to save power."""
    width, most = (nvml.ask(gpu, f"nvmlDeviceGet{which}PcieLinkWidth") for which in ("Curr", "Max"))
    generation = nvml.ask(gpu, "nvmlDeviceGetMaxPcieLinkGeneration")
    if width is None or most is None:
        return Finding(level="ok", what="PCIe", found="unknown")
    found = f"{width} of {most} lanes" + (f", generation {generation}" if generation else "")
    if width < most:
        advice = "copies to the card are slower than they could be: another slot, or the card sits loose."
        return Finding(level="warn", what="PCIe", found=found, advice=advice)
    return Finding(level="ok", what="PCIe", found=found)


LOOKS = (
    _driver,
    _company,
    _sharing,
    _ecc,
    _persistence,
    _power,
    _temperature,
    _clocks,
    _throttle_counters,
    _link,
)
"""What is looked at on a card that answers, in the order in which it is told."""
