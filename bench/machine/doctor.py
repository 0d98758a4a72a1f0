"""Is this machine fit to measure? Findings in plain words, each with what to do about it; nothing is changed.

Checks that pass are printed too, so that the page describes the machine. First the software, then the GPU (its kernels
in torch, its driver, its other users, and the state that it is in), then the host (its cores, who else wants them, and
what its clock does). Settings (persistence, power limit, clocks) come with the command that changes them.
The page ends with the one test that a table of facts cannot replace: that a synchronisation waits. On some devices it
did not, and the numbers were ten times too good.
"""

from __future__ import annotations

import importlib
import os
import re
import shutil
import sysconfig
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import torch

from visionbench.machine import accelerator, host, linux, nvml, unseen
from visionbench.machine.environment import device_type, variables_of, variables_that_count
from visionbench.machine.support import has_kernels, missing_kernels
from visionbench.record.errors import BenchError
from visionbench.record.units import GIB, size

Level = Literal["ok", "warn", "bad"]

OLDEST = {"torch": (2, 6), "timm": (1, 0, 15)}
NEWEST_TRIED = {"torch": (2, 15), "timm": (1, 0)}

WIDE, PRODUCT = 2048, 8192
"""Sides of the product that stands for a spin: 69 GFLOP, 3 to 30 ms on a GPU."""

TORCHVISION_AHEAD = 15
"""torch 2.6 goes with torchvision 0.21, torch 2.10 with 0.25 (torchvision's README, table of versions)."""

SPIN_CYCLES = 50_000_000
"""Of a GPU's clock: 25 ms at 2 GHz. Longer than any launch of a kernel, shorter than a driver's watchdog allows."""

SPIN_TOLERANCE = 0.25

SYMBOLS: dict[Level, str] = {"ok": "✓", "warn": "!", "bad": "✗"}

STOLEN = 0.01
STEAL_SECONDS = 1.0
LITTLE_MEMORY, NO_MEMORY = 4 * GIB, 1 * GIB

NEARLY_HOT = 10.0
"""Degrees below the temperature at which the card slows itself down."""

