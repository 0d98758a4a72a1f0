"""What freed memory costs: after `settle` the second round of the same allocations meets no new pages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from visionbench.machine import allocator
from visionbench.machine.environment import describe

ROOT = Path(__file__).parents[2]
ROUNDS = """
import resource, sys
from visionbench.machine import allocator
if sys.argv[1] == "settled":
    allocator.settle()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def work():
    blocks = [bytearray({size}) for _ in range({count})]
for _ in range(3):
    work()
before = faults()
work()
print(faults() - before)
"""


@pytest.mark.skipif(allocator.state() is None, reason="no glibc, or the environment says otherwise")
@pytest.mark.parametrize(("size", "count"), [(4 * 2**20, 10), (2**20, 50), (20 * 2**20, 2)])
def test_what_was_freed_is_found_again(size: int, count: int) -> None:
    def faults(word: str) -> int:
        code = ROUNDS.format(size=size, count=count)
        return int(subprocess.check_output([sys.executable, "-c", code, word], cwd=ROOT, text=True))

    assert faults("settled") < 100
    if size * count > 2 * size + 2**20:  # more than glibc keeps of its own accord
        assert faults("as it comes") > size * count / 4096 / 2


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MALLOC_MMAP_THRESHOLD_", "1048576"),
        ("MALLOC_ARENA_MAX", "1"),
        ("GLIBC_TUNABLES", "glibc.malloc.trim_threshold=0"),
        ("LD_PRELOAD", "/usr/lib/libjemalloc.so.2"),
    ],
)
def test_what_the_user_says_of_memory_stays(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, value)
    assert allocator.state() is None
    allocator.settle()


def test_a_record_of_a_cpu_says_it_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator, "state", lambda: allocator.SETTLED)
    assert describe("cpu").malloc == "32 MiB, 64 MiB"
    assert describe("meta").malloc is None
