"""What the machine did while a block was timed, and what may be said about the number because of it.

A block's time is the work's time plus whatever the machine did meanwhile: a GPU that lowers its clock because it is
hot, a hypervisor that gives the core to another machine ("steal"), a neighbour's process. None of it can be seen in the
time itself, so it is read from the machine's own counters just outside the block: everything slow before the clock
starts and after it has stopped. Nothing is changed unless the user asks (`locked_clocks`). Unknown is None, and a flag
says so. The kernel counts in ticks of 10 ms, so the shares of one short block are coarse; flags use the sum over all.
"""

from __future__ import annotations

import math
import os
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from types import FrameType
from typing import Any

import torch

from visionbench.machine import environment, health, linux, nvml
from visionbench.record.errors import BenchError
from visionbench.record.metrics import measurement
from visionbench.record.record import Measurement

DISCARDED: frozenset[nvml.Cause] = frozenset({"thermal", "hw_slowdown", "power_brake"})
UNSTEADY_CLOCK = 0.01
"""The span of readings of the SM clock that is steady, as a share. A Hopper clock moves in steps of 0.8 %."""

UNSTEADY_SHARE = 0.05
"""The share of readings that may be outside of it: one turn of 800 says nothing of the others."""

LOST_TIME = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """What the machine did during one block. Unknown is None.

    `wall` and `cpu` are the block's seconds by the wall clock and by the process's CPU clock; `cpu` is None on a GPU,
    whose work is not the process's; so are `page_faults`. `steal` and `idle` are shares of all cores' time, `load` is
    the one-minute load average. `slowdowns` are the causes for which the GPU's slow-down counters moved; `sm_clock`
    (Hz), `temperature` (degrees Celsius) and `power` (W) are read at the block's end.
    """

    wall: float
    cpu: float | None
    steal: float | None
    idle: float | None
    involuntary_switches: int | None
    load: float | None
    slowdowns: frozenset[nvml.Cause] | None
    sm_clock: float | None
    temperature: float | None
    power: float | None
    page_faults: int | None = None

    @property
    def discard(self) -> bool:
        """Whether the block is worthless: the GPU was too hot, or its power supply failed.

        A power cap is no reason: it is the steady state of a big model.
        """
        return bool(self.slowdowns and self.slowdowns & DISCARDED)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Start:
    ticks: linux.Ticks | None
    slowdowns: nvml.Slowdowns | None
    usage: resource.struct_rusage
    cpu: float
    wall: float


class Watch:
    """The instruments, opened once per launch and read around every block."""

    def __init__(
        self,
        device: str,
        *,
        gpu: nvml.Gpu | None = None,
        proc: Path = linux.PROC,
        now: Callable[[], float] = time.perf_counter,
        cpu_now: Callable[[], float] = time.process_time,
    ) -> None:
        self._on_cpu = torch.device(device).type == "cpu"
        self._gpu = gpu or nvml.open_gpu(device)
        self._plan = nvml.plan(self._gpu) if self._gpu else None
        self._proc, self._now, self._cpu_now = proc, now, cpu_now
        self._start: _Start | None = None

    def before(self) -> None:
        """Read all; the clocks last. Call it right before the block's own clock starts."""
        self._start = _Start(
            ticks=linux.ticks(self._proc),
            slowdowns=self._slowdowns(),
            usage=resource.getrusage(resource.RUSAGE_SELF),
            cpu=self._cpu_now(),
            wall=self._now(),
        )

    def after(self) -> Weather:
        """Read all; the clocks first. Call it right after the block's own clock has stopped."""
        wall, cpu = self._now(), self._cpu_now()
        usage = resource.getrusage(resource.RUSAGE_SELF)
        gpu, start = self._gpu, self._start
        assert start is not None, "before() opens a block"
        clock = nvml.sm_clock(gpu) if gpu else None  # at once: an idle card lowers it
        shares = linux.shares(start.ticks, linux.ticks(self._proc))
        return Weather(
            wall=wall - start.wall,
            cpu=cpu - start.cpu if self._on_cpu else None,
            steal=shares.steal if shares else None,
            idle=shares.idle if shares else None,
            involuntary_switches=usage.ru_nivcsw - start.usage.ru_nivcsw,
            page_faults=usage.ru_minflt - start.usage.ru_minflt if self._on_cpu else None,
            load=os.getloadavg()[0],
            slowdowns=nvml.moved(start.slowdowns, self._slowdowns()),
            sm_clock=clock,
            temperature=nvml.temperature(gpu) if gpu else None,
            power=nvml.power(gpu) if gpu else None,
        )

    def energy(self) -> float | None:
        """Joules that the GPU has used since its driver was loaded; None where they are not counted."""
        return nvml.energy(self._gpu) if self._gpu else None

    def close(self) -> None:
        """Let the driver go. Closing twice is no mistake."""
        if self._gpu:
            nvml.close(self._gpu)
        self._gpu = None

    def _slowdowns(self) -> nvml.Slowdowns | None:
        return nvml.read(self._gpu, self._plan) if self._gpu and self._plan else None


