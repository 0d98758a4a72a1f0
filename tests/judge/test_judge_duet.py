"""The duet: who plays when, what a broken row costs the others, and one launch with real processes."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from visionbench.comparison.comparison import Launch, Side
from visionbench.judging import duet
from visionbench.judging.duet import Broken, Row, Stage, launch, timer_of
from visionbench.machine import environment
from visionbench.measuring.process.side import SideError, Source
from visionbench.record.record import Failure
from visionbench.record.spec import Spec

BASE, HEAD = Source(tree=Path("/base")), Source(tree=Path("/head"))

STAGE = Stage(baseline=BASE, candidate=HEAD, device="cpu", threads=1, timer="cpu", rounds=4)


def row(name: str) -> Row:
    side = Side(label=name, spec=Spec(model=f"user:zoo:{name}"))
    return Row(name=name, baseline=side, candidate=side)


ROWS = [row(name) for name in ("a", "b", "c")]


@pytest.mark.parametrize(
    ("device", "threads", "timer"),
    [("cpu", 1, "cpu"), ("cpu", 2, "wall"), ("cpu", None, "wall"), ("cuda", None, "device"), ("cuda:1", 1, "device")],
)
def test_the_clock_is_the_devices(device: str, threads: int | None, timer: str) -> None:
    assert timer_of(device, threads) == timer


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ONEDNN_DEFAULT_FPMATH_MODE", "BF16"),
        ("TORCHINDUCTOR_FREEZING", "1"),
        ("TORCHINDUCTOR_LAYOUT_OPTIMIZATION", "0"),
        ("TORCHINDUCTOR_CPP_GEMM_CACHE_BLOCKING", "4,8,16"),
        ("TORCHINDUCTOR_CPP_ENABLE_KERNEL_PROFILE", "1"),
        ("TORCH_COMPILE_OVERRIDE_INDUCTOR_CONFIGS", "max_autotune=True"),
    ],
)
def test_variables_that_change_a_cpus_numbers_are_said_of_a_launch(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for known in environment.CPU_VARIABLES:
        monkeypatch.delenv(known, raising=False)
    for aside in ("CACHE_DIR", "FX_GRAPH_CACHE", "FORCE_DISABLE_CACHES", "COMPILE_THREADS", "WORKER_LOGPATH"):
        monkeypatch.setenv(f"TORCHINDUCTOR_{aside}", "1")
    assert duet._surroundings(STAGE) == ()
    monkeypatch.setenv(name, value)
    assert duet._surroundings(STAGE) == ("variables_set",)
    assert environment.describe("cpu").variables == f"{name}={value}"


@pytest.mark.parametrize(
    ("seconds", "readings", "iterations"),
    [(1e-4, 4, 38), (0.002, 4, 2), (0.005, 3, 1), (0.01, 2, 1), (0.03, 1, 1), (10.0, 1, 1), (0.0, 4, 3_750_000)],
)
def test_a_turn_takes_about_as_long_whatever_the_model(seconds: float, readings: int, iterations: int) -> None:
    turn = duet._turn(seconds, "cpu")
    assert (turn["readings"], turn["iterations"], turn["drop"]) == (readings, iterations, 1)
    assert duet._turn(seconds, "cuda:1")["drop"] == 2


@pytest.mark.parametrize("seconds", [1e-6, 1e-4, 0.003, 0.01, 0.02, 0.3, 10.0])
def test_a_launch_of_a_row_takes_about_as_long_whatever_the_model(seconds: float) -> None:
    turn = duet._turn(seconds, "cpu")
    rounds = duet._rounds(turn, seconds)
    takes = rounds * 2 * (turn["drop"] + turn["readings"] * turn["iterations"]) * seconds
    assert duet.FEWEST_ROUNDS <= rounds <= duet.MOST_ROUNDS
    assert takes < 1.1 * duet.ROW_SECONDS or rounds == duet.FEWEST_ROUNDS
    assert takes > 0.9 * duet.ROW_SECONDS or rounds == duet.MOST_ROUNDS


def test_a_turns_value_is_the_clocks_own() -> None:
    heard = {"cpu": [3.0, 1.0, 2.0], "wall": [6.0, 4.0, 8.0], "device": [0.5, 0.25, 0.75]}
    assert [duet._value(heard, timer) for timer in ("cpu", "wall", "device")] == [1.0, 6.0, 0.5]
    assert duet._value(heard | {"device": []}, "device") == 6.0  # no such clock there
    assert duet._value(heard | {"cpu": [0.0]}, "cpu") > 0  # a logarithm is taken of it


@pytest.mark.parametrize(
    ("clocks", "differ"), [((1.0e9, 1.005e9), False), ((1.0e9, 1.02e9), True), ((1.0e9, None), False)]
)
def test_flags_of_both_sides_and_between_them(clocks: tuple[float, float | None], differ: bool) -> None:
    ends = [
        {"flags": ["noisy_env", "throttled"], "sm_clock": clocks[0]},
        {"flags": ["noisy_env"], "sm_clock": clocks[1]},
    ]
    assert duet._flags(ends) == ("noisy_env", "throttled", *(["clocks_differ"] if differ else []))


class FakeProcesses:
    """Sides without processes: `trouble(side, factory, order)` is None, or how the order ends for that side."""

    def __init__(self, trouble: Callable[[str, str, str], SideError | None] = lambda *_: None) -> None:
        self.trouble = trouble
        self.heard: list[tuple[str, str, dict[str, Any]]] = []
        self.pairs = self.open = 0

    def __call__(self, source: Source, device: str, threads: int | None, rng: random.Random) -> FakeSide:
        rng.randrange(4096)
        return FakeSide(self, "base" if source is BASE else "head")

    def seen(self, do: str) -> list[tuple[str, str]]:
        """Who was given that order for which model."""
        return [(side, factory) for side, factory, order in self.heard if order["do"] == do]


class FakeSide:
    def __init__(self, fake: FakeProcesses, side: str) -> None:
        self.fake, self.side, self.factory = fake, side, ""
        self.last: dict[str, Any] = {"do": "start"}

    def __enter__(self) -> FakeSide:
        self.fake.open += 1
        self.fake.pairs += self.side == "base"
        return self

    def __exit__(self, *_: object) -> None:
        self.fake.open -= 1

    def order(self, **order: Any) -> None:
        self.last = order
        self.factory = order.get("spec", {}).get("model", self.factory).split(":")[-1]
        self.fake.heard.append((self.side, self.factory, order))

    def answer(self, stage: str, seconds: float) -> dict[str, Any]:
        assert seconds >= 1
        trouble = self.fake.trouble(self.side, self.factory, self.last["do"])
        if trouble is not None:
            raise trouble
        value = 0.010 if self.side == "base" else 0.011
        return {
            "warm": {"seconds": value, "finite": True},
            "turn": {"cpu": (value, value + 1), "wall": (2 * value,), "device": []},
            "finish": {"flags": [], "sm_clock": None},
        }.get(self.last["do"], {"done": True})


def trouble(died: bool = False) -> SideError:
    return SideError(Failure(kind="crashed" if died else "error", stage="time", message="x"), died=died)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeProcesses]:
    def make(*arguments: Any) -> FakeProcesses:
        made = FakeProcesses(*arguments)
        monkeypatch.setattr(duet, "SideProcess", made)
        return made

    return make


def test_one_pair_plays_all_rows(fake: Callable[..., FakeProcesses]) -> None:
    processes = fake()
    played = launch(ROWS, STAGE, random.Random(0))
    assert sorted(played) == ["a", "b", "c"]
    assert len(processes.seen("prepare")) == 2 * len(ROWS)
    assert (processes.pairs, processes.open) == (1, 0)
    for came_of_it in played.values():
        assert isinstance(came_of_it, Launch)
        assert len(came_of_it.rounds) == STAGE.rounds
        assert {(one.baseline, one.candidate) for one in came_of_it.rounds} == {(0.010, 0.011)}
        assert {(one.baseline_wall, one.candidate_wall) for one in came_of_it.rounds} == {(0.020, 0.022)}


def test_both_sides_get_the_same_row_the_same_seed_and_the_same_core(fake: Callable[..., FakeProcesses]) -> None:
    processes = fake()
    played = launch(ROWS, STAGE, random.Random(0))
    for do in ("prepare", "warm", "turn", "finish"):
        by_side = {
            side: [{**order, "drop": 0} for who, _, order in processes.heard if who == side and order["do"] == do]
            for side in ("base", "head")
        }
        assert by_side["base"] == by_side["head"]
    bound = {tuple(order["cores"]) for _, _, order in processes.heard if order["do"] == "warm"}
    assert bound == {came_of_it.cores for came_of_it in played.values() if isinstance(came_of_it, Launch)}
    ((core,),) = bound
    assert core in os.sched_getaffinity(0)
    everywhere = {tuple(order["cores"]) for _, _, order in processes.heard if order["do"] == "prepare"}
    assert everywhere == {tuple(sorted(os.sched_getaffinity(0)))}  # building may use them all


def test_a_round_is_a_turn_of_each_and_either_may_begin(fake: Callable[..., FakeProcesses]) -> None:
    processes = fake()
    played = launch(ROWS[:1], replace(STAGE, rounds=40), random.Random(0))["a"]
    assert isinstance(played, Launch)
    turns = [side for side, _ in processes.seen("turn")]
    pairs = list(zip(turns[::2], turns[1::2], strict=True))
    assert [("base", "head") if one.first == "baseline" else ("head", "base") for one in played.rounds] == pairs
    assert min(Counter(pairs).values()) > 5


def test_all_that_is_drawn_comes_from_the_seed(fake: Callable[..., FakeProcesses]) -> None:
    heard = []
    for seed in (1, 1, 2):
        processes = fake()
        launch(ROWS, STAGE, random.Random(seed))
        heard.append(processes.heard)
    assert heard[0] == heard[1] != heard[2]


def test_a_gpus_sides_are_not_bound(fake: Callable[..., FakeProcesses]) -> None:
    processes = fake()
    played = launch(ROWS[:1], replace(STAGE, device="cuda", threads=None, timer="device"), random.Random(0))["a"]
    assert isinstance(played, Launch)
    assert played.cores == ()
    assert all(list(order["cores"]) == [] for _, _, order in processes.heard if "cores" in order)


@pytest.mark.parametrize("side", ["base", "head"])
@pytest.mark.parametrize("do", ["prepare", "warm", "turn", "finish"])
@pytest.mark.parametrize("died", [True, False])
def test_a_broken_row_takes_none_along(fake: Callable[..., FakeProcesses], side: str, do: str, died: bool) -> None:
    processes = fake(lambda *where: trouble(died) if where == (side, "b", do) else None)
    played = launch(ROWS, STAGE, random.Random(0))
    assert processes.pairs == (1 if list(played)[-1] == "b" else 2)  # a fresh pair for the rows that were left
    broken = played.pop("b")
    assert isinstance(broken, Broken)
    assert broken.side == {"base": "baseline", "head": "candidate"}[side]
    assert broken.failure == trouble(died).failure
    assert {type(one) for one in played.values()} == {Launch}
    assert processes.open == 0


def test_what_fails_on_both_sides_is_nobodys_fault(fake: Callable[..., FakeProcesses]) -> None:
    fake(lambda side, factory, do: trouble() if (factory, do) == ("b", "prepare") else None)
    broken = launch(ROWS, STAGE, random.Random(0))["b"]
    assert isinstance(broken, Broken)
    assert broken.side is None


def test_a_pair_that_does_not_start_breaks_all_rows_and_is_not_tried_again(fake: Callable[..., FakeProcesses]) -> None:
    processes = fake(lambda side, factory, do: trouble(died=True) if (side, do) == ("head", "start") else None)
    played = launch(ROWS, STAGE, random.Random(0))
    assert [one.side for one in played.values() if isinstance(one, Broken)] == ["candidate"] * 3
    assert (processes.pairs, processes.open) == (1, 0)


def test_a_ctrl_c_ends_the_pair(fake: Callable[..., FakeProcesses]) -> None:
    def interrupt(side: str, factory: str, do: str) -> None:
        if do == "prepare":
            raise KeyboardInterrupt

    processes = fake(interrupt)
    with pytest.raises(KeyboardInterrupt):
        launch(ROWS, STAGE, random.Random(0))
    assert processes.open == 0


# Real processes: two folders that are two revisions, and four models of which three go wrong in the newer one.
NET = """
import os, time
import torch
from torch import nn
from . import layers

