"""Files of many launches: what is shown of them costs time and memory that grow with their number, not its square."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.record.test_record_files import SHIPPED


def many(path: Path, number: int, rows: int) -> Path:
    """Records of so many rows, a launch of each in turn; fewer bytes of environment would be no file of ours."""
    lines = (SHIPPED / "reports" / "records" / "cpu_2_threads.jsonl").read_text("utf-8").splitlines()
    kept = [record for record in map(json.loads, lines) if not record["failure"]][:rows]
    rng = random.Random(number)
    with path.open("w", encoding="utf-8") as file:
        for place in range(number):
            record = kept[place % len(kept)]
            record["measurements"] = record["measurements"][:1]
            record["measurements"][0]["values"] = [0.55 * (1 + 0.02 * rng.random()) for _ in range(5)]
            file.write(json.dumps(record) + "\n")
    return path


def cost(*words: str) -> tuple[float, int]:
    """CPU seconds and peak MiB of a command."""
    process = subprocess.Popen([sys.executable, str(SHIPPED / "bench.py"), *words], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0
    return used.ru_utime + used.ru_stime, used.ru_maxrss >> 10


@pytest.mark.slow
def test_ten_thousand_launches_against_ten_thousand(tmp_path):
    files = [str(many(tmp_path / name, 10_000, 1)) for name in ("a.jsonl", "b.jsonl")]
    seconds, memory = cost("compare", *files)
    print(f"compare: {seconds:.1f} CPU s, {memory} MiB")
    assert seconds < 6  # 3 on an idle machine
    assert memory < 300


@pytest.mark.slow
def test_a_hundred_thousand_records_of_thirty_five_rows(tmp_path):
    seconds, memory = cost("report", "--all", "--records", str(many(tmp_path / "r.jsonl", 100_000, 35)))
    print(f"report: {seconds:.1f} CPU s, {memory} MiB")
    assert seconds < 12  # 6 on an idle machine
    assert memory < 500
