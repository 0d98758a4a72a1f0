"""`pytest perf --benchmark-only` as people know pytest-benchmark, with its holes closed.

The files under test are copied into an empty folder, and launches, environment and counts are faked: what is tested is
what pytest-benchmark is given, what it writes, and when a run ends badly.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from visionbench.judging.result_files import load
from visionbench.judging.stored import compare
from visionbench.record import pytest_benchmark

pytest.importorskip("pytest_benchmark")

ROOT = Path(__file__).parents[1]

FAKES = '''
"""Two rows instead of twelve, launches that take no time, a machine of known make."""

import json
import os
import sys
from types import ModuleType, SimpleNamespace

from visionbench.record import spec
from visionbench.record.record import Environment, Failure, Measurement, Record

ROWS = os.environ.get("FAKE_ROWS", "one two").split()
spec.SUITES["ci"] = tuple(spec.Spec(model=f"timm:{name}", image_size=64) for name in ROWS)
LAUNCHES = []


def module(name, **contents):
    sys.modules[name] = fake = ModuleType(name)
    vars(fake).update(contents)


def describe(device, threads):
    torch = os.environ.get("FAKE_TORCH", "2")
    return Environment(device_type=device, device_name="Abacus", threads=threads, torch=torch)


def launch(what, protocol, device, threads):
    LAUNCHES.append(what)
    blocks = Measurement(
        metric="throughput", unit="s", better="lower", assume="nothing", iterations=2,
        values=tuple(0.2 + 0.01 * len(LAUNCHES) + 0.001 * block for block in range(3)), flags=("noisy_env",),
    )
    failure = Failure(kind="out_of_memory", stage="warm-up", message="too big") if what.model == "timm:big" else None
    return Record(
        spec=what, protocol=protocol, environment=describe(device, threads), measurements=(blocks,), failure=failure,
        source="measured",
    )


module("visionbench.machine.environment", find_device=lambda: "cpu", describe=describe)
module("visionbench.measuring.process.launch", launch=launch)
module("visionbench.tracing", run=lambda what: SimpleNamespace(params=11, macs_per_image=22))
module("visionbench.models", resolve=lambda name: SimpleNamespace(name=name))


def pytest_unconfigure():
    print("launches:", len(LAUNCHES))
'''


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the root's and the suite's files, with one run saved: both rows."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copy(ROOT / "conftest.py", folder)
    (folder / "perf").mkdir()
    for name in ("conftest.py", "test_ci_suite.py"):
        shutil.copy(ROOT / "perf" / name, folder / "perf")
    (folder / "perf" / "test_function.py").write_text(
        "def test_function(benchmark):\n    assert benchmark(abs, -1) == 1\ndef test_other(): pass\n"
    )
    (folder / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n")
    (folder / "fakes.py").write_text(FAKES)
    words = ("perf/test_ci_suite.py", "--benchmark-save=first", "--benchmark-save-data", "--benchmark-json=all.json")
    done = run(folder, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def run(folder: Path, *words: str, only: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "fakes", "-p", "no:cacheprovider", *words]
    return subprocess.run(
        command + ["--benchmark-only"] * only,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{folder}", **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def saved(folder: Path) -> Path:
    [path] = (folder / ".benchmarks").glob("*/0001_first.json")
    return path


def benchmarks(path: Path) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads(path.read_text())["benchmarks"]
    return listed


def test_the_file_holds_the_engines_own_samples_in_order(suite: Path) -> None:
    first_row, second_row = benchmarks(saved(suite))
    assert first_row["fullname"] == "perf/test_ci_suite.py::test_ci[timm:one@64 inference b1 fp32]"
    launches = first_row["extra_info"]["launches"]
    assert launches >= 7
    for first, benchmark in ((1, first_row), (launches + 1, second_row)):
        blocks = [(0.2 + 0.01 * n + 0.001 * block) / 2 for n in range(first, first + launches) for block in range(3)]
        assert benchmark["stats"]["data"] == blocks, "to the last bit"
        assert benchmark["stats"]["rounds"] == sum(benchmark["extra_info"]["rounds_of_launches"]) == len(blocks)
    assert [file["stats"]["data"] for file in benchmarks(suite / "all.json")] == [
        first_row["stats"]["data"],
        second_row["stats"]["data"],
    ]


def test_the_file_says_what_was_measured_and_where(suite: Path) -> None:
    said = benchmarks(saved(suite))[0]["extra_info"]
    assert (said["params"], said["macs"], said["flags"]) == (11, 22, ["noisy_env"])
    assert said["interval"][0] < said["images_per_second"] < said["interval"][1]
    assert said["spec"]["model"] == "timm:one"
    assert said["protocol"]["launches"] == said["launches"]
    where = json.loads(saved(suite).read_text())["machine_info"]["visionbench"]
    assert (where["device_name"], where["threads"], where["torch"]) == ("Abacus", 1, "2")
    assert where["id"] == said["fingerprint"]


def test_their_compare_and_ours_read_it(suite: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest_benchmark", "compare", str(saved(suite))],
        cwd=suite, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "test_ci[timm:one@64 inference b1 fp32]" in done.stdout, done.stderr
    file = pytest_benchmark.read(saved(suite))
    assert file is not None
    assert [len(row.seconds) for row in file.benchmarks] == [21, 21]
    batch = load(saved(suite))
    entries = compare(batch.samples, load(suite / "all.json").samples).entries
    assert {entry.word for entry in entries} <= {"no interval", "overlapping", "equal"}, "two files of one run"


def test_the_same_machine_is_compared(suite: Path) -> None:
    done = run(suite, "perf/test_ci_suite.py", "--benchmark-compare")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "(0001_first)" in done.stdout
    assert "vanished" not in done.stdout


def test_another_machine_ends_the_run_before_it_measures(suite: Path) -> None:
    done = run(suite, "perf/test_ci_suite.py", "--benchmark-compare", FAKE_TORCH="3")
    assert done.returncode == 4
    assert "visionbench.torch: 2 against 3" in done.stderr
    assert "--benchmark-save" in done.stderr
    assert "launches: 0" in done.stdout


def test_comparing_with_nothing_is_a_mistake(suite: Path) -> None:
    done = run(suite, "--benchmark-compare", "perf/test_ci_suite.py")
    assert done.returncode == 4
    assert "has no such file" in done.stderr
    assert "launches: 0" in done.stdout


def test_a_vanished_benchmark_is_a_failed_test_and_so_is_one_that_cannot_be_measured(suite: Path) -> None:
    words = ("perf/test_ci_suite.py", "--benchmark-compare", "--junitxml=report.xml")
    done = run(suite, *words, FAKE_ROWS="one big")
    assert done.returncode == 1
    cases = {case.attrib["name"]: case.find("failure") for case in ET.parse(suite / "report.xml").iter("testcase")}
    names = [f"test_ci[timm:{name}@64 inference b1 fp32]" for name in ("one", "big", "two")]
    assert list(cases) == names
    messages = {name: case.attrib["message"] for name, case in cases.items() if case is not None}
    assert list(messages) == names[1:]
    assert "out_of_memory at warm-up: too big" in messages[names[1]]
    assert "this benchmark vanished" in messages[names[2]]
    assert "0001_first.json" in messages[names[2]]


@pytest.mark.parametrize(
    ("words", "gone"),
    [
        (["-k", "one"], False),
        (["-k", "two"], True),
        (["--deselect", "perf/test_ci_suite.py"], False),
        (["perf"], True),
        (["perf/test_function.py"], False),
        (["perf/test_ci_suite.py::test_ci"], True),
        (["perf/test_ci_suite.py::test_ci[timm:one@64 inference b1 fp32]"], False),
    ],
)
@pytest.mark.slow
def test_what_was_not_asked_for_has_not_vanished(suite: Path, words: list[str], gone: bool) -> None:
    done = run(suite, *words, "--benchmark-compare", "--collect-only", "-q", FAKE_ROWS="one")
    assert done.returncode == 0, done.stdout + done.stderr
    assert ("test_ci[timm:two@64 inference b1 fp32]" in done.stdout) == gone, done.stdout + done.stderr


def test_unless_asked_for_nothing_is_measured(suite: Path) -> None:
    done = run(suite, only=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout
    assert "launches: 0" in done.stdout


@pytest.mark.slow
def test_asking_for_a_file_is_asking_for_benchmarks(suite: Path) -> None:
    done = run(suite, "perf/test_function.py", "--benchmark-json=function.json", only=False)
    assert "2 passed" in done.stdout, done.stdout + done.stderr
    assert [row["name"] for row in benchmarks(suite / "function.json")] == ["test_function"]


def test_without_pytest_benchmark_other_tests_run_as_ever(suite: Path) -> None:
    done = run(suite, "perf/test_function.py", "-k", "other", only=False, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
