"""The optimizer of a training step: AdamW at torch's defaults, as it is timed and as it is counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

ASKS = ("_accelerator_graph_capture_health_check", "_cuda_graph_capture_health_check")
"""What an optimizer of torch calls first in a step, in 2.14 and before."""


def adamw(parameters: Sequence[torch.nn.Parameter], **options: Any) -> torch.optim.AdamW:
    """AdamW over `parameters`. Where none of them is on a GPU, its steps ask none whether a graph is being captured.

    From 2.14 on torch asks the current stream of the accelerator that is here, also for parameters on the CPU or on the
    meta device. To ask may make a context: half a gigabyte of the card for a process that only counts, which its
    launches would take for another program's, and which a card for one process would refuse to them.
    """
    optimizer = torch.optim.AdamW(parameters, **options)
    if all(parameter.device.type in ("cpu", "meta") for parameter in parameters):
        for name in ASKS:
            setattr(optimizer, name, _nothing)
    return optimizer


def _nothing() -> None:
    """No graph is captured without a GPU."""