SLOWDOWN_TEMPERATURE = 1  # NVML_TEMPERATURE_THRESHOLD_SLOWDOWN
APPLICATION_CLOCKS = 0x02  # nvmlClocksEventReasonApplicationsClocksSetting


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at: `what`, what was `found` there, and what to do about it ("" if nothing).

    `bad` makes numbers wrong or impossible; `warn` makes them noisier, or different from other people's.
    """

    level: Level
    what: str
    found: str
    advice: str = ""


def _finding(what: str, found: str, advice: str = "", level: Level = "warn") -> Finding:
    """What was found; it is in order where there is no advice."""
    return Finding(level=level if advice else "ok", what=what, found=found, advice=advice)


def examine(device: str) -> tuple[Finding, ...]:
    """All findings for measuring on `device`, in a second or two. Raises `BenchError` for a word that is no device."""
    findings, kind = [*(software(name) for name in OLDEST), torchvision()], device_type(device)
    findings.append(compiler(device))
    if kind not in ("cuda", *accelerator.OTHERS):
        return (*findings, *overlooked_gpu(), *examine_variables(device), *examine_host(), timing_self_test(device))
    if not accelerator.is_there(device):
        return (*findings, absent_gpu(device), *examine_host())
    gpu = examine_gpu(device) if kind == "cuda" else examine_other(device)
    return (*findings, *gpu, *examine_variables(device), *examine_host(), timing_self_test(device))


def render(findings: tuple[Finding, ...]) -> str:
    """One line per finding, its advice below it, and a verdict."""
    width = max((len(finding.what) for finding in findings), default=0)
    lines = []
    for finding in findings:
        lines.append(f"{SYMBOLS[finding.level]} {finding.what:<{width}}  {finding.found}")
        lines += [f"  {'':<{width}}  {finding.advice}"] if finding.advice else []
    levels = {finding.level for finding in findings}
    if "bad" in levels:
        verdict = f"Not fit to measure: see what is marked {SYMBOLS['bad']}."
    elif "warn" in levels:
        verdict = f"Fit to measure, with reservations: see what is marked {SYMBOLS['warn']}."
    else:
        verdict = "Fit to measure."
    return "\n".join((*lines, "", verdict))


def software(name: str, version: str | None = None) -> Finding:
    """Whether torch's or timm's version is one that this program knows."""
    try:
        found = version or metadata.version(name)
    except metadata.PackageNotFoundError:
        return _finding(name, "not installed", f"pip install {name}", "bad")
    numbers = tuple(int(part) for part in re.findall(r"\d+", found.partition("+")[0])[:3])
    tried = NEWEST_TRIED[name]
    if numbers < OLDEST[name]:
        oldest = ".".join(map(str, OLDEST[name]))
        return _finding(name, found, f"too old: install {name} {oldest} or later.", "bad")
    newest = ".".join(map(str, tried))
    is_newer = numbers[: len(tried)] > tried
    return _finding(name, found, f"newer than {newest}, the newest that was tried." if is_newer else "")


def torchvision(load: Callable[[str], Any] = importlib.import_module, torch_version: str | None = None) -> Finding:
    """Whether torchvision fits torch: their minor versions are `TORCHVISION_AHEAD` apart, and it loads."""
    what, minor = "torchvision", unseen.numbers(torch_version or str(torch.__version__))[1]
    advice = f"pip install 'torchvision==0.{minor + TORCHVISION_AHEAD}.*'"
    try:
        found = metadata.version(what)
        load(what)
    except metadata.PackageNotFoundError:
        return _finding(what, "not installed", f"timm needs it: {advice}", "bad")
    except Exception as error:  # it is built for another torch, and fails in many ways
        broken = f"{found} does not load: {str(error).strip().partition(chr(10))[0]}"
        return _finding(what, broken, f"for this torch: {advice}", "bad")
    fits = unseen.numbers(found)[1] == minor + TORCHVISION_AHEAD
    return _finding(what, found, "" if fits else f"it is made for another torch: {advice}")


def compiler(device: str, include: Path | None = None) -> Finding:
    """Whether --compile can work: its code is C++ on a CPU, and on a GPU Triton builds a C module against Python's own
    headers (Triton's runtime/build.py; torch's cpp_builder.py).
    """
    asked = ("CXX", "g++", "clang++") if device_type(device) == "cpu" else ("CC", "gcc", "clang", "cc")
    names = [os.environ.get(word) or word for word in asked]
    found = next((name for name in names if shutil.which(name.partition(" ")[0])), None)
    headers = (include or Path(sysconfig.get_paths()["include"])) / "Python.h"
    what, remedy = "compiler", "--compile needs it, nothing else does: apt install build-essential python3-dev"
    if found is None:
        return _finding(what, f"no {asked[1]}, no {asked[2]}", f"{remedy}.")
    if device_type(device) != "cpu" and not headers.exists():
        return _finding(what, f"{found}, without Python's headers", f"{remedy}.")
    return _finding(what, found)


def timing_self_test(
    device: str,
    *,
    spin: Callable[[int], None] | None = None,
    synchronize: Callable[[], None] | None = None,
    now: Callable[[], float] = time.perf_counter,
) -> Finding:
    """Whether a synchronisation waits for what was enqueued.

    The work is one kernel that spins for a number of the GPU's own cycles, so twice the cycles take twice the time, and
    enqueueing takes the same. A synchronisation that does not wait sees only the enqueueing: the ratio is 1. A CPU's
    operators return when they are done, so there is nothing to wait for.
    """
    what = "timing self-test"
    kind, wait = device_type(device), synchronize or accelerator.synchronizer(device)
    if kind == "cuda" and not accelerator.is_amd():
        with torch.cuda.device(device):
            once, twice = spin_seconds(spin or torch.cuda._sleep, wait, now)
    elif kind in ("cuda", *accelerator.OTHERS):
        once, twice = spin_seconds(spin or product_on(device), wait, now, cycles=PRODUCT)
    else:
        return _finding(what, "a CPU's operators return when they are done")
    found = f"one spin {once * 1e3:.1f} ms, a double one {twice * 1e3:.1f} ms"
    if abs(twice / once - 2) > 2 * SPIN_TOLERANCE:
        advice = "synchronising does not wait, or the clock jumps: no time on this device can be trusted."
        return _finding(what, found, advice, "bad")
    return _finding(what, f"{found}: synchronising waits")


def check_that_it_waits(device: str) -> None:
    """Raise `BenchError` for an accelerator on which a synchronisation does not wait; only NVIDIA's was tried."""
    kind = device_type(device)
    untried = kind in accelerator.OTHERS or (kind == "cuda" and accelerator.is_amd())
    if not untried or not accelerator.is_there(device):
        return
    finding = timing_self_test(device)
    if finding.level == "bad":
        raise BenchError(f"--device {device} cannot be timed ({finding.found}): {finding.advice}")


