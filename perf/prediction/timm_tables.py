"""timm's published result tables: CSV files that the user has, named by how they were measured.

`benchmark-infer-amp-nhwc-pt240-cu124-rtx4090-dynamo.csv`: task, precision (timm's `amp` is fp16), memory format,
torch, CUDA, device, compiled or not. A row is a model (`name.weights`), its input size and batch (the largest that
fitted), and img/s (https://github.com/huggingface/pytorch-image-models, results/, Apache-2.0). The tables are older
than the installed timm: a row counts only if the model of that name still has the row's parameters and
multiply-accumulates.
"""

from __future__ import annotations

import csv
import gc
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from visionbench.predicting.calibrate import fit_calibration
from visionbench.predicting.calibration import Calibration
from visionbench.predicting.features import Peaks, peaks_of
from visionbench.predicting.samples import MARK, Progress, Sample, Skipped, columns_at, marked, silent
from visionbench.record.devices import DEVICES, DeviceSpec
from visionbench.record.errors import BenchError
from visionbench.record.spec import MemoryFormat, Spec, Task
from visionbench.tracing import Trace
from visionbench.tracing.call_cache import Operator

_NAME = re.compile(
    r"benchmark-(?P<task>infer|train)-amp-(?P<layout>nchw|nhwc)-pt(?P<torch>\d+)-cu(?P<cuda>\d+)-(?P<gpu>[a-z0-9_]+)"
    r"(?P<dynamo>-dynamo)?"
)
_FIRST_FUSED = (2, 0)
"""The torch release with `scaled_dot_product_attention`; before it every model computed attention step by step."""

