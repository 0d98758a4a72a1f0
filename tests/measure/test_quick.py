"""A quick number: torch is imported once and without its compiler, and one launch says how far it can be trusted."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from visionbench.command.runs_table import crowded, launch_seconds, spreads
from visionbench.record.metrics import measurement
from visionbench.record.record import Environment, Record
from visionbench.record.spec import QUICK, Spec
from visionbench.record.statistics import scatter_factor
from visionbench.reports.results import runs

ROOT = Path(__file__).parents[2]
CPU = Environment(device_type="cpu", device_name="a CPU", threads=2)


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_light_server_leaves_the_compiler_away_until_it_is_used() -> None:
    """In the parent and in its fork, which is told apart from a new interpreter by sharing its imports."""
    out = python(
        "import sys\n"
        "from visionbench.measuring.process import fork_server\n"
        "from visionbench.measuring.process.light import without_compiler\n"
        "server = fork_server.ForkServer()\n"
        "server.start(own=True, light=True)\n"
        "print(type(server._process).__name__, 'torch._dynamo' in sys.modules, 'timm' in sys.modules)\n"
        "import torch\n"
        "print(sorted(m for m in sys.modules if m.startswith('torch._dynamo')))\n"
        "layer = torch.nn.Linear(1, 1)\n"
        "compiled = torch.compile(layer, backend='eager')\n"
        "print(compiled(torch.ones(1, 1)).shape == (1, 1), 'torch._dynamo.utils' in sys.modules)\n"
        "server.stop()\n"
        "print(server._process)\n"
    )
    assert out.splitlines() == ["_Fork False True", "[]", "True True", "None"]


USES = (
    "from torch._dynamo.utils import is_compile_supported as f; assert not real(); f('cpu'); assert real()",
    "from torch._dynamo.utils import counters; assert counters is not None",
    "import torch._dynamo.config as config; assert config.verbose in (True, False)",
    "torch._dynamo.reset()",
    "f = torch.compiler.disable(lambda x: x + 1); assert not real(); assert f(1) == 2",
    "f = torch.compiler.disable(lambda x: x + 1, recursive=False); assert f(1) == 2",
)


@pytest.mark.slow
def test_whoever_asks_the_stand_in_gets_what_the_compiler_has() -> None:
    """Each way of asking in a fork, so that torch is imported once."""
    out = python(
        "import os, sys, torch\n"
        "from visionbench.measuring.process.light import without_compiler\n"
        "real = lambda: 'torch._dynamo.symbolic_convert' in sys.modules\n"
        f"for use in {USES!r}:\n"
        "    if os.fork() == 0:\n"
        "        with without_compiler():\n"
        "            exec(use)\n"
        "        import torch._dynamo.utils\n"
        "        assert torch._dynamo.utils.counters is not None and real()\n"
        "        print('yes', flush=True)\n"
        "        os._exit(0)\n"
        "    assert os.wait()[1] == 0, use\n"
    )
    assert out.split() == ["yes"] * len(USES)


def test_a_process_with_torch_or_with_threads_is_not_forked() -> None:
    out = python(
        "import sys, threading, types\n"
        "from visionbench.measuring.process.fork_server import _is_untouched\n"
        "print(_is_untouched())\n"
        "stop = threading.Event()\n"
        "thread = threading.Thread(target=stop.wait)\n"
        "thread.start()\n"
        "print(_is_untouched())\n"
        "stop.set(), thread.join()\n"
        "sys.modules['torch'] = types.ModuleType('torch')\n"
        "print(_is_untouched())\n"
    )
    assert out.split() == ["True", "False", "False"]


def launch(*blocks: float, flags: tuple[str, ...] = (), model: str = "timm:resnet18") -> Record:
    values = (
        measurement("throughput", blocks, iterations=4, warmups=10, flags=flags),
        measurement("first_call", (0.25,)),
    )
    return Record(spec=Spec(model=model), protocol=QUICK, environment=CPU, measurements=values, source="measured")


def test_one_launch_says_how_steady_it_was_and_what_more_would_take() -> None:
    record = launch(*(0.1 + number / 1000 for number in range(10)))
    [sentence] = spreads([record])
    # The interval of a median of ten is from the second to the ninth value, 0.101 and 0.108 s for four images.
    assert "38.3 img/s is of one launch; the median of its 10 blocks is in [37.0, 39.6] (95 %)" in sentence
    assert launch_seconds(record) == pytest.approx(0.5 + 1.045 + 10 * 0.025 + 0.25)
    assert "--launches 7 takes about 12.3 s more" in sentence


def test_nothing_is_said_of_several_launches_few_blocks_and_failures() -> None:
    assert list(spreads([launch(*[0.1] * 10), launch(*[0.2] * 10)])) == []
    assert list(spreads([launch(*[0.1] * 5)])) == []
    assert list(spreads([replace(launch(0.1), measurements=())])) == []
    assert len(list(spreads([launch(*[0.1] * 10), launch(*[0.2] * 10, model="timm:resnet50")]))) == 2


def test_one_thread_is_proposed_where_others_want_the_cores() -> None:
    busy = launch(0.1, flags=("busy_machine",))
    assert "--threads 1" in crowded([launch(0.1), busy], None)
    assert "--threads 1" in crowded([launch(0.1, flags=("noisy_env",))], 2)
    assert crowded([launch(0.1, flags=("scattered",))], None) == ""
    assert crowded([busy], 1) == ""
    assert crowded([replace(busy, environment=replace(CPU, threads=1))], None) == ""
    assert crowded([replace(busy, environment=replace(CPU, device_type="cuda"))], None) == ""


def test_blocks_that_differ_by_a_factor_are_doubtful_in_the_cell() -> None:
    steady, wild = launch(*[0.1, 0.101] * 5), launch(*[0.1, 0.25] * 5, model="timm:resnet50")
    stalled = launch(*[0.1] * 9, 0.9, model="timm:vgg16")  # one block in ten: its median is a speed
    apart = [launch(*[seconds] * 10, model="timm:vgg19") for seconds in (0.1, 0.1, 0.3, 0.3)]
    assert scatter_factor([steady]) is None
    assert scatter_factor([stalled]) is None
    assert scatter_factor([]) is None
    assert scatter_factor([launch(0.1, 0.9)]) is None  # two blocks have no quarters
    assert scatter_factor([steady, wild]) == pytest.approx(2.5)
    assert scatter_factor(apart) == pytest.approx(3.0)
    [_, sure], [_, doubtful], [_, disturbed], [_, split] = (
        [row.cells[0].text, next(cell for cell in row.cells if cell.source == "measured")]
        for row in runs.layout([steady, wild, stalled, *apart]).rows
    )
    assert "?" not in sure.text + disturbed.text
    assert doubtful.text.endswith(" ?")
    assert split.text.endswith(" ?")
    assert doubtful.notes[0] == "?: its blocks or launches differ by a factor of 2.5."
    assert isinstance(doubtful.value, float)