def product_on(device: str) -> Callable[[int], None]:
    """One matrix product on that device, as deep as is asked for, at most `2 * PRODUCT`.

    It stands for a spin where a device has no such kernel: twice the depth is twice the work, and one launch either
    way.
    """
    left, right = (torch.ones(shape, device=device) for shape in ((WIDE, 2 * PRODUCT), (2 * PRODUCT, WIDE)))

    def multiply(depth: int) -> None:
        torch.mm(left[:, :depth], right[:depth])

    return multiply


def spin_seconds(
    spin: Callable[[int], None], synchronize: Callable[[], None], now: Callable[[], float], cycles: int = SPIN_CYCLES
) -> tuple[float, float]:
    """Shortest of three times, in seconds, of a spin and of one of twice the cycles, after a spin to wake the card."""

    def one(length: int) -> float:
        start = now()
        spin(length)
        synchronize()
        return now() - start

    one(10 * cycles)  # its clock rises for a while
    times = [(one(cycles), one(2 * cycles)) for _ in range(3)]
    return min(once for once, _ in times), min(twice for _, twice in times)


# --- the host


def examine_host(
    proc: Path = linux.PROC, cpus: Path = linux.CPUS, sleep: Callable[[float], None] = time.sleep
) -> list[Finding]:
    """Cores, threads, load, steal, governor, virtualisation, memory."""
    return [_cores(), _threads(), _load(proc), _steal(proc, sleep), _governor(cpus), _virtual(proc), _memory()]


def _cores(quota: float | None = None) -> Finding:
    usable, limit = len(host.usable_cores()), quota or linux.cpu_quota()
    if limit is not None and limit < usable:
        advice = "the kernel stops the process when its share is used up: give the container whole cores (a cpuset)."
        return _finding("cores", f"{usable}, but the time of {limit:g}", advice)
    return _finding("cores", f"{usable} of {os.cpu_count()}")


def _threads() -> Finding:
    threads, usable = torch.get_num_threads(), len(host.usable_cores())
    advice = f"more threads than cores wait for each other: --threads {usable}, or set OMP_NUM_THREADS."
    return _finding("threads", f"{threads} in torch", advice if threads > usable else "")


def _load(proc: Path) -> Finding:
    others = linux.runnable_others(proc)
    if others is None:
        return _finding("load", "unknown")
    found = f"beside this one, {others:g} {'thread wants' if others == 1 else 'threads want'} a core"
    cores, threads = os.cpu_count() or 1, torch.get_num_threads()
    if others + 1 > cores:
        advice = "they take turns with every measurement: end them, or wait until they have ended."
        return _finding("load", found, advice, "bad")
    advice = f"{threads} threads of a measurement wait for each other beside them: end them, or --threads 1."
    return _finding("load", found, advice if others + threads > cores else "")


def _steal(proc: Path, sleep: Callable[[float], None]) -> Finding:
    before = linux.ticks(proc)
    sleep(STEAL_SECONDS)
    passed = linux.shares(before, linux.ticks(proc))
    if passed is None:
        return _finding("steal", "unknown")
    found = f"{passed.steal:.1%} of the cores' time in the last {STEAL_SECONDS:g} s, {passed.idle:.0%} idle"
    advice = "the hypervisor gives these cores to others: compare only what was measured in one go, in turns."
    return _finding("steal", found, advice if passed.steal > STOLEN else "")


def _governor(cpus: Path) -> Finding:
    found = linux.governors(cpus)
    advice = "the clock follows the load: `sudo cpupower frequency-set --governor performance` keeps it up."
    names = ", ".join(sorted(found)) or "not to be seen from here"
    return _finding("governor", names, advice if found - {"performance"} else "")


def _virtual(proc: Path) -> Finding:
    virtual = linux.is_virtual(proc)
    if virtual:
        advice = "its neighbours are not to be seen: times of different hours differ more than models do."
        return _finding("machine", "virtual", advice)
    return _finding("machine", "unknown" if virtual is None else "not virtual")


def _memory() -> Finding:
    free = host.available_memory()
    advice = "larger models will end out of memory: close what is open, or take smaller batches."
    level: Level = "bad" if free < NO_MEMORY else "warn"
    return _finding("memory", f"{size(free)} available", advice if free < LITTLE_MEMORY else "", level)


# --- the GPU