TOLERANCE = 0.01
_ROUNDED = 0.006
_NORM_WORK = 5
"""fvcore, which counted the tables, gives norms up to 5 operations per element; visionbench gives them none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """How a table was measured, by its file's name."""

    path: Path
    task: Task
    memory_format: MemoryFormat
    device: DeviceSpec
    torch: str
    cuda: str
    compiled: bool

    @property
    def precision(self) -> str:
        """In timm `amp` means autocast to fp16."""
        return "amp_fp16"

    def spec(self, row: Row) -> Spec:
        """The row as a spec of ours; attention is fused from torch 2.0 on."""
        major, minor = self.torch.split(".")[:2]
        return Spec(
            model=f"timm:{row.model}",
            task=self.task,
            batch_size=row.batch_size,
            image_size=row.image_size,
            precision="amp_fp16",
            memory_format=self.memory_format,
            compile_mode="default" if self.compiled else None,
            attention="fused" if (int(major), int(minor)) >= _FIRST_FUSED else "math",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measured row; `macs` (of one image) and `params` are the table's own counts, None where it has none."""

    model: str
    image_size: int
    batch_size: int
    seconds: float
    params: float
    macs: float | None


def table(path: Path) -> Table:
    """What a file's name says. Raises `BenchError` for another name or a device without a data sheet."""
    parts = _NAME.fullmatch(path.stem)
    if parts is None:
        raise BenchError(
            f"{path.name} is not named like timm's tables: benchmark-infer-amp-nchw-pt240-cu124-rtx4090.csv."
        )
    device = next((d for d in DEVICES if d.key.replace("-", "") == re.sub("[_-]", "", parts["gpu"])), None)
    if device is None:
        raise BenchError(f"{path.name}: no data sheet of '{parts['gpu']}'; add it to bench/record/devices.csv.")
    return Table(
        path=path,
        task="inference" if parts["task"] == "infer" else "train",
        memory_format="contiguous" if parts["layout"] == "nchw" else "channels_last",
        device=device,
        torch=_version(parts["torch"]),
        cuda=f"{parts['cuda'][:-1]}.{parts['cuda'][-1]}",
        compiled=parts["dynamo"] is not None,
    )


def _version(digits: str) -> str:
    """`240` is 2.4.0, `112` is 1.12, `2101` is 2.10.1: torch's first number has had one digit so far."""
    major, rest = digits[0], digits[1:]
    return f"{major}.{rest}" if major == "1" else f"{major}.{rest[:-1]}.{rest[-1]}"


def rows(path: Path) -> list[Row]:
    """The rows of a file, one per model and size (weights differ, speed does not). Raises `BenchError`."""
    prefix = "infer" if table(path).task == "inference" else "train"
    by_name: dict[tuple[str, int], Row] = {}
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            for line in csv.DictReader(lines):
                row = _row(line, prefix)
                by_name.setdefault((row.model, row.image_size), row)
    except (OSError, KeyError, TypeError, ValueError, ArithmeticError, csv.Error) as error:
        raise BenchError(f"{path} cannot be read as timm's table ({error}): download it again.") from error
    return list(by_name.values())


def _row(line: dict[str, Any], prefix: str) -> Row:
    """The row of a CSV line. Raises KeyError, TypeError, ArithmeticError or ValueError."""
    if None in line.values():
        raise ValueError(f"the row of {line['model']} is too short")
    batch, macs = int(line[f"{prefix}_batch_size"]), line.get(f"{prefix}_gmacs")
    row = Row(
        model=line["model"].split(".")[0],
        image_size=int(line[f"{prefix}_img_size"]),
        batch_size=batch,
        seconds=batch / float(line[f"{prefix}_samples_per_sec"]),
        params=float(line["param_count"]) * 1e6,
        macs=float(macs) * 1e9 if macs else None,
    )
    if not all(0 < number < math.inf for number in (row.image_size, row.batch_size, row.seconds, row.params)):
        raise ValueError(f"the row of {row.model} holds numbers that are none")
    return row


def sample(of: Table, row: Row, trace: Trace, peaks: Peaks) -> Sample | Skipped:
    """A row with its columns, or why it is left out. `trace` is one at `MARK` images of the same spec."""
    reason = difference(row, trace)
    if reason is not None:
        return Skipped(row=f"{row.model}@{row.image_size}", reason=reason)
    return Sample(
        model=row.model,
        family=trace.family,
        image_size=row.image_size,
        batch_size=row.batch_size,
        seconds=row.seconds,
        columns=columns_at(trace.operators, row.batch_size, peaks, autocast=of.precision.startswith("amp")),
        macs=trace.macs_per_image * row.batch_size,
        activations=trace.activations_per_image * row.batch_size,
    )


def norm_elements(operators: Iterable[Operator]) -> int:
    """Elements of one image that forward norms go over (some counters count them as work), weights' own included."""
    total = 0
    for op in operators:
        if op.kind == "norm" and op.phase == "forward" and op.operands:
            shape = op.operands[0][0]
            total += math.prod(shape) // (MARK if any(n % MARK == 0 for n in shape) else 1)
    return total


def difference(row: Row, trace: Trace) -> str | None:
    """Why this is another network than the row's, or None.

    The table's multiply-accumulates may miss fused attention and may hold the norms, so they need only lie between.
    """
    if abs(trace.params - row.params) > TOLERANCE * row.params + _ROUNDED * 1e6:
        return "parameters differ"
    if row.macs is None:
        return None
    fused = sum(op.macs for op in trace.operators if op.kind == "attention") / MARK
    least = trace.macs_per_image - fused
    most = trace.macs_per_image + _NORM_WORK * norm_elements(trace.operators)
    slack = TOLERANCE * row.macs + _ROUNDED * 1e9
    return None if least - slack <= row.macs <= most + slack else "multiply-accumulates differ"


def peaks(of: Table) -> Peaks:
    """The peaks that a table's rows meet."""
    return peaks_of(of.device, of.precision)


def described(paths: Sequence[Path]) -> list[Table]:
    """All tables, their names checked before the first row is traced."""
    return [table(path) for path in paths]


_COLLECT_EVERY = 25
"""Networks between two collections of garbage: of a trace only the columns are kept."""


def from_timm(paths: Sequence[Path], progress: Progress = silent) -> list[tuple[Calibration, list[Skipped]]]:
    """A calibration per table, and the rows of each that were left out. Raises `BenchError` for a file that is none."""
    tables = described(paths)
    gathered: dict[Path, list[Sample]] = {table.path: [] for table in tables}
    skipped: dict[Path, list[Skipped]] = {table.path: [] for table in tables}
    wanted = _wanted(tables)
    for done, (spec, users) in enumerate(wanted.items()):
        progress(done, len(wanted), spec.model)
        for table, outcome in _outcomes(spec, users):
            (gathered if isinstance(outcome, Sample) else skipped)[table.path].append(outcome)  # type: ignore[arg-type]
        if done % _COLLECT_EVERY == 0:
            gc.collect()
    return [(_of_table(table, gathered[table.path], skipped[table.path]), skipped[table.path]) for table in tables]


_Users: TypeAlias = list[tuple[Table, Row]]


def _wanted(tables: Sequence[Table]) -> dict[Spec, _Users]:
    """What to trace, and for which rows: batch size and compilation do not change the operators."""
    wanted: dict[Spec, _Users] = {}
    for table in tables:
        for row in rows(table.path):
            spec = replace(table.spec(row), batch_size=1, compile_mode=None)
            wanted.setdefault(spec, []).append((table, row))
    return wanted


def _outcomes(spec: Spec, users: _Users) -> Iterable[tuple[Table, Sample | Skipped]]:
    try:
        trace = marked(spec)
    except BenchError as error:
        reason = "not traced" if "does not run" in str(error) or "cannot be counted" in str(error) else "no such model"
        return [(table, Skipped(row=f"{row.model}@{row.image_size}", reason=reason)) for table, row in users]
    return [(table, sample(table, row, trace, peaks(table))) for table, row in users]


def _of_table(table: Table, samples: Sequence[Sample], skipped: Sequence[Skipped]) -> Calibration:
    version = ".".join(table.torch.split(".")[:2])
    words = [table.device.key, table.precision, table.memory_format, table.task, f"torch{version}"]
    words += ["compiled"] if table.compiled else []
    return fit_calibration(
        samples,
        precision=table.precision,
        compiled=table.compiled,
        skipped=skipped,
        facts={
            "id": "-".join(words),
            "device": table.device.key,
            "memory_format": table.memory_format,
            "task": table.task,
            "torch": table.torch,
            "origin": "timm",
            "sources": (
                f"huggingface/pytorch-image-models, results/{table.path.name} (Apache-2.0), torch {table.torch}, "
                f"CUDA {table.cuda}",
            ),
        },
    )
