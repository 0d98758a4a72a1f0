"""Process memory: the kernel's mark by a file of our own, by a real allocation, and by a driver that is not here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from visionbench.machine import nvml
from visionbench.measuring.metrics import process_memory
from visionbench.measuring.metrics.process_memory import Idle, idle, measure

MIB = 2**20
ROOT = Path(__file__).parents[2]


def proc(folder: Path, held: int, highest: int) -> Path:
    """A /proc/self whose mark nobody lowers: what is written to clear_refs stays there. MiB."""
    lines = ("Name:\tpython", "VmPeak:\t 9999999 kB", f"VmHWM:\t {highest * 1024} kB", f"VmRSS:\t {held * 1024} kB")
    (folder / "status").write_text("\n".join((*lines, "Threads:\t1\n")))
    return folder


def values(found: Any) -> list[float]:
    return [value for one in found for value in one.values]


def test_the_peak_is_above_what_was_held_before(tmp_path: Path) -> None:
    before = idle(proc(tmp_path, held=400, highest=400))
    assert before == Idle(held=400 * MIB, highest=400 * MIB)
    assert (tmp_path / "clear_refs").read_text() == "5"
    (measured,) = measure("cpu", before, proc=proc(tmp_path, held=450, highest=530))
    assert measured.values == (130 * MIB,)
    assert (measured.metric, measured.unit, measured.better, measured.assume) == (
        *("process_memory", "B", "lower"),
        "nothing",
    )


@pytest.mark.parametrize(
    ("highest_before", "highest_after", "found"),
    [
        (600, 600, []),  # the old peak hides the new one
        (600, 601, [201 * MIB]),  # the new one is higher, so it is known all the same
        (401, 401, [1 * MIB]),  # within the kernel's own inexactness
        (402, 402, []),
    ],
)
def test_a_mark_that_could_not_be_lowered(
    tmp_path: Path, highest_before: int, highest_after: int, found: list[int]
) -> None:
    before = idle(proc(tmp_path, held=400, highest=highest_before))
    assert values(measure("cpu", before, proc=proc(tmp_path, held=500, highest=highest_after))) == found


def test_without_the_kernels_word_it_is_unknown(tmp_path: Path) -> None:
    assert idle(tmp_path) is None
    assert measure("cpu", None, proc=proc(tmp_path, held=1, highest=1)) == ()
    assert measure("cpu", Idle(held=1, highest=1), proc=tmp_path / "nowhere") == ()
    (tmp_path / "status").write_text("Name:\tkernel thread\n")
    assert idle(tmp_path) is None


FORKED = """
import os, sys
from visionbench.machine import allocator
from visionbench.measuring.metrics.process_memory import idle, measure
size = 300 << 20
def fill(size):
    block = bytearray(size)
    for place in range(0, size, 4096):
        block[place] = 1
fill(size)  # the parent's peak, before the fork
child = os.fork()
if child == 0:
    before = idle()
    fill(100 << 20)
    one = measure("cpu", before)
    print(int(one[0].values[0] >> 20) if one else None, flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="no /proc of Linux")
@pytest.mark.slow
def test_a_launch_does_not_inherit_the_peak_of_its_parent() -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", FORKED], cwd=root, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert 99 <= int(done.stdout) <= 110


FRESH = """
import torch
from tests.measure.test_metric_process_memory import MIB, idle, measure, values
from visionbench.machine import allocator

allocator.settle()  # else it may be born where something else has died
before = idle()
torch.ones(64 * MIB // 4)  # born and gone
(found,) = values(measure("cpu", before))
assert 63 * MIB <= found <= 80 * MIB, found  # the kernel counts in batches
assert idle().highest < before.held + 32 * MIB
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="the mark cannot be lowered here")
def test_a_peak_between_two_looks_is_seen() -> None:
    """In a process of its own: what other tests have freed may be given back meanwhile."""
    subprocess.run([sys.executable, "-c", FRESH], cwd=ROOT, check=True, timeout=120)


class Driver:
    """As much of NVML as is asked."""

    class NVMLError(Exception):
        pass

    def __init__(self, processes: dict[int, int | None] | None) -> None:
        self.processes = processes

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> list[Any]:  # noqa: N802
        if self.processes is None:
            raise self.NVMLError
        return [SimpleNamespace(pid=pid, usedGpuMemory=held) for pid, held in self.processes.items()]


@pytest.mark.parametrize(
    ("processes", "found"),
    [
        ({4711: 5 * MIB, 1: 7 * MIB}, 5 * MIB),
        ({1: 7 * MIB}, 7 * MIB),  # alone, under the host's number: a container
        ({1: 7 * MIB, 2: 8 * MIB}, None),  # which of them?
        ({4711: None}, None),  # a slice of a card may not tell
        ({}, None),
        (None, None),
    ],
)
def test_the_driver_is_asked_for_this_process(processes: dict[int, int | None] | None, found: int | None) -> None:
    gpu = nvml.Gpu(library=Driver(processes), handle="card", mig=False, driver="580.95")
    assert process_memory.of_process(gpu, 4711) == found


def test_on_cuda_the_driver_answers_and_the_kernel_is_not_asked(tmp_path: Path) -> None:
    asked: list[str] = []

    def driver(device: str) -> int | None:
        asked.append(device)
        return 123

    assert values(measure("cuda:1", None, proc=tmp_path, ask_driver=driver)) == [123]
    assert asked == ["cuda:1"]
    assert measure("cuda", None, ask_driver=lambda device: None) == ()


def test_without_a_driver_it_is_unknown() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a driver")
    assert process_memory.driver_bytes("cuda") is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_driver_counts_at_least_what_torch_has_reserved() -> None:
    kept = torch.ones(64 * MIB, device="cuda")
    found = process_memory.driver_bytes("cuda")
    if found is None:
        pytest.skip("this driver does not count a process's memory")
    assert found >= torch.cuda.memory_reserved() >= kept.nbytes