class Net(nn.Module):
    def __init__(self, act=lambda calls: None):
        super().__init__()
        self.conv, self.act, self.calls = nn.Conv2d(3, 4, 3), act, 0
    def forward(self, x):
        self.calls += 1
        if layers.NEWER:
            self.act(self.calls)
        return self.conv(x)

def fine():
    return Net()

def dies():
    def act(calls):
        if calls > 400:
            os._exit(7)
    return Net(act)

def raises():
    def act(calls):
        if calls > 20:
            raise ValueError("only in the newer one")
    return Net(act)

def hangs():
    return Net(lambda calls: time.sleep(1000))
"""


@pytest.mark.slow
def test_a_launch_with_real_processes_that_die_raise_and_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, newer in (("base", False), ("head", True)):
        package = tmp_path / name / "src" / "duet_zoo"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "layers.py").write_text(f"NEWER = {newer}\n")
        (package / "net.py").write_text(NET)
    monkeypatch.chdir(tmp_path / "head")
    monkeypatch.syspath_prepend(str(tmp_path / "head" / "src"))  # as after `pip install -e .` in the working tree

    rows = []
    for factory in ("fine", "dies", "raises", "hangs"):
        side = Side(label=factory, spec=Spec(model=f"user:duet_zoo.net:{factory}", image_size=32))
        rows.append(Row(name=factory, baseline=side, candidate=side))
    stage = replace(
        STAGE,
        baseline=Source(tree=tmp_path / "base", repository=tmp_path / "head"),
        candidate=Source(tree=tmp_path / "head", repository=tmp_path / "head"),
        rounds=2,
        row_seconds=5.0,
    )
    played = launch(rows, stage, random.Random(0))

    fine = played.pop("fine")
    assert isinstance(fine, Launch), fine
    assert len(fine.rounds) == 2
    assert all(0 < value < 0.1 for one in fine.rounds for value in (one.baseline, one.candidate))
    assert {one.side for one in played.values() if isinstance(one, Broken)} == {"candidate"}
    found = {name: one.failure for name, one in played.items() if isinstance(one, Broken)}
    assert {name: one.kind for name, one in found.items()} == {"dies": "crashed", "raises": "error", "hangs": "timeout"}
    assert found["dies"].stage in ("warm-up", "time")
    assert "exit code 7" in found["dies"].message
    assert "only in the newer one" in found["raises"].message
    assert found["hangs"].stage == "build"
