"""The data-sheet tier's constants beside the printed rows that they were read off: each claim is computed anew."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from perf.prediction.published import published
from visionbench.predicting import basis as module
from visionbench.predicting.basis import OF_HBM, OF_THE_CHIP, RESOLUTION, Basis, basis_of
from visionbench.predicting.calibration import shipped
from visionbench.predicting.samples import columns_at, marked
from visionbench.record.devices import find
from visionbench.record.spec import Spec
from visionbench.tracing import Trace

SHIPPED = shipped()
SAME_OPERATORS = {"bf16": "fp16", "tf32": "fp32"}
"""Precisions whose traces are those of another one: as many bytes, and no casts."""

PROTOCOL = 0.14
"""How much wider (log, on each side) an interval may be than its rows: they come from one to eight publications, and
the protocol of another one may shift all its rows by a factor.
"""


@dataclass(frozen=True)
class CheckedRow:
    """A printed row that nothing was fitted on; `error` is log(measured / predicted) of its step's time."""

    device: str
    spec: Spec
    basis: Basis
    error: float


@pytest.fixture(scope="module")
def checked() -> list[CheckedRow]:
    """All printed rows of the data-sheet tier that nothing was fitted on."""
    traces: dict[Spec, Trace] = {}
    rows = []
    for row in published():
        spec = row.spec
        basis = basis_of(spec, find(row.device), SHIPPED)
        if row.fit or basis.tier != "data sheet":
            continue
        step = replace(spec, batch_size=1, precision=SAME_OPERATORS.get(spec.precision, spec.precision))
        if step not in traces:
            traces[step] = marked(step)
        autocast = spec.precision.startswith("amp_")
        columns = columns_at(traces[step].operators, spec.batch_size, basis.peaks, autocast=autocast)
        error = math.log(row.seconds / basis.seconds(columns, spec))
        rows.append(CheckedRow(device=row.device, spec=spec, basis=basis, error=error))
    return rows


def errors_behind(rows: list[CheckedRow], interval: tuple[float, float], task: str, chip: str = "") -> np.ndarray:
    """The errors of the rows that were predicted with that interval, of one chip if it is named."""
    return np.array(
        [
            row.error
            for row in rows
            if (row.basis.low, row.basis.high) == interval and row.spec.task == task and row.device.startswith(chip)
        ]
    )


def bounds(errors: np.ndarray) -> tuple[float, float]:
    """The interval of the middle 80 % of the errors."""
    low, high = np.quantile(errors, (0.1, 0.9))
    return float(low), float(high)


def is_supported(interval: tuple[float, float], groups: list[np.ndarray]) -> bool:
    """Whether an interval holds 80 % of every group of rows and is no wider than all of them together allow."""
    lows, highs = zip(*map(bounds, groups), strict=True)
    holds = interval[0] <= min(lows) and max(highs) <= interval[1]
    return holds and min(lows) - interval[0] <= PROTOCOL and interval[1] - max(highs) <= PROTOCOL


def groups_of(rows: list[CheckedRow], interval: tuple[float, float]) -> list[np.ndarray]:
    if interval == OF_THE_CHIP:
        return [errors_behind(rows, OF_THE_CHIP, "inference")]
    return [errors_behind(rows, OF_HBM, "inference", "h100"), errors_behind(rows, OF_HBM, "train")]


@pytest.mark.parametrize("interval", [OF_THE_CHIP, OF_HBM])
@pytest.mark.slow
def test_an_interval_is_what_its_rows_say(checked, interval):
    groups = groups_of(checked, interval)
    assert is_supported(interval, groups)
    for errors in groups:
        assert np.mean((interval[0] <= errors) & (errors <= interval[1])) >= 0.8


@pytest.mark.parametrize("interval", [OF_THE_CHIP, OF_HBM])
@pytest.mark.parametrize("scale", [0.7, 1.5])
@pytest.mark.slow
def test_a_narrower_or_a_wider_interval_would_not_be(checked, interval, scale):
    low, high = interval
    groups = groups_of(checked, interval)
    assert not is_supported((low * scale, high * scale), groups)
    if scale > 1:
        assert not is_supported((low, high * scale), groups)


@pytest.mark.slow
def test_the_docstrings_quote_the_rows(checked):
    source = " ".join(Path(module.__file__).read_text(encoding="utf-8").split())
    for interval in (OF_THE_CHIP, OF_HBM):
        for errors in groups_of(checked, interval):
            low, high = map(math.exp, bounds(errors))
            assert f"80 % of {len(errors)} between {low:.2f} and {high:.2f}" in source


@pytest.mark.slow
@pytest.mark.parametrize("task", ["inference", "train"])
def test_the_resolution_is_what_pairs_of_rows_say(checked, task):
    """Four of five pairs of rows of one card and way of running differ by less."""
    groups: dict[tuple[str, ...], list[float]] = {}
    for row in checked:
        if row.spec.task == task:
            groups.setdefault((row.device, row.spec.precision, row.spec.memory_format), []).append(row.error)
    apart = [abs(a - b) for errors in groups.values() for index, a in enumerate(errors) for b in errors[:index]]
    assert RESOLUTION[task] == pytest.approx(np.quantile(apart, 0.8), abs=0.01)
