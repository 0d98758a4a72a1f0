"""The command line answers at once: `--help` beside a bare interpreter, and a table from ten thousand records."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from visionbench.record.record import Environment, Measurement, Record, to_json
from visionbench.record.spec import SWIN, Spec
from visionbench.reports.printed import rows

ROOT = Path(__file__).parents[1]
Versus = Callable[..., Any]

HELP = ("bench.py", "--help")


def python(*arguments: str) -> str:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_help_takes_at_most_0_3_seconds_beyond_the_interpreter(benchmark: Any, versus: Versus) -> None:
    comparison = versus(lambda: python(*HELP), lambda: python("-c", "pass"), rounds=9)
    if comparison:
        benchmark.extra_info["seconds_beyond_the_interpreter"] = comparison.ours - comparison.theirs
        assert comparison.ours - comparison.theirs <= 0.3


def record(launch: int, model: str, size: int) -> Record:
    """A plausible measurement; every launch a little different, as they are."""
    return Record(
        spec=Spec(model=model, image_size=size, batch_size=64),
        protocol=SWIN,
        environment=Environment(
            device_type="cuda",
            device_key="v100-sxm2-16gb",
            device_name="Tesla V100-SXM2-16GB",
            torch="2.6.0",
            started=f"2026-11-30T{launch % 24:02}:00:00+00:00",
        ),
        measurements=(
            Measurement(
                metric="throughput",
                unit="s",
                better="lower",
                assume="nothing",
                values=(2.5 + launch % 17 / 100,),
                iterations=30,
                warmups=50,
            ),
        ),
        source="measured",
    )


def write_records(path: Path, total: int) -> None:
    """That many records of Table 1's rows, launch by launch."""
    networks = [row.network for row in rows("1")]
    with path.open("w", encoding="utf-8") as file:
        for number in range(total):
            model, size = networks[number % len(networks)]
            file.write(to_json(record(number // len(networks), model, size)) + "\n")


REPORT = ("bench.py", "report", "convnext_table1", "--format", "csv", "--records")
"""Followed by a file."""


@pytest.fixture
def records(benchmark: Any, tmp_path: Path) -> Path:
    """Ten thousand records. A hundred where nothing is timed."""
    path = tmp_path / "records.jsonl"
    write_records(path, 100 if benchmark.disabled else 10_000)
    return path


def test_a_report_on_ten_thousand_records_takes_at_most_2_seconds(versus: Versus, records: Path) -> None:
    def report() -> str:
        return python(*REPORT, str(records))

    assert "ConvNeXt-T" in report()
    comparison = versus(report, lambda: python("-c", "pass"), rounds=3)
    if comparison:
        assert comparison.ours <= 2
