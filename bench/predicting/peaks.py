"""What a device could do at best, in the few figures that a time model divides by."""

from __future__ import annotations

from dataclasses import dataclass

from visionbench.record.devices import DeviceSpec
from visionbench.record.errors import BenchError


@dataclass(frozen=True, slots=True, kw_only=True)
class Peaks:
    """FLOP/s of matrix products on 2-byte and on 4-byte operands and of everything else, bytes/s, bytes of L2 cache.

    4-byte products run on the tensor cores under TF32 and on the ordinary cores without.
    """

    half: float
    single: float
    scalar: float
    bandwidth: float
    l2: float


def peaks_of(device: DeviceSpec, precision: str) -> Peaks:
    """The peaks that a spec of that precision meets on a device. Raises `BenchError` where the device lacks it."""
    peak = device.peak(precision)
    if peak is None:
        raise BenchError(f"a {device.key} has no {precision}: choose another --precision.")
    two_bytes = precision not in ("fp32", "tf32")
    return Peaks(
        half=peak if two_bytes else device.fp16,
        single=peak if precision == "tf32" else device.fp32,
        scalar=device.fp32,
        bandwidth=device.bandwidth,
        l2=device.l2,
    )
