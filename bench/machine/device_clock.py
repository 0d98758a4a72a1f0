"""The device's own clock beside the host's: CUDA events around the work, on the stream that does it.

Two questions. *Does the wall clock measure the device?* Events around a block must agree with the wall time of that
block, or the synchronisation does not wait. *Who sets the pace?* From an idle device, the host's seconds to enqueue one
iteration are compared with the seconds until it is done. Where they are nearly the same, the device was always waiting
for the host, and the number says more about Python than about the GPU. Both are of one and the same iteration, so a
clock that rises or falls cannot feign it; a virtual host whose Python slows down for seconds can. So what the device
alone needs is timed, too, behind a kernel that only spins: an iteration is enqueued completely before the device may
begin it. Only where a block's iterations take longer than that did the host cost anything.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

AGREEMENT = 0.02
"""How far wall clock and events may differ over a block."""

HOST_BOUND = 0.90
"""The share of an iteration that the host needs to enqueue it, from which on it may set the pace."""

HINDERED = 0.05
"""What a block's iteration takes over one that did not wait for the host, from which on it does."""

SPIN_CYCLES = 100_000_000
"""About 50 ms at 2 GHz: longer than the host needs to enqueue an iteration of a thousand kernels at 10 us each.

CUDA's queue holds about as many; an iteration that was not enqueued when the spin ended is not taken."""

REPEATS = 5


class DeviceClock:
    """Times a stretch of enqueued work on the device. This one is a CPU's, which runs each call at once: it has none
    beside the host's.
    """

    def start(self) -> None:
        """The stretch begins with what is enqueued next."""

    def stop(self) -> None:
        """The stretch ends with what was enqueued last."""

    def seconds(self) -> float | None:
        """How long the device took, in seconds, when it is done; None where there is no such clock."""
        return None


class CudaClock(DeviceClock):
    """CUDA events, made once: making them inside a timed span costs."""

    def __init__(self, device: str) -> None:
        self._stream = torch.cuda.current_stream(torch.device(device))
        self._start, self._stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def start(self) -> None:
        """Note the moment when the stream gets here."""
        self._start.record(self._stream)

    def stop(self) -> None:
        """Note the moment when the stream gets here."""
        self._stop.record(self._stream)

    def has_started(self) -> bool:
        """Whether the stream has got to the first moment by now."""
        return bool(self._start.query())

    def seconds(self) -> float | None:
        """Between the two moments, by the GPU's clock (resolution about half a microsecond)."""
        self._stop.synchronize()
        milliseconds: float = self._start.elapsed_time(self._stop)
        return milliseconds / 1e3


def device_clock(device: str) -> DeviceClock:
    """The clock of that device."""
    return CudaClock(device) if torch.device(device).type == "cuda" else DeviceClock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Lone:
    """Single iterations, each begun on an idle device; seconds, and () without CUDA.

    `enqueue` is until the host had enqueued one, `done` until the device had done the same one. `unhindered` are the
    device's own seconds of others that were enqueued completely before it began; fewer, or (), where the queue is too
    short for that.
    """

    enqueue: tuple[float, ...] = ()
    done: tuple[float, ...] = ()
    unhindered: tuple[float, ...] = ()


def lone(
    step: Callable[[], Any], device: str, now: Callable[[], float] = time.perf_counter, repeats: int = REPEATS
) -> Lone:
    """Time `repeats` single iterations in the open, and as many behind a spinning kernel."""
    if torch.device(device).type != "cuda":
        return Lone()
    clock = CudaClock(device)
    enqueue, done, alone = [], [], []
    for _ in range(repeats):
        torch.cuda.synchronize(device)
        start = now()
        step()
        enqueue.append(now() - start)
        torch.cuda.synchronize(device)
        done.append(now() - start)
    for _ in range(repeats):
        torch.cuda._sleep(SPIN_CYCLES)
        clock.start()
        step()
        spinning = not clock.has_started()
        clock.stop()
        seconds = clock.seconds()
        if spinning and seconds is not None:
            alone.append(seconds)
    return Lone(enqueue=tuple(enqueue), done=tuple(done), unhindered=tuple(alone))


def flags(
    wall: Sequence[float], events: Sequence[float], alone: Lone, *, iterations: int, slowed: bool = False
) -> tuple[str, ...]:
    """`clocks_disagree`, `host_bound` and `stalled`, from times (s) of blocks of `iterations` by both clocks, and lone
    ones.

    It takes two signs to say `host_bound`, as far as they are known: a host that was busy for nearly all of a lone
    iteration, and an iteration that takes longer in a block than unhindered. A host that was slow for a moment shows
    the first alone. The second alone is `stalled`, unless the device itself was `slowed` (by its power limit, its
    clock): then neither had to wait.
    """
    doubts = []
    if events and abs(median(w / e - 1 for w, e in zip(wall, events, strict=True) if e > 0)) > AGREEMENT:
        doubts.append("clocks_disagree")
    shares = [enqueue / done for enqueue, done in zip(alone.enqueue, alone.done, strict=True) if done > 0]
    busy = bool(shares) and median(shares) > HOST_BOUND
    known = bool(wall and alone.unhindered)
    hindered = known and median(wall) / iterations > (1 + HINDERED) * median(alone.unhindered)
    if busy and (hindered or not known):
        doubts.append("host_bound")
    elif hindered and not slowed:
        doubts.append("stalled")
    return tuple(doubts)