def absent_gpu(device: str) -> Finding:
    """Why torch does not see the GPU that was asked for."""
    why = unseen.missing() if device_type(device) == "cuda" else "install a torch that has it, or use --device cpu"
    return _finding("GPU", f"torch does not see {device}", f"{why}.", "bad")


def examine_other(device: str) -> list[Finding]:
    """An Intel or Apple GPU: its name, and what is unknown of it."""
    name, memory = accelerator.name_and_memory(device)
    unknown = ["clocks", "throttling", "energy", "other programs on it", "the device's own clock"]
    unknown += ["peak memory"] if accelerator.memory(device) is None else []
    return [
        _finding("GPU", f"{name}, {size(memory)}" if memory else name),
        _finding("driver", "not asked", f"unknown stay: {', '.join(unknown)}."),
    ]


def overlooked_gpu() -> list[Finding]:
    """The GPU that this machine has and torch does not see, so that a CPU is not measured by mistake; [] for none."""
    names = () if torch.cuda.is_available() else unseen.cards()
    if not names:
        return []
    found = f"{', '.join(dict.fromkeys(names))} is here, and torch does not see it"
    return [_finding("GPU", found, f"{unseen.reason()}.")]


def examine_gpu(device: str, gpu: nvml.Gpu | None = None) -> list[Finding]:
    """The card, its kernels in torch, its driver, and the state that it is in."""
    name, capability = torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device)
    architectures = torch.cuda.get_arch_list()
    findings = [_finding("GPU", f"{name} (sm_{capability[0]}{capability[1]})")]
    if accelerator.is_amd():
        advice = "clocks, throttling, energy and other programs on it stay unknown: no such library is asked for AMD."
        return [*findings, _finding("driver", "not asked", advice)]
    if not has_kernels(capability, architectures):
        advice = missing_kernels(name, capability)
        findings.append(_finding("kernels", " ".join(architectures) or "none", advice, "bad"))
    with nvml.opened(device, gpu) as card:
        if card is None:
            advice = "clocks and throttling stay unknown: pip install nvidia-ml-py"
            return [*findings, _finding("driver", "does not answer", advice)]
        return [*findings, *(look(card, device) for look in LOOKS)]


def _driver(gpu: nvml.Gpu, _: str) -> Finding:
    """CUDA's rule: a driver runs programs built for its major version of CUDA and for older ones; within one major
    version an older driver lacks what came later ("CUDA Compatibility", minor version compatibility).
    """
    knows, needs = nvml.driver_cuda(gpu.library), unseen.numbers(torch.version.cuda)
    if knows is None:
        return _finding("driver", f"{gpu.driver}")
    found = f"{gpu.driver}, for CUDA {knows[0]}.{knows[1]}; torch is built for {torch.version.cuda}"
    if knows >= needs:
        return _finding("driver", found)
    remedy = "update the driver, or install torch for an older CUDA."
    if knows[0] < needs[0]:
        return _finding("driver", found, f"too old: {remedy}", "bad")
    return _finding("driver", found, f"most works, compiling may not: {remedy}")


def _company(gpu: nvml.Gpu, device: str) -> Finding:
    others = nvml.other_processes(gpu, device)
    found = f"others: {', '.join(map(str, others))}" if others else "none but this one"
    return _finding("GPU's processes", found, "wait for them, end them, or take another GPU." if others else "", "bad")


def _compute_mode(gpu: nvml.Gpu, _: str) -> Finding:
    mode = nvml.ask(gpu, "nvmlDeviceGetComputeMode")
    if mode in (nvml.EXCLUSIVE_THREAD, nvml.EXCLUSIVE_PROCESS, nvml.PROHIBITED):
        found = "prohibited" if mode == nvml.PROHIBITED else "exclusive"
        advice = "gate and effects need two processes on one card: `sudo nvidia-smi -c DEFAULT`."
        level: Level = "bad" if mode == nvml.PROHIBITED else "warn"
        return _finding("compute mode", found, advice, level)
    return _finding("compute mode", "unknown" if mode is None else "shared")


def examine_variables(device: str) -> list[Finding]:
    """The environment variables that change the device's numbers, one finding each."""
    return [
        _finding("variable", f"{name}={value}", f"{variables_of(device)[name]}: unset it.")
        for name, value in variables_that_count(device).items()
    ]


def _sharing(gpu: nvml.Gpu, _: str) -> Finding:
    mode = nvml.ask(gpu, "nvmlDeviceGetMigMode")
    if gpu.mig or (mode and mode[0]):
        advice = "a slice is no whole card, and its neighbours share clock and power: `sudo nvidia-smi -mig 0`."
        return _finding("MIG", "on", advice)
    return _finding("MIG", "off" if mode else "not on this card")


