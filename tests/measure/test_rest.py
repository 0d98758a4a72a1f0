"""A model whose threads or processes go on computing between its steps is flagged, however busy the machine is."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest

from visionbench.measuring import rest, worker
from visionbench.record.flags import FLAGS, time_doubts
from visionbench.record.spec import Protocol, Spec

RESTLESS = """
import subprocess, sys, threading
from torch import nn

def net():
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 10))

def until_told(stop):
    while not stop.is_set():
        pass

STOP = threading.Event()

def thread_from_the_start():
    STOP.clear()
    threading.Thread(target=until_told, args=[STOP], daemon=True).start()
    return net()

class ThreadOfEachStep(nn.Module):
    def __init__(self):
        super().__init__()
        self.net, self.thread = net(), None
    def forward(self, images):
        if self.thread is None:
            STOP.clear()
            self.thread = threading.Thread(target=until_told, args=[STOP], daemon=True)
            self.thread.start()
        return self.net(images)

def thread_of_the_first_step():
    return ThreadOfEachStep()

def waits():
    threading.Thread(target=STOP.wait, args=[60], daemon=True).start()
    return net()
"""


def asked(used: Sequence[float], threads: int | None = 1) -> tuple[tuple[str, ...], int]:
    """The flags of a process that uses these CPU seconds in each of its rests of 1 s, and the rests it was given."""
    clock, spent, rests = itertools.count(), [0.0, *itertools.accumulate(used)], []

    def cpu_now() -> float:
        return spent[len(rests)]

    flags = rest.flags(threads, now=lambda: float(next(clock)), cpu_now=cpu_now, sleep=rests.append)
    return flags, len(rests)


@pytest.mark.parametrize(
    ("used", "busy", "rests"),
    [
        ([0.0], False, 1),
        ([0.04], False, 1),
        ([1.0, 0.2, 0.0], False, 3),  # OpenMP's threads look for work for a while
        ([0.06] * rest.RESTS, True, rest.RESTS),
        ([3.0] * rest.RESTS, True, rest.RESTS),
        ([0.3] * (rest.RESTS - 1) + [0.001], False, rest.RESTS),
    ],
)
def test_only_a_process_that_is_busy_in_every_rest_is_flagged(used: list[float], busy: bool, rests: int) -> None:
    assert asked(used) == ((rest.FLAG,) if busy else (), rests)


@pytest.mark.parametrize(
    ("variable", "value"), [("OMP_WAIT_POLICY", "ACTIVE"), ("KMP_BLOCKTIME", "infinite"), ("GOMP_SPINCOUNT", "1e9")]
)
def test_threads_that_the_user_told_never_to_sleep_are_no_model_s(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    busy = [1.0] * rest.RESTS
    assert asked(busy, threads=2) == ((), 0)
    assert asked(busy, threads=None) == ((), 0)
    assert asked(busy, threads=1)[0] == (rest.FLAG,)  # a pool of one has nobody who waits


def until_used(cpu_now: Callable[[], float], seconds: float) -> Callable[[float], None]:
    """A rest that lasts until the process has used that much CPU time: on a busy machine longer than elsewhere."""

    def sleep(_: float) -> None:
        goal, end = cpu_now() + seconds, time.monotonic() + 60
        while cpu_now() < goal and time.monotonic() < end:
            time.sleep(0.002)

    return sleep


@pytest.mark.parametrize("factory", ["thread_from_the_start", "thread_of_the_first_step", "waits"])
def test_a_model_s_own_threads_are_flagged_in_its_record(
    factory: str, tmp_path: Path, once: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "restless.py").write_text(RESTLESS)
    monkeypatch.chdir(tmp_path)
    busy, clock = factory != "waits", itertools.count()
    if busy:
        given = until_used(time.process_time, 0.02)
        played = partial(rest.flags, now=lambda: 0.05 * next(clock), cpu_now=time.process_time, sleep=given)
        monkeypatch.setattr(rest, "flags", played)
    record = worker.measure(Spec(model=f"user:restless:{factory}", image_size=16), once, "cpu", 1)
    sys.modules.pop("restless").STOP.set()
    assert record.failure is None
    throughput = record.get("throughput")
    assert throughput is not None
    assert (rest.FLAG in throughput.flags) == busy
    assert (rest.FLAG in time_doubts(record)) == busy
    assert rest.FLAG in FLAGS


def test_a_child_that_computes_counts_as_its_parent() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as child:
        try:
            before, end = rest._cpu_seconds(), time.monotonic() + 60
            own = time.process_time()
            while rest._cpu_seconds() - before < 0.2 and time.monotonic() < end:
                time.sleep(0.01)
            assert rest._cpu_seconds() - before >= 0.2
            assert time.process_time() - own < rest._cpu_seconds() - before
        finally:
            child.kill()
