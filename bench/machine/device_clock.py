"""The device's own clock beside the host's: CUDA events around the work, on the stream that does it.

Two questions. *Does the wall clock measure the device?* Events around a block must agree with the wall time of that
block, or the synchronisation does not wait. *Who sets the pace?* Behind a kernel that only spins, the host enqueues
an iteration completely before the device may begin it; what the device then takes has no gaps in which it waits for
the host. If a normal iteration takes longer than that, the host is the bottleneck, and the number says more about
Python than about the GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any, Protocol

import torch

AGREEMENT = 0.02
"""How far wall clock and events may lie apart over a block."""

HOST_BOUND = 1.10
"""Wall time per iteration over the device's own above which the host sets the pace."""

SPIN_CYCLES = 100_000_000
"""About 50 ms at 2 GHz: longer than the host needs to enqueue an iteration of a thousand kernels at 10 us each."""

REPEATS = 5


class DeviceClock(Protocol):
    """Times a stretch of enqueued work on the device; `seconds` waits for its end and is None where there is no
    such clock.
    """

    def start(self) -> None:
        """The stretch begins with what is enqueued next."""

    def stop(self) -> None:
        """The stretch ends with what was enqueued last."""

    def seconds(self) -> float | None:
        """How long the device took, in seconds."""


class NoClock:
    """A CPU runs what it is told when it is told: the host's clock is the device's."""

    def start(self) -> None:
        """Nothing to note."""

    def stop(self) -> None:
        """Nothing to note."""

    def seconds(self) -> float | None:
        """No clock of its own."""
        return None


class CudaClock:
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

    def seconds(self) -> float | None:
        """Between the two moments, by the GPU's clock (resolution about half a microsecond)."""
        self._stop.synchronize()
        milliseconds: float = self._start.elapsed_time(self._stop)
        return milliseconds / 1e3


def device_clock(device: str) -> DeviceClock:
    """The clock of that device."""
    return CudaClock(device) if torch.device(device).type == "cuda" else NoClock()


def unhindered(step: Callable[[], Any], device: str) -> tuple[float, ...]:
    """Seconds of single iterations that the host had enqueued completely before the device began; () without CUDA."""
    if torch.device(device).type != "cuda":
        return ()
    clock = CudaClock(device)
    seconds = []
    for _ in range(REPEATS):
        torch.cuda.synchronize(device)
        torch.cuda._sleep(SPIN_CYCLES)
        clock.start()
        step()
        clock.stop()
        seconds.append(clock.seconds() or 0.0)
    return tuple(seconds)


def flags(
    wall: tuple[float, ...], events: tuple[float, ...], iterations: int, alone: tuple[float, ...]
) -> tuple[str, ...]:
    """`clocks_disagree` and `host_bound`, from block times (s) by both clocks and unhindered iterations (s)."""
    found = []
    if events and abs(median(w / e - 1 for w, e in zip(wall, events, strict=True) if e > 0)) > AGREEMENT:
        found.append("clocks_disagree")
    if alone and wall and median(wall) / iterations > HOST_BOUND * median(alone):
        found.append("host_bound")
    return tuple(found)
