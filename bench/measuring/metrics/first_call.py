"""First call: the seconds of a fresh process's first iteration, until the device is done with it.

It pays for what later iterations find ready: lazy initialisation of the device's libraries, autotuning of
convolutions, memory from the driver, compilation. So it is reported alone and never mixed with the others. Building the
model and its inputs is not in it.
"""

from __future__ import annotations

from visionbench.record import metrics
from visionbench.record.record import Measurement

METRIC = "first_call"


def measurement(seconds: float) -> Measurement:
    """One value: a process has one first call."""
    return metrics.measurement(METRIC, (seconds,))
