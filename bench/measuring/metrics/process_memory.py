"""Process memory: what the operating system or the driver sees, beside the two counters of torch's allocator.

*On a CPU*: the most physical memory that the process has had, above what it had before the model was built: weights,
inputs, building, compiling and the iterations; also the code of libraries that is read when first used (tens of MB).
The source is the kernel's high-water mark (`VmHWM` in /proc/self/status), so no thread need sample, and a peak between
two samples cannot be missed. A high-water mark does not fall, so it is lowered to what is held now before the model is
built, which writing a 5 to /proc/self/clear_refs does (Linux 4.0, Documentation/filesystems/proc.rst). Where that is
not allowed, a mark that rises all the same is as good, and one that does not is no measurement: None. `ru_maxrss` will
not do: a fork starts it anew, but an exec does not, so a small process begins with the peak of the large one that
started it, and nothing lowers it. psutil has no high-water mark; both lines are read here, at one moment.

*On CUDA*: what the driver counts for this process on the device at the end (NVML): live and cached blocks, the context
and the libraries' kernels. It is no peak, but torch's allocator gives nothing back while it runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from visionbench.machine import nvml
from visionbench.record.metrics import measurement
from visionbench.record.record import Measurement

METRIC = "process_memory"

PROC = Path("/proc/self")

LOWER_THE_MARK = "5"

SLACK = 2**20
"""Bytes by which a lowered mark may exceed what is held: the kernel counts pages in batches, per core."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """A process at one moment, in bytes: what it holds, and its high-water mark."""

    held: int
    highest: int


def idle(proc: Path = PROC) -> Idle | None:
    """What the process holds now; its high-water mark is lowered to that where it may be. None where it is unknown."""
    with suppress(OSError):
        (proc / "clear_refs").write_text(LOWER_THE_MARK, encoding="ascii")
    return _status(proc)


def driver_bytes(device: str) -> int | None:
    """What NVIDIA's driver counts for this process on `device`; None without NVML, or where it cannot tell us apart."""
    with nvml.opened(device) as gpu:
        return of_process(gpu, os.getpid()) if gpu else None


def of_process(gpu: nvml.Gpu, process: int) -> int | None:
    """Bytes of `process`, which holds a context on that card, by the driver's list of all that do.

    In a container the driver knows it by the host's number, which it does not know itself; if it is alone there, the
    only entry is its own. None in company, and where the driver gives no bytes (a slice of a card may not).
    """
    listed = nvml.ask(gpu, "nvmlDeviceGetComputeRunningProcesses") or ()
    own = [entry for entry in listed if entry.pid == process] or (listed if len(listed) == 1 else ())
    return own[0].usedGpuMemory if own else None


def measure(
    device: str, before: Idle | None, *, proc: Path = PROC, ask_driver: Callable[[str], int | None] = driver_bytes
) -> tuple[Measurement, ...]:
    """One value in bytes; nothing where it is unknown. `before` is what `idle()` said before the model was built."""
    kind = torch.device(device).type
    size = ask_driver(device) if kind == "cuda" else _above(before, proc) if kind == "cpu" else None
    return () if size is None else (measurement(METRIC, (size,)),)


def _above(before: Idle | None, proc: Path) -> int | None:
    """The peak since `before`, above it."""
    after = _status(proc)
    if before is None or after is None:
        return None
    lowered = before.highest - before.held <= SLACK
    return after.highest - before.held if lowered or after.highest > before.highest else None


def _status(proc: Path) -> Idle | None:
    """Two lines of /proc/self/status, such as `VmHWM:   123 kB` (a kB is 1024 bytes there)."""
    try:
        lines = (proc / "status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None  # not Linux
    kilobytes = {words[0]: int(words[1]) for line in lines if (words := line.split())[2:] == ["kB"]}
    if "VmRSS:" not in kilobytes or "VmHWM:" not in kilobytes:
        return None
    return Idle(held=1024 * kilobytes["VmRSS:"], highest=1024 * kilobytes["VmHWM:"])
