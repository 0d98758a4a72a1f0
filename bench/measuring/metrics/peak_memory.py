"""Peak memory of the timed iterations on a CUDA device, by the two counters of torch's allocator.

*Allocated* is what live tensors held at the worst moment; *reserved* is what the allocator had taken from the driver to
serve them, so it depends on fragmentation and on what ran before. Neither holds the driver's context and the libraries'
code (some hundred MB), which belong to process memory, a third number. The workspaces that cuDNN's autotuning tries
once are not the model's need: after the warm-up the allocator gives back what it keeps, one step takes what it needs,
the counters start from there, and one more step is counted. On a CPU torch counts nothing, so there is no number.
"""

from __future__ import annotations

from visionbench.machine import accelerator
from visionbench.measuring.timing import Steps
from visionbench.record.metrics import measurement
from visionbench.record.record import Measurement

ALLOCATED = "peak_memory_allocated"
RESERVED = "peak_memory_reserved"


def reset(device: str, workload: Steps) -> None:
    """Start counting anew, from what one step takes of an allocator that keeps nothing; and count one step.

    The warm-up's first step made the optimizer's state, so both have gradients and state at once.
    """
    counters = accelerator.memory(device)
    if counters is not None:
        workload.synchronize()
        accelerator.empty_cache(device)
        workload.step()
        workload.synchronize()
        counters.reset_peak_memory_stats(device)
        workload.step()
        workload.synchronize()


def measure(device: str) -> tuple[Measurement, ...]:
    """Both counters in bytes since `reset`; nothing on a device whose memory torch does not count."""
    counters = accelerator.memory(device)
    if counters is None:
        return ()
    return (
        measurement(ALLOCATED, (counters.max_memory_allocated(device),)),
        measurement(RESERVED, (counters.max_memory_reserved(device),)),
    )
