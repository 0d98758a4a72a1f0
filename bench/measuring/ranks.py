"""One of several processes that train together: how it joins the others, their common clock, and what they agree on.

The contract is torchrun's: RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT are in the environment. Gradients
travel by gloo between CPUs and by NCCL between GPUs; what we say to each other travels by gloo always, because a wait
in NCCL keeps a core and a GPU busy, and would heat what another rank is timed on.

The common clock is what lets the loop of `timing` serve several processes: each reading is the latest of all ranks'
clocks, and no rank goes on before all have read. So a block begins when the last rank is ready and ends when the
slowest is done, and whatever is decided by the clock (another burst, the length of a block) every rank decides alike.
A reading takes a round of gloo, about half a millisecond here; a block has one of them in it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import TCPStore

from visionbench.machine import nvml
from visionbench.machine.telemetry import Weather
from visionbench.measuring.timing import Instruments, Watch
from visionbench.record.errors import BenchError


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """The group as one of its processes sees it: its number, how many there are, and the groups to speak by.

    `control` is gloo's; `gradients` is what DistributedDataParallel uses, by `backend`.
    """

    rank: int
    size: int
    control: Any
    gradients: Any
    backend: str

    def largest(self, value: float) -> float:
        """The largest of all ranks' values. Every rank must ask, and none goes on before all have."""
        agreed = torch.tensor([value], dtype=torch.float64)
        dist.all_reduce(agreed, op=dist.ReduceOp.MAX, group=self.control)
        return float(agreed)

    def now(self) -> float:
        """The common clock, in seconds: the latest of all ranks' readings. Ranks of one machine read one clock."""
        return self.largest(time.perf_counter())

    def any(self, holds: bool) -> bool:
        """Whether it holds on any rank."""
        return self.largest(float(holds)) > 0

    def instruments(self, own: Instruments) -> Instruments:
        """A rank's instruments with the common clock; a block that one rank discards all discard."""
        watch = None if own.watch is None else _SharedWatch(own.watch, self)
        return Instruments(now=self.now, watch=watch, surroundings=own.surroundings)

    def leave(self) -> None:
        """Take leave of the others, who must do so too."""
        dist.destroy_process_group()

    def equal(self, tensors: Iterator[torch.Tensor]) -> bool:
        """Whether every rank has the same bits in these tensors."""
        differ = False
        for tensor in tensors:
            first = tensor.detach().clone()
            dist.broadcast(first, src=0, group=self.gradients)
            differ |= not torch.equal(first, tensor.detach())
        return not self.any(differ)


class _SharedWatch:
    """A rank's watch, whose verdict on a block is that of all ranks: otherwise some would repeat it and some not."""

    def __init__(self, own: Watch, ranks: Ranks) -> None:
        self._own, self._ranks = own, ranks

    def before(self) -> None:
        """A block begins."""
        self._own.before()

    def after(self) -> Weather:
        """The rank's own weather, thrown away where any rank's is."""
        weather = self._own.after()
        if not self._ranks.any(weather.discard) or weather.discard:
            return weather
        return replace(weather, slowdowns=(weather.slowdowns or frozenset()) | {ELSEWHERE})

    def energy(self) -> float | None:
        """Joules of this rank's device."""
        return self._own.energy()


ELSEWHERE: nvml.Cause = "thermal"
"""The slowdown that a block is discarded for where another rank's GPU had it."""


def backend_of(kind: str) -> str:
    """What carries gradients between devices of that kind. Raises `BenchError` for a kind that has nothing."""
    if kind == "cpu":
        return "gloo"
    if kind == "cuda":
        return "nccl"
    raise BenchError(f"several processes train on CUDA GPUs or on the CPU, not on {kind}: leave --processes out.")


def nccl_version() -> str | None:
    """NCCL's version, `2.27.3`; None where torch has none."""
    try:
        version = torch.cuda.nccl.version()
    except (AttributeError, RuntimeError, ImportError):
        return None
    return ".".join(map(str, version)) if isinstance(version, tuple) else str(version)


LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"


def join(device: str, seconds: float, listener: int | None = None) -> Ranks:
    """Join the group that this process's environment names (torchrun's contract).

    A rank that does not come within `seconds` is an error of torch's. `listener` is rank 0's socket, which listens on
    MASTER_PORT already; without it rank 0 opens one. On one machine gloo keeps to the loopback interface unless
    GLOO_SOCKET_IFNAME says otherwise: the host's name need not resolve.
    """
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if os.environ.get("LOCAL_WORLD_SIZE", str(size)) == str(size):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", LOOPBACK)
    patience = timedelta(seconds=seconds)
    backend = backend_of(torch.device(device).type)
    if backend == "nccl":
        torch.cuda.set_device(device)  # or every rank would hold a context on the first GPU
    store = TCPStore(
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        size,
        is_master=rank == 0,
        timeout=patience,
        wait_for_workers=False,
        master_listen_fd=listener,
    )
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=patience)
    gradients = dist.group.WORLD
    control = gradients if backend == "gloo" else dist.new_group(backend="gloo", timeout=patience)
    return Ranks(rank=rank, size=size, control=control, gradients=gradients, backend=backend)


def device_of(device: str, rank: int) -> str:
    """The device of a rank: `cuda:2` and rank 1 make `cuda:3`; a CPU is everybody's."""
    first = torch.device(device)
    return device if first.type == "cpu" else f"{first.type}:{(first.index or 0) + rank}"
