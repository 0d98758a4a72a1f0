"""Is this machine fit to measure? Findings in plain words, each with what to do about it; nothing is changed.

Good news is told too, so that the page describes the machine. It ends with the one test that a table of facts cannot
replace: that a synchronisation waits. On some devices it did not, and the numbers were ten times too good.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from importlib import metadata

import torch

from visionbench.machine import doctor_cpu, doctor_gpu
from visionbench.machine.environment import cuda_is_there, device_type
from visionbench.machine.finding import Finding, Level

OLDEST = {"torch": (2, 6), "timm": (1, 0, 15)}
NEWEST_TRIED = {"torch": (2, 15), "timm": (1, 0)}

SPIN_CYCLES = 50_000_000
"""Of a GPU's clock: 25 ms at 2 GHz. Longer than any launch of a kernel, shorter than a driver's watchdog allows."""

SPIN_TOLERANCE = 0.25

SYMBOLS: dict[Level, str] = {"ok": "✓", "warn": "!", "bad": "✗"}


def examine(device: str) -> tuple[Finding, ...]:
    """All findings for measuring on `device`, in a second or two. Raises `BenchError` for a word that is no device."""
    findings = [software(name) for name in OLDEST]
    if device_type(device) == "cuda":
        there = cuda_is_there(device)
        findings += doctor_gpu.examine(device) if there else [doctor_gpu.absent(device)]
        findings += [*doctor_cpu.examine(), *([timing_self_test(device)] if there else [])]
    else:
        findings += [*doctor_cpu.examine(), timing_self_test(device)]
    return tuple(findings)


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
        return Finding(level="bad", what=name, found="not installed", advice=f"pip install {name}")
    numbers = tuple(int(part) for part in re.findall(r"\d+", found.partition("+")[0])[:3])
    tried = NEWEST_TRIED[name]
    if numbers < OLDEST[name]:
        oldest = ".".join(map(str, OLDEST[name]))
        return Finding(level="bad", what=name, found=found, advice=f"too old: install {name} {oldest} or later.")
    if numbers[: len(tried)] > tried:
        newest = ".".join(map(str, tried))
        return Finding(level="warn", what=name, found=found, advice=f"newer than {newest}, the newest that was tried.")
    return Finding(level="ok", what=name, found=found)


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
    if device_type(device) != "cuda":
        return Finding(level="ok", what=what, found="a CPU's operators return when they are done")
    enqueue, wait = spin or torch.cuda._sleep, synchronize or (lambda: torch.cuda.synchronize(device))
    with torch.cuda.device(device):
        once, twice = spin_seconds(enqueue, wait, now)
    found = f"one spin {once * 1e3:.1f} ms, a double one {twice * 1e3:.1f} ms"
    if abs(twice / once - 2) > 2 * SPIN_TOLERANCE:
        advice = "synchronising does not wait, or the clock jumps: no time on this device can be trusted."
        return Finding(level="bad", what=what, found=found, advice=advice)
    return Finding(level="ok", what=what, found=f"{found}: synchronising waits")


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
