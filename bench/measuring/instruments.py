"""What a launch measures with: the clocks, and whoever watches the machine meanwhile. A test brings its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from visionbench.machine import device_clock, telemetry
from visionbench.measuring.timing import DeviceClock, Now, Watch


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruments:
    """`now` reads the wall; `clock` is the device's own, `watch` looks at the machine around each block.

    `unhindered(step)` times single iterations that do not wait for the host, where that can be done; `surroundings` are
    flags on everything that is measured here (another process on the GPU).
    """

    now: Now = time.perf_counter
    clock: DeviceClock | None = None
    watch: Watch | None = None
    unhindered: Callable[[Callable[[], Any]], tuple[float, ...]] = lambda _step: ()
    surroundings: tuple[str, ...] = ()


@contextmanager
def instruments(device: str) -> Iterator[Instruments]:
    """The instruments of a real device, released at the end.

    To be taken up before the model is built: as long as this process holds nothing on the GPU, every process that
    does is somebody else's.
    """
    surroundings = telemetry.surroundings(device)
    watch = telemetry.Watch(device)
    try:
        yield Instruments(
            clock=device_clock.device_clock(device),
            watch=watch,
            unhindered=lambda step: device_clock.unhindered(step, device),
            surroundings=surroundings,
        )
    finally:
        watch.close()
