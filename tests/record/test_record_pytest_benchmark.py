"""pytest-benchmark's files: read as it writes them, told from records by what is in them, never half-believed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from visionbench.record.errors import BenchError
from visionbench.record.pytest_benchmark import machine, parse, read

MACHINE: dict[str, Any] = {
    "node": "runner-1",
    "processor": "",
    "machine": "x86_64",
    "python_compiler": "GCC 12.2.0",
    "python_implementation": "CPython",
    "python_implementation_version": "3.11.7",
    "python_version": "3.11.7",
    "python_build": ["main", "May  9 2026"],
    "release": "6.18.44",
    "system": "Linux",
    "cpu": {
        "brand_raw": "AMD EPYC",
        "count": 2,
        "family": 25,
        "model": 17,
        "stepping": 1,
        "hz_actual_friendly": "2.5961 GHz",
        "flags": ["fpu", "avx2", "avx", "sse4_2", "vmx"],
    },
}


def saved(*, data: list[float] | None = None, **changes: Any) -> dict[str, Any]:
    stats = {"median": 2e-3, "q1": 1e-3, "q3": 4e-3, "iqr": 3e-3, "rounds": 5, "iterations": 3, "mean": 2.5e-3}
    one = {
        "fullname": "tests/test_a.py::test_a[3]",
        "options": {"timer": "perf_counter", "disable_gc": False, "min_rounds": 5, "warmup": False},
        "stats": stats | ({"data": data} if data is not None else {}),
    }
    commit = {"id": "c" * 40, "dirty": True, "branch": "main"}
    file = {"machine_info": MACHINE, "commit_info": commit, "benchmarks": [one], "datetime": "2026-01-02T03:04:05"}
    return file | changes


def parsed(file: dict[str, Any]) -> Any:
    found = parse(json.dumps(file, indent=4))
    assert found is not None
    return found


def test_rounds_are_read_where_they_are_there():
    [one] = parsed(saved(data=[3.0, 1.0, 2.0, 5.0, 4.0])).benchmarks
    assert one.seconds == (3.0, 1.0, 2.0, 5.0, 4.0)
    assert (one.low, one.median, one.high, one.rounds) == (2.0, 3.0, 4.0, 5)


def test_without_rounds_the_file_s_own_summary_is_taken():
    [one] = parsed(saved()).benchmarks
    assert one.seconds == ()
    assert (one.low, one.median, one.high, one.rounds) == (1e-3, 2e-3, 4e-3, 5)


def test_one_round_has_no_spread():
    [one] = parsed(saved(data=[0.5])).benchmarks
    assert (one.low, one.median, one.high) == (0.5, 0.5, 0.5)


def test_name_commit_date_and_the_options_that_matter():
    file = parsed(saved())
    assert (file.commit, file.dirty, file.written) == ("c" * 40, True, "2026-01-02T03:04:05")
    assert file.benchmarks[0].name == "tests/test_a.py::test_a[3]"
    assert dict(file.benchmarks[0].how) == {"timer": "perf_counter", "disable_gc": False, "warmup": False}
    assert parsed(saved(commit_info={"id": "unversioned"})).commit is None


def test_the_machine_is_what_times_depend_on():
    assert machine(MACHINE) == {
        "cpu": "AMD EPYC",
        "cores": 2,
        "cpu_family": 25,
        "cpu_model": 17,
        "cpu_stepping": 1,
        "machine": "x86_64",
        "system": "Linux",
        "kernel": "6.18.44",
        "interpreter": "CPython",
        "python": "3.11",
        "vector_instructions": "avx avx2 sse4_2",
    }


@pytest.mark.parametrize(
    "change",
    [{"node": "runner-2"}, {"python_version": "3.11.9"}, {"python_build": ["x", "y"]}, {"python_compiler": "Clang"}],
)
def test_another_host_of_the_same_kind_is_the_same_machine(change):
    assert machine(MACHINE | change) == machine(MACHINE)


@pytest.mark.parametrize(
    "change",
    [
        {"release": "6.9.0"},
        {"python_version": "3.12.0"},
        {"cpu": MACHINE["cpu"] | {"brand_raw": "Intel"}},
        {"cpu": MACHINE["cpu"] | {"count": 4}},
        {"cpu": MACHINE["cpu"] | {"flags": ["avx"]}},
    ],
)
def test_another_machine_is_seen(change):
    assert machine(MACHINE | change) != machine(MACHINE)


def test_what_a_project_s_hook_added_counts_too():
    found = machine(MACHINE | {"gpu": {"name": "A100", "clocks": [1, 2]}, "driver": "580"})
    assert (found["gpu.name"], found["gpu.clocks"], found["driver"]) == ("A100", "[1, 2]", "580")


@pytest.mark.parametrize(
    "text", ["", "x", "[]", '{"spec":{}}\n{"spec":{}}', '{"benchmarks":[]}', '{"machine_info":{}}']
)
def test_other_content_is_none_of_its_files(tmp_path, text):
    (tmp_path / "file").write_text(text)
    assert read(tmp_path / "file") is None


def test_what_is_no_regular_file_is_left_alone(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in ("/dev/zero", tmp_path / "pipe", tmp_path, tmp_path / "missing"):
        assert read(path) is None


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (json.dumps(saved(), indent=4)[:-40], "torn"),
        (json.dumps(saved(data=[1.0, float("nan")])), "no time"),
        (json.dumps(saved(data=[1.0, -1.0])), "no time"),
        (json.dumps(saved(benchmarks=[{"fullname": "x", "stats": {"median": 1.0}}])), "a benchmark has no 'q1'"),
        (json.dumps(saved(benchmarks={})), "its benchmarks are no list of objects"),
        (json.dumps(saved(benchmarks=[None])), "its benchmarks are no list of objects"),
        (json.dumps(saved(benchmarks=[{"stats": None}])), "missing or wrong"),
        (json.dumps(saved(machine_info=[1])), "missing or wrong"),
    ],
)
def test_a_broken_file_is_a_mistake_that_says_its_remedy(tmp_path, text, cause):
    (tmp_path / "file.json").write_text(text)
    with pytest.raises(BenchError, match=cause) as told:
        read(tmp_path / "file.json")
    assert "--benchmark-json" in str(told.value)


def test_what_the_installed_version_writes_is_read(tmp_path):
    pytest.importorskip("pytest_benchmark")
    (tmp_path / "test_x.py").write_text(
        "def test_x(benchmark):\n    benchmark.pedantic(sum, args=([1],), rounds=4, iterations=2)\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "test_x.py", "-p", "no:cacheprovider", "--benchmark-save=x"]
    done = subprocess.run(
        [*command, "--benchmark-json=x.json"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [stored] = Path(tmp_path, ".benchmarks").rglob("0001_x.json")
    whole, summary = read(tmp_path / "x.json"), read(stored)
    assert whole is not None
    assert summary is not None
    assert len(whole.benchmarks[0].seconds) == 4
    assert summary.benchmarks[0].seconds == ()
    assert summary.benchmarks[0].median == pytest.approx(whole.benchmarks[0].median)
    assert whole.machine == summary.machine
    assert dict(whole.machine)["kernel"]
