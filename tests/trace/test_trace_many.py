"""Many networks are counted over all cores: the same counts in the same order, and what one breaks is its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from visionbench.command.verbs import trace
from visionbench.record import store
from visionbench.record.record import Environment, Record
from visionbench.record.spec import Spec
from visionbench.tracing import apart as room
from visionbench.tracing.apart import forks

ROWS = [
    Spec(model="timm:resnet18", image_size=size, task=task, batch_size=2)
    for task in ("inference", "train")
    for size in (32, 64, 96, 128)
]


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "cores", lambda: 2)
    monkeypatch.setattr(trace, "MANY", 2)


@pytest.mark.usefixtures("two_cores")
def test_counts_over_two_cores_are_those_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    over_two = trace.count_missing(ROWS, [], tmp_path / "two.jsonl")
    monkeypatch.setattr(room, "cores", lambda: 1)
    monkeypatch.setattr(room, "forks", lambda most: pytest.fail("one core needs no children"))
    in_one = trace.count_missing(ROWS, [], tmp_path / "one.jsonl")
    assert [record.spec for record in over_two] == ROWS
    assert [record.measurements for record in over_two] == [record.measurements for record in in_one]
    assert [record.spec for record in store.read(tmp_path / "two.jsonl").records] == ROWS


@pytest.mark.usefixtures("two_cores")
def test_a_network_that_cannot_be_counted_is_said_once_and_the_others_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [*ROWS[:2], Spec(model="timm:no_such_network"), *ROWS[2:4]]
    records = trace.count_missing(rows, [], tmp_path / "r.jsonl")
    assert [record.failure is None for record in records] == [True, True, False, True, True]
    assert capsys.readouterr().err.count("no_such_network@") == 1


def _count_or_die(spec: Spec, environment: Environment) -> Record:
    if spec == ROWS[2]:
        os.kill(os.getpid(), signal.SIGKILL)
    return _count(spec, environment)


_count = trace._count


@pytest.mark.usefixtures("two_cores")
def test_one_that_kills_its_process_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "_count", _count_or_die)
    records = trace.count_missing(ROWS[:6], [], tmp_path / "r.jsonl")
    assert [record.spec for record in records if record.failure] == [ROWS[2]]
    assert len(records) == 6


def _count_in_the_parent(spec: Spec, environment: Environment) -> Record:
    if multiprocessing.parent_process() is not None:
        return trace._failed(spec, environment, ValueError(f"Unable to handle {room.NO_AUTOGRAD}."))
    return _count(spec, environment)


@pytest.mark.usefixtures("two_cores")
def test_where_children_cannot_train_the_parent_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "_count", _count_in_the_parent)
    assert not any(record.failure for record in trace.count_missing(ROWS[:3], [], tmp_path / "r.jsonl"))


def test_a_pool_that_is_left_by_an_exception_waits_for_nobody() -> None:
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        _interrupted()
    assert time.monotonic() - began < 30


def _interrupted() -> None:
    with forks(2) as pool:
        pool.submit(time.sleep, 60)
        raise KeyboardInterrupt


ORPHANS = """
import os, signal, time
from visionbench.tracing.apart import forks
with forks(2) as pool:
    pool.submit(time.sleep, 60)
    print(pool.submit(os.getpid).result() if len(pool._processes) > 1 else list(pool._processes)[0], flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the kernel watches no parents")
def test_children_end_with_a_parent_that_is_killed() -> None:
    ran = subprocess.run([sys.executable, "-c", ORPHANS], stdout=subprocess.PIPE, text=True, timeout=60)
    child = int(ran.stdout)
    until = time.monotonic() + 20
    with suppress(psutil.NoSuchProcess):  # it may end between any two looks
        while psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < until
            time.sleep(0.05)