def flags(weathers: Sequence[Weather], *, threads: int | None = None, cores: int | None = None) -> tuple[str, ...]:
    """What must be said beside a number whose blocks had these weathers, discarded blocks included.

    `throttled`: a block was slowed by heat or a failing supply; `power_capped`: by the power limit;
    `throttle_unknown`: a GPU that does not say; `clock_unsteady`: 95 % of the SM clocks at the blocks' ends span more
    than 1 %, and no power limit explains it (there a clock always moves); `noisy_env`: others took more than 5 % of
    what the block needed of the CPU. `threads` are those that worked (None: torch's number now), `cores` those that
    /proc/stat counts (None: the machine's).
    """
    if not weathers:
        return ()
    causes = frozenset[str]().union(*(weather.slowdowns or () for weather in weathers))
    on_gpu = any(weather.cpu is None for weather in weathers)
    capped = "power_cap" in causes
    clocks = [weather.sm_clock for weather in weathers if weather.sm_clock]
    told = {
        "throttled": any(weather.discard for weather in weathers),
        "power_capped": capped,
        "throttle_unknown": on_gpu and any(weather.slowdowns is None for weather in weathers),
        "clock_unsteady": not capped and _unsteady(clocks),
        "noisy_env": not on_gpu and _noisy(weathers, threads or torch.get_num_threads(), cores or os.cpu_count() or 1),
    }
    return tuple(flag for flag, holds in told.items() if holds)


def _unsteady(clocks: Sequence[float]) -> bool:
    """Whether the SM clock (Hz) moved: nearly all readings need a wider span than 1 %."""
    most = len(clocks) - math.floor(UNSTEADY_SHARE * len(clocks))
    ordered = sorted(clocks)
    narrowest = min((high - low for low, high in zip(ordered, ordered[most - 1 :], strict=False)), default=0.0)
    return narrowest > UNSTEADY_CLOCK * median(clocks or [0.0])


def _noisy(weathers: Sequence[Weather], threads: int, cores: int) -> bool:
    """Whether others took more than `LOST_TIME` of the CPU time that our threads needed.

    One thread: what the wall clock has over the CPU clock was waiting. Several threads: the CPU clock adds up threads
    that may have waited for each other, so the ratio says nothing; but threads and others, each with what they used of
    the cores, cannot have had more than the cores there are. Steal, with any number of threads: a hypervisor can only
    take a core that has work, so at the worst all that it took was ours.
    """
    wall, cpu = sum(weather.wall for weather in weathers), sum(weather.cpu or 0.0 for weather in weathers)
    if threads == 1 and wall > (1 + LOST_TIME) * cpu:
        return True
    known = [(w.steal, w.idle, w.wall) for w in weathers if w.steal is not None and w.idle is not None]
    span = sum(seconds for _, _, seconds in known)
    if span <= 0:
        return False
    stolen = cores * sum(steal * seconds for steal, _, seconds in known) / span
    idle = cores * sum(share * seconds for _, share, seconds in known) / span
    others = cores - idle - stolen - cpu / wall
    competing = threads > 1 and others > LOST_TIME * threads and threads + others > cores
    return stolen > LOST_TIME * threads or competing


