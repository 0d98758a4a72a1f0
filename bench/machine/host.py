"""What any operating system says about the machine, by psutil, and a batch system about the job that this process is
part of; what only Linux says is in `linux`. No torch here.

psutil is imported by the function that asks it: a paired run's parent asks for the cores alone.
"""

from __future__ import annotations

import os
from contextlib import suppress


def usable_cores() -> tuple[int, ...]:
    """The cores that this process may run on, by number; a container often has fewer than the machine.

    Where processes are not bound to cores (macOS) all there are.
    """
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def can_bind() -> bool:
    """Whether a process can be bound to cores here."""
    return hasattr(os, "sched_setaffinity")


def available_memory() -> int:
    """Bytes that a new program could use without swapping."""
    import psutil

    available: int = psutil.virtual_memory().available
    return available


def data_memory() -> int | None:
    """Bytes that this process has asked for already, as RLIMIT_DATA counts them; None where it is not counted
    (macOS).
    """
    import psutil

    return getattr(psutil.Process().memory_info(), "data", None)


def lineage() -> frozenset[int]:
    """PIDs of this process and of those that it descends from: its launcher, the sweep."""
    import psutil

    parents: list[psutil.Process] = []
    with suppress(psutil.Error):  # processes of others may be hidden
        parents = psutil.Process().parents()
    return frozenset({os.getpid(), *(process.pid for process in parents)})


def node() -> str | None:
    """The node's name; None outside of a batch system. VISIONBENCH_NODE names it for Slurm, or in its place."""
    return os.environ.get("VISIONBENCH_NODE") or os.environ.get("SLURMD_NODENAME") or None


def job() -> str | None:
    """The job's number in Slurm, or the name that VISIONBENCH_JOB gives it in another batch system."""
    return os.environ.get("SLURM_JOB_ID") or os.environ.get("VISIONBENCH_JOB") or None


def restarts() -> int | None:
    """How often the job had begun before this time; Slurm says nothing the first time."""
    count = os.environ.get("SLURM_RESTART_COUNT", "0")
    return int(count) if os.environ.get("SLURM_JOB_ID") and count.isdecimal() else None


def has_whole_node() -> bool | None:
    """Whether the job was given all cores of its node."""
    cores = os.environ.get("SLURM_CPUS_ON_NODE", "")
    return int(cores) >= (os.cpu_count() or 1) if job() and cores.isdecimal() else None
