"""One side of a paired run, from outside, with real processes: it answers, or it says how it ended; nothing is left."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from visionbench.measuring import rest
from visionbench.measuring.process import keeper, side_process
from visionbench.measuring.process import side as sides
from visionbench.measuring.process.side import SideError, SideProcess, Source
from visionbench.models import building
from visionbench.record.spec import Spec

ROOT = Path(__file__).parents[2]

Factories = Callable[[str], str]

START_SECONDS = 120.0

MODELS = """
import os, subprocess, sys, time
from torch import nn

class Acts(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.act = act
    def forward(self, x):
        self.act()
        return x

def plain():
    return nn.Flatten()

def tells():
    environ = os.environ
    drawn = environ["PYTHONHASHSEED"], len(environ["VISIONBENCH_PADDING"])
    raise ValueError(*drawn, environ["A_WORD"], os.getcwd())

def prints():
    return Acts(lambda: (print("x" * 1_000_000), print("y" * 1_000_000, file=sys.stderr)))

def dies_later():
    calls = []
    def act():
        calls.append(1)
        if len(calls) == 40:
            print("these were its last words", flush=True)
            os._exit(3)
    return Acts(act)

def hangs_with_offspring():
    def act():
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
        with open("pids.new", "w") as file:
            file.write(f"{os.getpid()} {child.pid}")
        os.rename("pids.new", "pids")
        time.sleep(1000)
    return Acts(act)

def leaves_a_daemon():
    def act():
        if not os.path.exists("daemon"):
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"], start_new_session=True)
            with open("daemon.new", "w") as file:
                file.write(str(child.pid))
            os.rename("daemon.new", "daemon")
    return Acts(act)

def is_killed_and_leaves_a_daemon_that_nothing_marks():
    def act():
        words = [sys.executable, "-c", "import time; time.sleep(1000)"]
        child = subprocess.Popen(words, start_new_session=True, env={})
        with open("daemon", "w") as file:
            file.write(str(child.pid))
        os.kill(os.getpid(), 9)
    return Acts(act)

def dies_and_leaves_a_daemon():
    inner = leaves_a_daemon()
    def act():
        inner.act()
        os._exit(3)
    return Acts(act)

def goes_on_between_turns():
    import threading
    def spin():
        while True:
            pass
    threading.Thread(target=spin, daemon=True).start()
    return nn.Flatten()

def takes_threads():
    import torch
    return Acts(lambda: torch.set_num_threads(3))

def leaves_offspring():
    def act():
        if not os.path.exists("pids"):
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
            with open("pids.new", "w") as file:
                file.write(f"{os.getpid()} {child.pid}")
            os.rename("pids.new", "pids")
    return Acts(act)
"""


def ended(pid: int) -> bool:
    """Wait until the process is gone, or has been waited for by nobody yet; False after a generous while."""
    for _ in range(400):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().split(")")[-1].split()[0]
        except OSError:
            return True
        if state in "ZX":
            return True
        time.sleep(0.05)
    return False


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with models, in which everything of this module happens."""
    folder, before = tmp_path_factory.mktemp("side"), Path.cwd()
    (folder / "side_models.py").write_text(MODELS)
    os.chdir(folder)
    yield folder
    os.chdir(before)


@pytest.fixture(scope="module")
def alive(room: Path) -> Iterator[SideProcess]:
    """A side that lives through all tests that do not kill it."""
    before = os.environ.get("A_WORD")
    os.environ["A_WORD"] = "hello"
    try:
        with SideProcess(Source(), "cpu", 1, random.Random(5)) as side:
            assert side.answer("start", START_SECONDS) == {"done": True}
            yield side
            pid = side._process.pid if side._process else 0
        assert ended(pid)
    finally:
        os.environ.pop("A_WORD") if before is None else os.environ.update(A_WORD=before)


def prepare(side: SideProcess, factory: str) -> dict[str, Any]:
    spec = asdict(Spec(model=f"user:side_models:{factory}", image_size=16))
    side.order(do="prepare", spec=spec, seed=0, cores=[])
    return side.answer("build", START_SECONDS)


def test_orders_are_answered_in_their_order(alive: SideProcess) -> None:
    assert prepare(alive, "plain") == {"done": True}
    alive.order(do="warm", cores=[])
    alive.order(do="turn", drop=0, readings=2, iterations=1)
    assert alive.answer("warm-up", 60.0)["seconds"] > 0
    assert len(alive.answer("time", 60.0)["cpu"]) == 2
    alive.order(do="finish")
    assert set(alive.answer("time", 60.0)) == {"flags", "sm_clock"}


def test_a_side_stands_where_its_caller_does_and_its_layout_is_drawn(alive: SideProcess, room: Path) -> None:
    with pytest.raises(SideError) as caught:
        prepare(alive, "tells")
    assert not caught.value.died
    assert caught.value.failure.stage == "build"
    rng = random.Random(5)
    padding, seed = rng.randrange(4096), rng.randrange(2**32)
    assert str((str(seed), padding, "hello", str(room))) in caught.value.failure.message


def test_what_is_printed_goes_nowhere(alive: SideProcess, capfd: pytest.CaptureFixture[str]) -> None:
    assert prepare(alive, "prints") == {"done": True}
    assert capfd.readouterr() == ("", "")


def test_an_order_that_there_is_not_is_refused(alive: SideProcess) -> None:
    alive.order(do="dance")
    with pytest.raises(SideError, match="dance"):
        alive.answer("time", 60.0)


def test_an_answer_that_takes_too_long_is_a_timeout(alive: SideProcess) -> None:
    with pytest.raises(SideError, match=r"stopped after 0\.1 s") as caught:
        alive.answer("time", 0.1)  # nothing was ordered
    assert caught.value.died
    assert caught.value.failure.kind == "timeout"


@pytest.mark.slow
def test_a_side_that_dies_in_its_turn_says_how(room: Path) -> None:
    with SideProcess(Source(), "cpu", 1, random.Random(0)) as side:
        side.answer("start", START_SECONDS)
        prepare(side, "dies_later")
        side.order(do="turn", drop=1, readings=8, iterations=100)
        with pytest.raises(SideError) as caught:
            side.answer("time", 60.0)
        side.order(do="finish")  # to nobody, and no matter
    failure = caught.value.failure
    assert caught.value.died
    assert (failure.kind, failure.stage) == ("crashed", "time")
    assert "exit code 3" in failure.message
    assert "its last words" in failure.message


def pids(room: Path) -> list[int]:
    while not (room / "pids").exists():
        time.sleep(0.05)
    found = [int(word) for word in (room / "pids").read_text().split()]
    (room / "pids").unlink()
    return found


@pytest.mark.slow
def test_leaving_a_side_ends_all_that_it_started(room: Path) -> None:
    with pytest.raises(KeyboardInterrupt), SideProcess(Source(), "cpu", 1, random.Random(0)) as side:  # noqa: PT012
        side.answer("start", START_SECONDS)
        assert prepare(side, "leaves_offspring") == {"done": True}
        side.order(do="prepare", spec=asdict(Spec(model="user:side_models:hangs_with_offspring")), seed=0, cores=[])
        first = pids(room)
        second = pids(room)
        raise KeyboardInterrupt
    assert first[0] == second[0]
    assert all(ended(pid) for pid in {*first, *second})


@pytest.mark.parametrize(
    "model",
    [
        "leaves_a_daemon",
        pytest.param("dies_and_leaves_a_daemon", marks=pytest.mark.slow),
        "is_killed_and_leaves_a_daemon_that_nothing_marks",
    ],
)
def test_a_daemon_with_a_session_of_its_own_ends_with_its_side(room: Path, model: str) -> None:
    (room / "daemon").unlink(missing_ok=True)
    with SideProcess(Source(), "cpu", 1, random.Random(0)) as side:
        side.answer("start", START_SECONDS)
        side.order(do="prepare", spec=asdict(Spec(model=f"user:side_models:{model}", image_size=16)), seed=0, cores=[])
        if model == "leaves_a_daemon":
            assert side.answer("build", START_SECONDS) == {"done": True}
        else:
            with pytest.raises(SideError, match="SIGKILL" if "killed" in model else "exit code 3"):
                side.answer("build", START_SECONDS)
        pid = int((room / "daemon").read_text())
    assert ended(pid)


@pytest.mark.slow
def test_threads_that_go_on_between_turns_are_flagged(room: Path) -> None:
    with SideProcess(Source(), "cpu", 1, random.Random(0)) as side:
        side.answer("start", START_SECONDS)
        for model, restless in (("plain", False), ("goes_on_between_turns", True)):
            assert prepare(side, model) == {"done": True}
            for _ in range(2):
                side.order(do="turn", drop=0, readings=1, iterations=1)
                side.answer("time", 60.0)
                time.sleep(0.5)  # the other side's turn
            side.order(do="turn", drop=0, readings=1, iterations=1)
            side.answer("time", 60.0)
            side.order(do="finish")
            assert ("busy_between_turns" in side.answer("time", 60.0)["flags"]) == restless


@pytest.mark.parametrize("goes_on", [False, True])
def test_threads_of_openmp_that_look_for_work_are_no_model_s(goes_on: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifteen of sixteen use 6 ms each after a turn, and the other side's turn lasts 20 ms."""
    clock = iter(n * 0.02 for n in range(100))
    spent = iter(n * 0.09 for n in range(100))
    monkeypatch.setattr(side_process.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(side_process.time, "process_time", lambda: next(spent))
    monkeypatch.setattr(rest, "flags", lambda threads: (rest.FLAG,) * goes_on if threads == 16 else ())
    resting = side_process._Rest(16)
    assert resting.flags() == ()  # it has had no turn
    for _ in range(10):
        resting.begin()
        resting.end()
    assert resting.flags() == (("busy_between_turns",) if goes_on else ())


def test_threads_of_torch_that_a_model_takes_are_refused(alive: SideProcess) -> None:
    with pytest.raises(SideError, match="threads"):
        prepare(alive, "takes_threads")


# An engine that is installed lies beside its own torch, which must not be the one of a side with its own environment.
POISON = "raise RuntimeError('this is the torch of the caller')"


@pytest.mark.slow
def test_a_side_with_an_environment_of_its_own_sees_nothing_of_the_callers(
    room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "caller" / "site-packages"
    installed.mkdir(parents=True)
    (installed / "visionbench").symlink_to(ROOT / "bench")
    (installed / "torch.py").write_text(POISON)
    monkeypatch.setattr(sides, "ROOT", installed)

    python = tmp_path / "own" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "own"], check=True)
    (packages,) = (tmp_path / "own" / "lib").glob("python*/site-packages")
    there = [entry for entry in sys.path if "site-packages" in entry or "dist-packages" in entry]
    (packages / "the_others.pth").write_text("\n".join(there))

    with SideProcess(Source(python=str(python)), "cpu", 1, random.Random(0)) as side:
        assert side.answer("start", START_SECONDS) == {"done": True}
        assert prepare(side, "plain") == {"done": True}


def test_a_python_that_cannot_start_the_engine_is_a_failure(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho no torch here >&2\nexit 1\n")
    python.chmod(0o755)
    with (
        SideProcess(Source(python=str(python)), "cpu", 1, random.Random(0)) as side,
        pytest.raises(SideError) as caught,
    ):
        side.answer("start", START_SECONDS)
    assert caught.value.died
    assert "exit code 1, without a result; it printed: no torch here" in caught.value.failure.message


# A gate that is killed has no time to end anybody.
PROGRAM = """
    import random, sys, time
    sys.path.insert(0, {root!r})
    from visionbench.measuring.process.side import SideProcess, Source
    with SideProcess(Source(), "cpu", 1, random.Random(0)) as side:
        print(side._process.pid, flush=True)
        time.sleep(1000)
"""


@pytest.mark.slow
def test_a_side_does_not_outlive_its_caller(room: Path) -> None:
    words = [sys.executable, "-c", textwrap.dedent(PROGRAM).format(root=str(ROOT))]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.kill()
    assert ended(pid)


OWN = "models"  # a user's package, called like a folder of ours

OWN_MODELS = f"""
from torch import nn
import {OWN}, {OWN}.layers, visionbench.models.building

def plain():
    return nn.Flatten()

def tells():
    raise ValueError({OWN}.layers.__file__, visionbench.models.building.__file__)
"""


def told(tree: Path, repository: Path, module: str) -> str:
    """What a factory `tells` of that module says on a side with that tree; its factory `plain` is measured first."""
    with SideProcess(Source(tree=tree, repository=repository), "cpu", 1, random.Random(0)) as side:
        side.answer("start", START_SECONDS)
        for factory in ("plain", "tells"):
            side.order(
                do="prepare", spec=asdict(Spec(model=f"user:{module}:{factory}", image_size=16)), seed=0, cores=[]
            )
            if factory == "plain":
                assert side.answer("build", START_SECONDS) == {"done": True}
        with pytest.raises(SideError) as caught:
            side.answer("build", START_SECONDS)
    return caught.value.failure.message


@pytest.mark.slow
def test_a_users_own_models_are_the_sides_and_visionbenchs_are_the_engines(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "models").mkdir(parents=True)
        (tmp_path / name / "models" / "__init__.py").touch()
        (tmp_path / name / "models" / "layers.py").touch()
        (tmp_path / name / "models" / "net.py").write_text(OWN_MODELS)
    message = told(tmp_path / "a", tmp_path / "b", "models.net")
    assert f"{tmp_path}/a/models/layers.py" in message
    assert str(Path(building.__file__)) in message


@pytest.mark.slow
def test_of_a_checkout_of_visionbench_the_sides_models_are_measured(tmp_path: Path) -> None:
    tree = tmp_path / "a"
    shutil.copytree(ROOT / "models", tree / "models", ignore=shutil.ignore_patterns("__pycache__"))
    (tree / "bench" / "record").mkdir(parents=True)
    (tree / "bench" / "record" / "spec.py").touch()
    (tree / "net.py").write_text(
        OWN_MODELS.replace("models, models.layers, ", "").replace("models.layers.__file__, ", "")
    )
    assert f"{tree}/models/building.py" in told(tree, ROOT, "net")


def test_a_second_signal_does_not_end_the_keepers_cleaning() -> None:
    usual = signal.signal(signal.SIGTERM, keeper._stop)
    try:
        with pytest.raises(keeper._Stopped):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)  # it would end this test
    finally:
        signal.signal(signal.SIGTERM, usual)
