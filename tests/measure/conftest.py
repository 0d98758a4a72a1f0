"""What the measuring tests share: a tiny protocol, and a directory of one's own with models of one's own in it."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from visionbench.record.spec import Protocol

FACTORIES = """
import os, signal, subprocess, sys, time
import torch
from torch import nn

def tiny():
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 10))

def slow():
    return Acts(lambda: time.sleep(0.002))

class Acts(nn.Module):
    '''A model whose forward does something else first.'''
    def __init__(self, act):
        super().__init__()
        self.act, self.model = act, tiny()
    def forward(self, images):
        self.act()
        return self.model(images)

def raises():
    def act():
        raise ValueError("first line\\n\\nsecond line\\nthird line")
    return Acts(act)

def nan():
    model = tiny()
    nn.init.constant_(model[2].weight, float("nan"))
    return model

class Recompiles(nn.Module):
    '''Every call has another number in it, which a compiler that is told not to generalise compiles anew.'''
    def __init__(self):
        super().__init__()
        self.model, self.calls = tiny(), 0
        self.scaled = torch.compile(lambda x, n: x * n, backend="eager", dynamic=False)
    def forward(self, images):
        self.calls += 1
        return self.scaled(self.model(images), self.calls)

def recompiles():
    return Recompiles()

class Unused(nn.Module):
    '''A model with a layer that its output does not depend on.'''
    def __init__(self):
        super().__init__()
        self.model, self.beside = tiny(), nn.Linear(3, 3)
    def forward(self, images):
        return self.model(images)

def unused():
    return Unused()

def frozen():
    return tiny().requires_grad_(False)

def second_rank_dies():
    return Acts(lambda: os.environ.get("RANK") == "1" and os.kill(os.getpid(), signal.SIGKILL))

def second_rank_hangs():
    return Acts(lambda: os.environ.get("RANK") == "1" and time.sleep(1000))

def second_rank_leaves():
    return Acts(lambda: os.environ.get("RANK") == "1" and os._exit(0))

def second_rank_exits():
    return Acts(lambda: os.environ.get("RANK") == "1" and sys.exit(0))

def second_rank_takes_all():
    return Acts(lambda: os.environ.get("RANK") == "1" and torch.empty(1 << 46, dtype=torch.uint8))

def second_rank_dies_later():
    calls = []
    def act():
        calls.append(None)
        if os.environ.get("RANK") == "1" and len(calls) == 8:
            os.kill(os.getpid(), signal.SIGKILL)
    return Acts(act)

def second_rank_fails():
    def act():
        if os.environ.get("RANK") == "1":
            raise ValueError("only here")
    return Acts(act)

def killed():
    return Acts(lambda: os.kill(os.getpid(), signal.SIGKILL))

def segfault():
    print("these were its last words", flush=True)
    return Acts(lambda: os.kill(os.getpid(), signal.SIGSEGV))

def hangs():
    return Acts(lambda: time.sleep(1000))

def hangs_with_offspring():
    def act():
        process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
        with open("pid", "w") as file:
            file.write(str(process.pid))
        time.sleep(1000)
    return Acts(act)

def leaves_offspring():
    def act():
        process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
        with open("pid", "w") as file:
            file.write(str(process.pid))
    return Acts(act)

def tells_its_pid_and_hangs():
    def act():
        with open("pid.new", "w") as file:
            file.write(str(os.getpid()))
        os.rename("pid.new", "pid")
        time.sleep(1000)
    return Acts(act)

def leaves_a_daemon():
    def act():
        if not os.path.exists("pid"):
            process = subprocess.Popen(["sleep", "600"], start_new_session=True)
            with open("pid", "w") as file:
                file.write(str(process.pid))
    return Acts(act)

def writes_to_every_descriptor():
    for number in range(3, 64):
        try:
            os.write(number, b"\\n[1, 2]\\n5\\n")
        except OSError:
            pass
    return tiny()

def prints_megabytes():
    return Acts(lambda: (print("x" * 4_000_000), print("y" * 4_000_000, file=sys.stderr)))

def prints_for_ever():
    def act():
        while True:
            print("z" * 10_000, flush=True)
            time.sleep(0.001)
    return Acts(act)

def exits():
    return Acts(lambda: sys.exit(3))

def exits_at_once():
    print("bye", flush=True)
    return Acts(lambda: os._exit(3))

def memory_error():
    def act():
        raise MemoryError
    return Acts(act)

def too_large():
    return Acts(lambda: torch.empty(2**55))

def interrupted():
    def act():
        raise KeyboardInterrupt
    return Acts(act)
"""


@pytest.fixture
def once() -> Protocol:
    """The shortest protocol: two warm-up iterations, one block of one."""
    return Protocol(name="once", warmup_iterations=2, blocks=1, block_iterations=1, max_seconds=60.0)


@pytest.fixture
def factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Change to a fresh directory with a module of factories; the answer turns a factory's name into a model's."""
    name = f"factories_{os.getpid()}_{tmp_path.name}".replace("-", "_").replace("[", "_").replace("]", "_")
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(FACTORIES))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return lambda factory: f"user:{name}:{factory}"
