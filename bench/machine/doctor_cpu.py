"""Is the host fit to measure? Its cores, who else wants them, and what its clock does. Nothing is changed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import torch

from visionbench.machine import linux
from visionbench.machine.finding import Finding, Level
from visionbench.record.units import GIB, size

STOLEN = 0.01
LITTLE_MEMORY, NO_MEMORY = 4 * GIB, 1 * GIB


def examine(
    proc: Path = linux.PROC, cpus: Path = linux.CPUS, sleep: Callable[[float], None] = time.sleep
) -> list[Finding]:
    """Cores, threads, load, steal, governor, virtualisation, memory."""
    return [_cores(), _threads(), _load(proc), _steal(proc, sleep), _governor(cpus), _virtual(proc), _memory(proc)]


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cores(quota: float | None = None) -> Finding:
    usable, limit = usable_cores(), quota or linux.cpu_quota()
    if limit is not None and limit < usable:
        advice = "the kernel stops the process when its share is used up: give the container whole cores (a cpuset)."
        return Finding(level="warn", what="cores", found=f"{usable}, but the time of {limit:g}", advice=advice)
    return Finding(level="ok", what="cores", found=f"{usable} of {os.cpu_count()}")


def _threads() -> Finding:
    threads, usable = torch.get_num_threads(), usable_cores()
    found = f"{threads} in torch"
    if threads > usable:
        advice = f"more threads than cores wait for each other: --threads {usable}, or set OMP_NUM_THREADS."
        return Finding(level="warn", what="threads", found=found, advice=advice)
    return Finding(level="ok", what="threads", found=found)


def _load(proc: Path) -> Finding:
    others = linux.runnable_others(proc)
    if others is None:
        return Finding(level="ok", what="load", found="unknown")
    found = f"beside this one, {others:g} {'thread wants' if others == 1 else 'threads want'} a core"
    if others + 1 > (os.cpu_count() or 1):
        advice = "they take turns with the measurement: end them, or trust CPU time and not wall time."
        return Finding(level="warn", what="load", found=found, advice=advice)
    return Finding(level="ok", what="load", found=found)


def _steal(proc: Path, sleep: Callable[[float], None]) -> Finding:
    before = linux.ticks(proc)
    sleep(1.0)
    passed = linux.shares(before, linux.ticks(proc))
    if passed is None:
        return Finding(level="ok", what="steal", found="unknown")
    found = f"{passed.steal:.1%} of the cores' time in the last second, {passed.idle:.0%} idle"
    if passed.steal > STOLEN:
        advice = "the hypervisor gives these cores to others: compare only what was measured in one go, in turns."
        return Finding(level="warn", what="steal", found=found, advice=advice)
    return Finding(level="ok", what="steal", found=found)


def _governor(cpus: Path) -> Finding:
    found = linux.governors(cpus)
    if not found:
        return Finding(level="ok", what="governor", found="not to be seen from here")
    names = ", ".join(sorted(found))
    if found == {"performance"}:
        return Finding(level="ok", what="governor", found=names)
    advice = "the clock follows the load: `sudo cpupower frequency-set --governor performance` keeps it up."
    return Finding(level="warn", what="governor", found=names, advice=advice)


def _virtual(proc: Path) -> Finding:
    virtual = linux.is_virtual(proc)
    if virtual:
        advice = "its neighbours are not to be seen: times of different hours differ more than models do."
        return Finding(level="warn", what="machine", found="virtual", advice=advice)
    return Finding(level="ok", what="machine", found="unknown" if virtual is None else "not virtual")


def _memory(proc: Path) -> Finding:
    free = linux.available_memory(proc)
    if free is None:
        return Finding(level="ok", what="memory", found="unknown")
    level: Level = "bad" if free < NO_MEMORY else "warn" if free < LITTLE_MEMORY else "ok"
    advice = (
        "" if level == "ok" else "larger models will end out of memory: close what is open, or take smaller batches."
    )
    return Finding(level=level, what="memory", found=f"{size(free)} available", advice=advice)
