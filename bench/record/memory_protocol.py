"""Protocols of training memory: what is in memory during a training step beside what its spec says.

Gradients that are zeroed and not freed, a moving average of the weights, the buckets of a distributed run: none of
them changes an operator, each is exact arithmetic on the same trace. So they are no fields of `Spec`, where they would
split what is one measurement, but a named protocol that reads a computed record.
"""

from __future__ import annotations

from dataclasses import dataclass

from visionbench.record.record import Record
from visionbench.record.spec import Attention, ImageSize, Precision, Spec

PEAK, PEAK_KEPT = "peak_memory_live", "peak_memory_kept_gradients"
"""Computed metrics: the peak of live tensors over a step whose gradients start as None, or are kept from the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryProtocol:
    """What is counted as training memory: AdamW always; the rest is said here.

    `kept_gradients`: zeroed and kept (`zero_grad(set_to_none=False)`, torch's default before 2.0), so that they are
    live during the forward pass. `ema`: a moving average of the model, one more copy of its parameters and buffers.
    `ddp`: buckets of `DistributedDataParallel`, one more copy of all gradients (its default until today,
    `gradient_as_bucket_view=False`).
    """

    name: str
    precision: Precision = "fp32"
    attention: Attention = "fused"
    kept_gradients: bool = False
    ema: bool = False
    ddp: bool = False

    def spec(self, model: str, image_size: ImageSize, batch_size: int) -> Spec:
        """Whose trace holds what this protocol counts."""
        return Spec(
            model=model,
            task="train",
            batch_size=batch_size,
            image_size=image_size,
            precision=self.precision,
            attention=self.attention,
        )

    def peak(self, counted: Record) -> float | None:
        """Bytes at the peak of one step, from the computed record of `spec`; None if it lacks a count.

        The copies live all the time, so they are added to the peak as they are.
        """
        parts = [counted.value(PEAK_KEPT if self.kept_gradients else PEAK)]
        parts += [counted.value("param_bytes"), counted.value("buffer_bytes")] if self.ema else []
        parts += [counted.value("param_bytes")] if self.ddp else []
        known = [part for part in parts if part is not None]
        return sum(known) if len(known) == len(parts) else None

    def __str__(self) -> str:
        """`fp32, math attention, AdamW, gradients kept`."""
        words = [self.precision, f"{self.attention} attention", "AdamW"]
        words += ["gradients kept between steps" if self.kept_gradients else "gradients freed between steps"]
        words += ["an EMA copy of the model"] if self.ema else []
        words += ["DDP buckets"] if self.ddp else []
        return ", ".join(words)


PAPER_2022 = MemoryProtocol(name="as in 2022", attention="math", kept_gradients=True)
"""As a program of 2022 trained: fp32, the N x N matrix of attention kept, `zero_grad()` of its torch."""

PAPER_2022_COPIES = MemoryProtocol(
    name="as in 2022 with EMA, DDP", attention="math", kept_gradients=True, ema=True, ddp=True
)
"""The same with what the isotropic recipes say they used: a model EMA, 8 GPUs."""

TODAY = MemoryProtocol(name="today", precision="amp_bf16")
"""As one would train it now: autocast to bf16, fused attention, gradients freed."""