def _ecc(gpu: nvml.Gpu, _: str) -> Finding:
    mode = nvml.ask(gpu, "nvmlDeviceGetEccMode")
    found = "unknown" if mode is None else "on" if mode[0] else "off"
    advice = "takes memory and bandwidth on this card: compare only with cards where it is on, too."
    return _finding("ECC", found, advice if nvml.costly_ecc(gpu) else "")


def _persistence(gpu: nvml.Gpu, _: str) -> Finding:
    mode = nvml.ask(gpu, "nvmlDeviceGetPersistenceMode")
    if mode == 0:
        return _finding("persistence", "off", "the driver may start anew with every launch: `sudo nvidia-smi -pm 1`.")
    return _finding("persistence", "unknown" if mode is None else "on")


def _power(gpu: nvml.Gpu, _: str) -> Finding:
    limit, default = nvml.power_limits(gpu)
    if limit is None:
        return _finding("power limit", "unknown")
    if nvml.is_power_lowered(gpu):
        advice = f"below the card's own: `sudo nvidia-smi -pl {default:.0f}`, or say so beside the numbers."
        return _finding("power limit", f"{limit:.0f} of {default:.0f} W", advice)
    return _finding("power limit", f"{limit:.0f} W")


def _temperature(gpu: nvml.Gpu, _: str) -> Finding:
    now = nvml.temperature(gpu)
    limit = nvml.ask(gpu, "nvmlDeviceGetTemperatureThreshold", SLOWDOWN_TEMPERATURE)
    found = "unknown" if now is None else f"{now:.0f} degrees C"
    found += f", slows down at {limit}" if now is not None and limit else ""
    is_hot = now is not None and limit and now > limit - NEARLY_HOT
    return _finding("temperature", found, "too warm to begin: let it rest, see to its air." if is_hot else "")


def _clocks(gpu: nvml.Gpu, _: str) -> Finding:
    """Where the clock is and what holds it down now; a resting card's is low, and that is right."""
    now, most = nvml.sm_clock(gpu), nvml.ask(gpu, "nvmlDeviceGetMaxClockInfo", nvml.CLOCK_SM)
    found = "unknown" if now is None or most is None else f"{now / 1e6:.0f} of {most} MHz"
    mask = nvml.reasons(gpu) or 0
    causes = [cause.replace("_", " ") for cause, bit in nvml.REASONS if mask & bit and cause != "power_cap"]
    if causes:
        advice = "the card is in trouble before it has work: see to its air and its power supply."
        return _finding("clocks", f"{found}; held down now: {', '.join(causes)}", advice, "bad")
    if mask & APPLICATION_CLOCKS:
        advice = "the clocks are locked: `sudo nvidia-smi --reset-applications-clocks`, or say so."
        return _finding("clocks", f"{found}, set by hand", advice)
    return _finding("clocks", found)


def _throttle_counters(gpu: nvml.Gpu, _: str) -> Finding:
    sources = nvml.plan(gpu)
    counted = [cause for cause, _ in (*sources.fields, *sources.policies)]
    found = f"counted: {', '.join(counted) or 'nothing'}"
    if not nvml.tells_heat(sources):
        advice = "this driver does not tell whether it slows the card down: every number is flagged throttle_unknown."
        return _finding("throttling", "unknown", advice)
    polled = [cause for cause, _ in sources.bits]
    return _finding("throttling", found + (f"; polled: {', '.join(polled)}" if polled else ""))


def _link(gpu: nvml.Gpu, _: str) -> Finding:
    """The lanes; not the generation, which a resting card lowers to save power."""
    width, most = (nvml.ask(gpu, f"nvmlDeviceGet{which}PcieLinkWidth") for which in ("Curr", "Max"))
    generation = nvml.ask(gpu, "nvmlDeviceGetMaxPcieLinkGeneration")
    if width is None or most is None:
        return _finding("PCIe", "unknown")
    found = f"{width} of {most} lanes" + (f", generation {generation}" if generation else "")
    advice = "copies to the card are slower than they could be: another slot, or the card sits loose."
    return _finding("PCIe", found, advice if width < most else "")


LOOKS = (
    _driver, _company, _compute_mode, _sharing, _ecc, _persistence, _power, _temperature, _clocks, _throttle_counters,
    _link,
)  # fmt: skip
"""The checks of a card that answers, in the order of the output."""
