"""The compiler's counters: by hand, and by the compiler itself with the backend that only traces."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from types import SimpleNamespace

import pytest

from visionbench.measuring.metrics import compilation
from visionbench.measuring.metrics.compilation import Mark, mark, measurements, recompiled_since

Counters = defaultdict[str, Counter[str]]


@pytest.fixture
def counters(monkeypatch: pytest.MonkeyPatch) -> Counters:
    made: Counters = defaultdict(Counter)
    monkeypatch.setitem(sys.modules, "torch._dynamo.utils", SimpleNamespace(counters=made))
    return made


def test_without_the_compiler_there_is_nothing_to_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch._dynamo.utils", raising=False)
    assert mark() == Mark(frames=0, graphs=0, breaks=0, hits=0)
    assert not recompiled_since(mark())
    assert "torch._dynamo.utils" not in sys.modules


def test_a_mark_reads_the_counters_and_leaves_them(counters: Counters) -> None:
    assert mark() == Mark()
    assert dict(counters) == {}
    counters["frames"].update(total=5, ok=4)
    counters["stats"].update(unique_graphs=3, calls_captured=70)
    counters["graph_break"].update({"one reason": 2, "another": 1})
    counters["inductor"].update(fxgraph_cache_hit=1, fxgraph_cache_miss=9)
    counters["aot_autograd"].update(autograd_cache_hit=6)
    assert mark() == Mark(frames=5, graphs=3, breaks=3, hits=7)


def test_a_recompile_is_noticed_and_a_steady_run_is_not(counters: Counters) -> None:
    counters["frames"].update(total=2)
    before = mark()
    assert not recompiled_since(before)
    counters["stats"].update(calls_captured=1)
    assert not recompiled_since(before)
    counters["frames"].update(total=1)
    assert recompiled_since(before)


def test_the_measurements_are_differences() -> None:
    before = Mark(frames=10, graphs=20, breaks=30, hits=40)
    called = Mark(frames=13, graphs=22, breaks=31, hits=40)
    after = Mark(frames=17, graphs=29, breaks=38, hits=45)
    found = {one.metric: one for one in measurements(12.5, before, called, after)}
    assert {name: one.values for name, one in found.items()} == {
        "compile_seconds": (12.5,),
        "graphs": (2,),
        "graph_breaks": (1,),
        "recompiles": (4,),
    }
    assert [one.unit for one in found.values()] == ["s", "count", "count", "count"]
    assert all(one.flags == () for one in found.values())


def test_a_cache_that_was_hit_is_flagged() -> None:
    seconds, *_ = measurements(1.0, Mark(hits=1), Mark(hits=2), Mark(hits=2))
    assert seconds.flags == ("warm_cache",)


def test_the_cold_cache_is_fresh_and_gone_afterwards() -> None:
    with compilation.cold_cache() as first, compilation.cold_cache() as second:
        folder = Path(first["TORCHINDUCTOR_CACHE_DIR"])
        assert folder.is_dir()
        assert list(folder.iterdir()) == []
        assert first["TRITON_CACHE_DIR"].startswith(str(folder))
        assert set(first.values()).isdisjoint(second.values())
        (folder / "kernel.so").write_text("x")
    assert not folder.exists()


def test_it_does_not_need_torch() -> None:
    code = "import visionbench.measuring.metrics.compilation, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0


COMPILED = """
import torch
from visionbench.measuring.metrics.compilation import mark, measurements, recompiled_since

class Whole(torch.nn.Module):
    offset = 1.0
    def forward(self, x):
        return (x * 2).sin() + self.offset

class Broken(torch.nn.Module):
    offset = 1.0
    def forward(self, x):
        y = x * 2
        torch._dynamo.graph_break()
        return y.sin() + self.offset

for net in (Whole(), Broken()):
    step = torch.compile(net, backend="eager")
    with torch.inference_mode():
        before = mark()
        step(torch.ones(3))
        called = mark()
        for _ in range(5):
            step(torch.ones(3))
        steady = recompiled_since(called)
        net.offset = 2.0  # what was a constant in the graph
        step(torch.ones(3))
    counts = {one.metric: one.values[0] for one in measurements(1.0, before, called, mark())}
    print(steady, recompiled_since(called), counts)
"""


@pytest.mark.slow
def test_the_compiler_itself_counts_so() -> None:
    done = subprocess.run(
        [sys.executable, "-c", COMPILED],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    whole = {"compile_seconds": 1.0, "graphs": 1, "graph_breaks": 0, "recompiles": 1}
    broken = {"compile_seconds": 1.0, "graphs": 2, "graph_breaks": 1, "recompiles": 1}
    assert done.stdout.splitlines() == [f"False True {whole}", f"False True {broken}"]
