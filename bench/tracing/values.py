"""What a forward pass reads from its tensors (`.item()`, `if x.sum() > 0:`) where there are no values to read.

On a GPU each such reading stops the host until the device has caught up, so it is counted. What is read is zero; the
counts are then those of the path that zeros take.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

_MOST = 1000


@dataclass(slots=True)
class Readings:
    """How many values have been read so far."""

    count: int = 0


@contextmanager
def values_as_zero() -> Iterator[Readings]:
    """For the time of the `with` block a meta tensor's value is zero; yields how many were asked for.

    A loop that waits for another value than zero would wait forever: after a thousand readings RuntimeError is raised.
    """
    readings = Readings()

    def read(tensor: torch.Tensor) -> bool | int | float:
        readings.count += 1
        if readings.count > _MOST:
            raise RuntimeError(f"more than {_MOST} values were read, and meta tensors have no data")
        if tensor.dtype == torch.bool:
            return False
        return 0.0 if tensor.is_floating_point() else 0

    library = torch.library.Library("aten", "IMPL")
    try:
        library.impl("_local_scalar_dense", read, "AutogradMeta")  # above autograd, as in `overrides`
        yield readings
    finally:
        library._destroy()
