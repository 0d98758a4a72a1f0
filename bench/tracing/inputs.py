"""What a network is called with in a trace: tensors that have a shape and no values."""

from __future__ import annotations

import torch

from visionbench.models.inputs import Arguments, Maker, arguments
from visionbench.record.inputs import INTEGERS
from visionbench.record.spec import Spec

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
"""What `float` is in a precision, and what `amp_` and a precision cast to; elsewhere it is fp32."""


def inputs_on(spec: Spec, device: str = "meta") -> Arguments:
    """The inputs of one step of `spec`; with values, floats are all zero and integers the lowest of their range.

    Raises `ModelError` for a user's function that fails.
    """
    plain = DTYPES.get(spec.precision, torch.float32)

    def draw(shape: tuple[int, ...], dtype: str, low: int, _high: int) -> torch.Tensor:
        kind = plain if dtype == "float" else getattr(torch, dtype)
        if device == "meta":
            return laid_out(torch.empty(shape, dtype=kind, device=device))
        return laid_out(torch.full(shape, low if dtype in INTEGERS else 0, dtype=kind, device=device))

    def place(tensor: torch.Tensor) -> torch.Tensor:
        kind = plain if tensor.dtype == torch.float32 else tensor.dtype
        return laid_out(tensor.detach().to(device=device, dtype=kind))

    def laid_out(tensor: torch.Tensor) -> torch.Tensor:
        channels_last = spec.memory_format == "channels_last" and tensor.dim() == 4
        return tensor.to(memory_format=torch.channels_last) if channels_last else tensor

    maker = Maker(draw=draw, place=place, born=device)
    return arguments(spec.model, spec.described, spec.batch_size, spec.image_size, maker)
