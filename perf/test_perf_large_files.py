"""Files of many launches: what is shown of them costs time and memory that grow with their number, not its square."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.record.test_record_files import SHIPPED
from visionbench.reports import printed


def many(path: Path, number: int, rows: int) -> Path:
    """Records of so many rows, a launch of each in turn, each with its own time, as a sweep writes them."""
    lines = (SHIPPED / "reports" / "records" / "cpu_2_threads.jsonl").read_text("utf-8").splitlines()
    record = next(record for record in map(json.loads, lines) if not record["failure"])
    record["measurements"] = record["measurements"][:1]
    networks = list(dict.fromkeys(row.network for table in ("1", "2", "4", "12") for row in printed.rows(table)))[:rows]
    rng, began = random.Random(number), datetime.fromisoformat("2026-11-01T00:00:00+00:00")
    with path.open("w", encoding="utf-8") as file:
        for place in range(number):
            model, size = networks[place % len(networks)]
            record["spec"] |= {"model": model, "image_size": size, "image_width": None}
            if not isinstance(size, int):
                record["spec"] |= {"image_size": size[0], "image_width": size[1]}
            record["environment"]["started"] = (began + timedelta(seconds=place)).isoformat()
            record["measurements"][0]["values"] = [0.55 * (1 + 0.02 * rng.random()) for _ in range(5)]
            file.write(json.dumps(record) + "\n")
    return path


COST = """
import json, os, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, used = os.wait4(process.pid, 0)
assert status == 0
print(json.dumps([used.ru_utime + used.ru_stime, used.ru_maxrss >> 10]))
"""
"""A small parent: the kernel counts what a process was forked from among its peak."""


def cost(*words: str) -> tuple[float, int]:
    """CPU seconds and peak MiB of a command."""
    command = [sys.executable, "-c", COST, sys.executable, str(SHIPPED / "bench.py"), *words]
    seconds, memory = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return seconds, memory


def compare_cost(folder: Path, number: int) -> tuple[float, int]:
    """Of comparing that many launches of one row with as many."""
    return cost("compare", *(str(many(folder / name, number, 1)) for name in ("a.jsonl", "b.jsonl")))


def report_cost(folder: Path, number: int) -> tuple[float, int]:
    """Of all tables from that many records of 35 rows."""
    return cost("report", "--all", "--records", str(many(folder / "r.jsonl", number, 35)))


WHOLE = os.environ.get("VISIONBENCH_LARGE", "")
"""Set to a number of records: so many are reported once, which takes their memory and about a minute a million."""


@pytest.mark.skipif(not WHOLE, reason="VISIONBENCH_LARGE=1000000 reports a million records")
def test_the_memory_of_a_million_records_is_in_proportion(tmp_path: Path) -> None:
    few_seconds, few = report_cost(tmp_path, int(WHOLE) // 10)
    seconds, memory = report_cost(tmp_path, int(WHOLE))
    print(f"{WHOLE} records: {seconds:.1f} CPU s, {memory} MiB; a tenth of them: {few_seconds:.1f} CPU s, {few} MiB")
    assert memory <= 12 * few
    assert seconds <= 12 * few_seconds


@pytest.mark.slow
@pytest.mark.parametrize(("side", "number", "most"), [(compare_cost, 10_000, 3.0), (report_cost, 100_000, 6.0)])
def test_large_files_cost_time_and_memory_in_proportion(
    benchmark: Any, tmp_path: Path, side: Callable[[Path, int], tuple[float, int]], number: int, most: float
) -> None:
    if benchmark.disabled:
        benchmark.pedantic(side, args=(tmp_path, 70), rounds=1)
        return
    a_tenth, _ = side(tmp_path, number // 10)
    seconds, memory = benchmark.pedantic(side, args=(tmp_path, number), rounds=1)
    benchmark.extra_info |= {"cpu_seconds": seconds, "memory_MiB": memory, "ratio": seconds / a_tenth, "goal": most}
    assert seconds <= 12 * a_tenth
    assert memory <= 500
