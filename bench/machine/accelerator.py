"""Accelerators beside NVIDIA's: what is the same for all, and what each of them lacks.

| | seen by | waits by | memory counters | device's clock | driver |
|---|---|---|---|---|---|
| NVIDIA | `torch.cuda` | `torch.cuda` | yes | events | NVML |
| AMD (ROCm) | `torch.cuda`, `torch.version.hip` | `torch.cuda` | yes | events | not asked |
| Intel (`xpu`) | `torch.xpu` | `torch.accelerator` | yes | none | not asked |
| Apple (`mps`) | `torch.backends.mps` | `torch.accelerator` | none | none | not asked |

What is lacking is a dash and never a guess: events of `xpu` and `mps` were not tried, so the wall clock alone times
them. All three are measured after a test that a synchronisation waits. It is unknown there whether the device slowed
itself down: a flag.
"""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch

OTHERS = ("xpu", "mps")
"""Kinds of device that are measured beside the CPU and torch's `cuda`."""


def is_amd() -> bool:
    """Whether torch's `cuda` devices are AMD's."""
    return getattr(torch.version, "hip", None) is not None


def other_here() -> str | None:
    """Of `OTHERS` the one that torch sees here."""
    return next((kind for kind in OTHERS if count(kind)), None)


def count(kind: str) -> int:
    """How many devices of that kind torch sees."""
    if kind == "mps":
        return int(torch.backends.mps.is_available())
    here: Any = getattr(torch, kind, None)
    return int(here.device_count()) if here is not None and here.is_available() else 0


def is_there(device: str) -> bool:
    """Whether torch sees that accelerator."""
    wanted = torch.device(device)
    return (wanted.index or 0) < count(wanted.type)


def name_and_memory(device: str) -> tuple[str, int | None]:
    """The name of an Intel or Apple GPU, and its bytes; for Apple what the system recommends as the most."""
    if torch.device(device).type == "xpu":
        properties = torch.xpu.get_device_properties(device)
        return str(properties.name), int(properties.total_memory)
    return f"{_chip()} GPU", int(torch.mps.recommended_max_memory())


def uuid(device: str) -> str:
    """The number of a CUDA device that is the same for every process; "" where torch does not say."""
    return str(getattr(torch.cuda.get_device_properties(device), "uuid", "")).removeprefix("GPU-")


def synchronizer(device: str) -> Callable[[], None]:
    """What waits until that device is done; nothing for a CPU, whose operators return when they are."""
    kind = torch.device(device).type
    if kind == "cuda":
        return partial(torch.cuda.synchronize, device)
    if kind in OTHERS:
        return partial(torch.accelerator.synchronize, torch.device(device))
    return lambda: None


def selected(device: str) -> AbstractContextManager[Any]:
    """That device as the current one of its kind, where there can be several."""
    several = memory(device)
    return nullcontext() if several is None else several.device(torch.device(device))


def generators(device: str) -> list[int]:
    """The numbers of the devices whose random state can be put back; Apple's is drawn from and left."""
    counted = memory(device)
    return [] if counted is None else [counted.current_device()]


def memory(device: str) -> Any:
    """The module that counts that device's memory (`torch.cuda`, `torch.xpu`); None where it is unknown."""
    kind = torch.device(device).type
    return getattr(torch, kind) if kind in ("cuda", "xpu") else None


def empty_cache(device: str) -> None:
    """Give the driver the memory that the allocator keeps unused: another process may need it."""
    kind = torch.device(device).type
    if kind == "cuda" or kind in OTHERS:
        getattr(torch, kind).empty_cache()


def _chip() -> str:
    """`Apple M2 Max`."""
    try:
        asked = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(asked, check=True, capture_output=True, text=True, timeout=3).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return f"Apple {platform.machine()}"