MEASURED = (
    "cpu_time",
    "steal",
    "idle",
    "involuntary_switches",
    "page_faults",
    "load",
    "sm_clock",
    "temperature",
    "power",
)
"""Metrics that a record has of the weather: they are called as its fields, but for `cpu`."""


def measurements(weathers: Sequence[Weather], *, iterations: int = 1) -> tuple[Measurement, ...]:
    """The raw values, one per block, of all that is known of every block; `iterations` is a block's length."""
    measured = []
    for metric in MEASURED:
        values = [getattr(weather, "cpu" if metric == "cpu_time" else metric) for weather in weathers]
        known = tuple(value for value in values if value is not None)
        if known and len(known) == len(values):  # a gap would move the later values to the wrong blocks
            spans = iterations if metric in ("cpu_time", "page_faults") else 1  # the others are no sums over steps
            measured.append(measurement(metric, known, iterations=spans))
    return tuple(measured)


def surroundings(
    device: str,
    *,
    threads: int | None = None,
    gpu: nvml.Gpu | None = None,
    proc: Path = linux.PROC,
    cpus: Path = linux.CPUS,
) -> tuple[str, ...]:
    """What about the machine must be said beside any number, read before timing: as flags.

    Best called before the process holds a context on the GPU: in a container the driver lists this process by a number
    that it does not know as its own.
    """
    doubts = {"variables_set": bool(environment.variables_that_count(device))}
    if torch.device(device).type == "cpu":
        others, wanted = linux.runnable_others(proc), threads or torch.get_num_threads()
        doubts |= {
            "busy_machine": others is not None and others + wanted > (os.cpu_count() or 1),
            "powersave_governor": "powersave" in linux.governors(cpus),
        }
    with nvml.opened(device, gpu) as card:
        if card is not None:
            state = health.read(card)
            doubts |= {
                "other_gpu_processes": bool(nvml.other_processes(card, device)),
                "mig": card.mig,
                "ecc": nvml.costly_ecc(card),
                "persistence_off": nvml.ask(card, "nvmlDeviceGetPersistenceMode") == 0,
                "power_limit_lowered": nvml.is_power_lowered(card),
                "pcie_degraded": health.lacks_lanes(state),
                "rows_remapped": bool(state.rows_remapped),
            }
    return tuple(flag for flag, holds in doubts.items() if holds)


@contextmanager
def locked_clocks(device: str, library: Any = None) -> Iterator[None]:
    """Hold the GPU's graphics clock meanwhile; only when the user asks for it.

    It is released on any way out but SIGKILL. The driver does not say whether it was locked before: such a lock
    is gone afterwards. Raises `BenchError` where there is no card or no right to do it.
    """
    gpu = nvml.open_gpu(device, library)
    if gpu is None:
        raise BenchError(f"--lock-clocks found no NVIDIA card behind '{device}': leave it out, or install its driver.")
    try:
        with _ended_by_signals():
            nvml.lock_base_clock(gpu)
            try:
                yield
            finally:
                nvml.unlock_clock(gpu)
    finally:
        nvml.close(gpu)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind the stack, where by default they would end the process with the clock locked."""

    def leave(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    may = threading.current_thread() is threading.main_thread()  # only it sets handlers
    caught = [s for s in (signal.SIGTERM, signal.SIGHUP) if may and signal.getsignal(s) is signal.SIG_DFL]
    for number in caught:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number in caught:
            signal.signal(number, signal.SIG_DFL)
