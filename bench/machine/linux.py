"""What only Linux says about the machine: ticks of its cores, who wants them, their governors. Unknown is None.

/proc/stat counts the time of *all* cores in ticks of 10 ms (USER_HZ): user, nice, system, idle, waiting for disks,
interrupts (two kinds), and "steal", the time in which a core of a virtual machine had work but the hypervisor ran
another machine. In a container it is the host's. They are read here and not by psutil, because whole ticks of one line
are what the shares below are defined by, and two readings surround every block.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

PROC, CPUS = Path("/proc"), Path("/sys/devices/system/cpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticks:
    """Time of all cores since the machine was started, in ticks."""

    total: int
    idle: int
    steal: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """Of all cores' time between two readings."""

    steal: float
    idle: float


def ticks(proc: Path = PROC) -> Ticks | None:
    """A reading of /proc/stat's first line; or None."""
    try:
        with (proc / "stat").open(encoding="ascii") as lines:
            numbers = [int(word) for word in lines.readline().split()[1:9]]
    except (OSError, ValueError):
        return None
    if len(numbers) < 8:  # Linux before 2.6.11
        return None
    return Ticks(total=sum(numbers), idle=numbers[3] + numbers[4], steal=numbers[7])


def shares(before: Ticks | None, after: Ticks | None) -> Shares | None:
    """What passed between two readings; None if not a tick did."""
    if before is None or after is None or after.total <= before.total:
        return None
    passed = after.total - before.total
    # The kernel takes idle and waiting time back at times (proc(5)): less than nothing is nothing.
    return Shares(
        steal=max(0, after.steal - before.steal) / passed, idle=min(1.0, max(0, after.idle - before.idle) / passed)
    )


def runnable_others(proc: Path = PROC, samples: int = 5) -> float | None:
    """How many threads beside this one want a core: the median of a few looks within 10 ms; None where unknown.

    Not the load average, which is a mean over a minute and would blame this program for its own last launch.
    """
    seen = []
    for _ in range(samples):
        try:
            running = (proc / "loadavg").read_text(encoding="ascii").split()[3]  # "runnable/all"
            seen.append(max(0, int(running.partition("/")[0]) - 1))
        except (OSError, IndexError, ValueError):
            return None
        time.sleep(0.002)
    return median(seen)


def governors(cpus: Path = CPUS) -> frozenset[str]:
    """The frequency governors of the cores; empty where none is to be seen (a virtual machine)."""
    found = set()
    for path in cpus.glob("cpu[0-9]*/cpufreq/scaling_governor"):
        try:
            found.add(path.read_text(encoding="ascii").strip())
        except OSError:  # a core that is switched off
            continue
    return frozenset(found)


def is_virtual(proc: Path = PROC) -> bool | None:
    """Whether the processor says that a hypervisor is under it (x86); None where it says nothing of the kind."""
    try:
        lines = (proc / "cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    found = next((line for line in lines if line.startswith("flags")), None)
    return None if found is None else "hypervisor" in found.split()


def cpu_quota(cgroup: Path = Path("/sys/fs/cgroup/cpu.max")) -> float | None:
    """Cores' worth of time that a container's limit allows (cgroup v2); None without a limit."""
    try:
        quota, period = cgroup.read_text(encoding="ascii").split()
        return int(quota) / int(period)
    except (OSError, ValueError):  # "max 100000" is no limit
        return None
