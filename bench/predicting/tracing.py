"""What predictions ask of the tracer: the step of a spec, and the same step at another batch size.

Calibrating reads a thousand rows at many batch sizes, and a model's operators do not depend on it but for the sizes of
tensors. So a model is traced once, at a batch that is a large prime: every dimension that this prime divides is the
batch, and is replaced by any other batch. (No network's own dimension is a multiple of 1009.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from visionbench.predicting.features import distinct, total
from visionbench.predicting.peaks import Peaks
from visionbench.record.errors import BenchError
from visionbench.record.spec import Spec
from visionbench.tracing import Trace, run
from visionbench.tracing.apart import guarded
from visionbench.tracing.call_cache import Operand, Operator

MARK = 1009


def traced(spec: Spec) -> Trace:
    """One step of `spec`, as the tracer sees it. Raises as `visionbench.tracing.run`."""
    return guarded(spec.model, run, spec)


def marked(spec: Spec) -> Trace:
    """The step of `spec` at a batch of `MARK`, for `columns_at`. Raises `BenchError` if it cannot be built or traced.

    A table holds names that this timm does not know (`models.ModelError`, a ValueError), and old ones that it knows and
    cannot build (RuntimeError).
    """
    try:
        return run(replace(spec, batch_size=MARK))
    except (ValueError, RuntimeError) as error:
        raise BenchError(f"{spec.model} cannot be built: {str(error).splitlines()[0]}.") from error


def columns_at(operators: Iterable[Operator], batch_size: int, peaks: Peaks, *, autocast: bool) -> dict[str, float]:
    """The features of a step at `batch_size` from the operators of one at `MARK`."""
    scaled: Counter[Operator] = Counter()
    for op, times in distinct(operators).items():
        scaled[at_batch(op, batch_size)] += times
    return total(scaled, peaks, autocast=autocast)


def at_batch(op: Operator, batch_size: int) -> Operator:
    """An operator of a trace at `MARK` as it would be at `batch_size`."""
    scaled = tuple(_at_batch(tensor, batch_size) for tensor in op.operands)
    return replace(
        op,
        operands=scaled,
        macs=op.macs * batch_size // MARK,
        activations=op.activations * batch_size // MARK,
        bytes=op.bytes * batch_size // MARK,
    )


def _at_batch(tensor: Operand, batch_size: int) -> Operand:
    shape, strides, itemsize = tensor
    return (tuple(n // MARK * batch_size if n % MARK == 0 else n for n in shape), strides, itemsize)
