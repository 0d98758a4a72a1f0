"""Energy: the joules of a GPU over seconds of back-to-back iterations, by the driver's own counter.

The counter (`nvmlDeviceGetTotalEnergyConsumption`, the whole board, since Volta) advances in steps about 0.1 s apart,
so each end of a window is read up to one step late. The two delays are alike, so they do not bias the difference; over
a window of 5 s they leave a standard deviation of 0.1 s x sqrt(1/6) / 5 s = 0.8 % and at most 2 % (Zeus, which reads
the same counter, calls 1 s too short and shows 5 s as stable: ml.energy, "Thermally Stable Profiling for Accurate GPU
Energy Measurement"). On A100 and H100 the sensor behind it looks at a quarter of the time only (arXiv:2312.02741,
"Part-time Power Measurements"): fair to a steady load, which this is, and not to single kernels.

What the card draws while it waits is not the model's doing. It is measured after the window, with this process's memory
and context still there, and stored beside; it is subtracted, if at all, when a record is read. Without a counter (an
older card, a slice of a card, a CPU) there is no number.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from visionbench.machine.telemetry import flags
from visionbench.measuring.metrics.throughput import NAN_OUTPUT
from visionbench.measuring.timing import Instruments, Now, Steps, WarmUp, Watch
from visionbench.record.metrics import measurement
from visionbench.record.record import Measurement
from visionbench.record.spec import Protocol

METRIC = "energy"
SECONDS = "energy_seconds"
"""How long the window lasted: what the idle card would have taken meanwhile is this times its power."""

IDLE_POWER = "idle_power"

WINDOW_SECONDS = 5.0
BURST_SECONDS = 0.25
"""Between two synchronisations of the window, roughly: the GPU then idles for less than a thousandth of it."""

SETTLE_SECONDS, IDLE_SECONDS = 1.0, 2.0
"""The clock and the sensor's own mean take about a second to come down; then the card is watched doing nothing."""


def measure(
    workload: Steps, _protocol: Protocol, warm: WarmUp, tools: Instruments, sleep: Callable[[float], None] = time.sleep
) -> tuple[Measurement, ...]:
    """Joules of one window (`iterations` steps) and, where it can be had, the idle card's watts; () without a counter,
    and where it did not move or went backwards (a driver was reloaded).

    The protocol has no say in it: the window's length is the counter's affair.
    """
    watch, now = tools.watch, tools.now
    if watch is None or watch.energy() is None:
        return ()
    watch.before()
    before, start = watch.energy(), now()
    iterations, burst, elapsed = 0, 1, 0.0
    while elapsed < WINDOW_SECONDS:
        for _ in range(burst):
            workload.step()
        workload.synchronize()
        iterations += burst
        passed = now() - start
        spent, elapsed = passed - elapsed, passed
        burst = 2 * burst if spent < BURST_SECONDS else burst
    after, weather = watch.energy(), watch.after()
    if before is None or after is None or after <= before:
        return ()
    doubts = (*(() if warm.finite else (NAN_OUTPUT,)), *flags([weather]), *tools.surroundings)
    joules = measurement(
        METRIC,
        (after - before,),
        iterations=iterations,
        warmups=warm.iterations,
        flags=tuple(dict.fromkeys(doubts)),
    )
    lasted = measurement(SECONDS, (elapsed,), iterations=iterations)
    watts = _idle_power(watch, now, sleep)
    return (joules, lasted) if watts is None else (joules, lasted, measurement(IDLE_POWER, (watts,)))


def _idle_power(watch: Watch, now: Now, sleep: Callable[[float], None]) -> float | None:
    sleep(SETTLE_SECONDS)
    before, start = watch.energy(), now()
    sleep(IDLE_SECONDS)
    after, seconds = watch.energy(), now() - start
    if before is None or after is None or after <= before or seconds <= 0:
        return None
    return (after - before) / seconds
