"""Two processes that train one network together by gloo: what torch promises of DDP, and what we make of it."""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import psutil
import pytest
import torch
from torch import nn

from visionbench.machine.support import UnsupportedError
from visionbench.measuring import together
from visionbench.measuring.metrics import scaling
from visionbench.measuring.process import rank_processes
from visionbench.measuring.process.fork_server import PRELOAD
from visionbench.measuring.process.launch import launch
from visionbench.measuring.process.rank_processes import Answers, Tell, run_together
from visionbench.measuring.ranks import Ranks, join
from visionbench.measuring.replicas import checked_at_first, wrapped
from visionbench.measuring.workload import build
from visionbench.record.efficiency import (
    communication_efficiency,
    exposed_seconds,
    images_per_second_of_all,
    scaling_efficiency,
    slowest_rank,
)
from visionbench.record.record import Record
from visionbench.record.spec import Protocol, Spec
from visionbench.record.statistics import images_per_second

SECONDS = 60.0
PROTOCOL = Protocol(
    name="tiny", metrics=("throughput",), warmup_iterations=2, blocks=3, block_iterations=2, max_seconds=SECONDS
)

Task = Callable[[Ranks], object]


def _joined(task: Task, _rank: int, listener: int | None, _tell: Tell) -> str:
    torch.set_num_threads(1)  # a pool of threads does not survive a fork
    ranks = join("cpu", SECONDS, listener)
    answer = json.dumps(task(ranks))
    ranks.leave()
    return answer


def _of_two(task: Task) -> list[object]:
    """What each of two ranks made of the task."""
    answers = run_together(partial(_joined, task), 2, seconds=SECONDS)
    assert answers == Answers(texts=answers.texts), answers
    return [json.loads(text or "") for text in answers.texts]


def _spec(model: str, parallel: str = "ddp", **fields: object) -> Spec:
    return Spec(model=model, task="train", batch_size=2, image_size=8, processes=2, parallel=parallel, **fields)


@pytest.fixture(autouse=True, scope="module")
def preloaded():
    """What the fork server imports before it forks, or every rank of every test would."""
    for name in PRELOAD:
        importlib.import_module(name)


@pytest.fixture(autouse=True)
def little_grace(monkeypatch):
    monkeypatch.setattr(rank_processes, "GRACE", 0.3)


def _net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 5), nn.ReLU(), nn.Linear(5, 3))


def _gradients(parallel: str, ranks: Ranks) -> dict[str, list[float]]:
    model, alone = _net(), _net()
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(ranks.rank))
    together_ = wrapped(model, _spec("any", parallel), ranks, "cpu")
    for network in (alone, together_):
        network(images).square().sum().backward()
    first = {"own": alone, "averaged": model}
    return {name: torch.cat([p.grad.flatten() for p in net.parameters()]).tolist() for name, net in first.items()}


@pytest.mark.parametrize("parallel", ["ddp", "ddp_views"])
def test_gradients_are_the_mean_of_the_ranks(parallel):
    ranks = [{k: torch.tensor(v) for k, v in r.items()} for r in _of_two(partial(_gradients, parallel))]
    mean = (ranks[0]["own"] + ranks[1]["own"]) / 2
    assert not torch.equal(ranks[0]["own"], ranks[1]["own"]), "both ranks had one batch"
    for rank in ranks:
        torch.testing.assert_close(rank["averaged"], mean)


def _equality(model: str, ranks: Ranks) -> list[bool]:
    workload = build(_spec(model), "cpu", threads=1, ranks=ranks)
    turns = workload.in_turns
    equal = [turns.equal()]
    for step in (workload.step, workload.step, turns.unsynchronised):
        step()
        equal.append(turns.equal())
    workload.close()
    return equal


def test_replicas_stay_equal_until_a_step_without_synchronisation(factories):
    assert _of_two(partial(_equality, factories("tiny"))) == [[True, True, True, False]] * 2


def _clock(ranks: Ranks) -> list[float]:
    readings = []
    for number in range(3):
        time.sleep(0.05 * (ranks.rank == number % 2))
        readings.append(ranks.now())
    return [*readings, float(ranks.any(ranks.rank == 1)), float(ranks.any(False))]


def test_all_ranks_read_one_clock_which_waits_for_the_last(factories):
    first, second = _of_two(_clock)
    assert first == second
    assert first[1] - first[0] >= 0.05
    assert first[3:] == [1.0, 0.0]


def _measured(model: str, seconds: float = SECONDS) -> Record:
    return together.measure(_spec(model), PROTOCOL, "cpu", 1, seconds, lambda _: None)


@pytest.fixture
def record(factories):
    return _measured(factories("tiny"))


def test_a_launch_of_two_processes_is_one_record_of_blocks_in_turns(record):
    assert record.failure is None
    assert (record.environment.communication, record.environment.nccl) == ("gloo", None)
    lengths = {m.metric: len(m.values) for m in record.measurements}
    names = ("throughput", scaling.UNSYNCHRONISED, scaling.ALONE, "rank_time.0", "rank_time.1")
    assert [lengths[name] for name in names] == [3] * 5
    assert "rank_time" not in lengths
    rate = images_per_second(record)
    assert images_per_second_of_all(record) == 2 * rate
    assert scaling_efficiency(record) > 0
    assert communication_efficiency(record) > 0
    assert isinstance(exposed_seconds(record), float)
    assert slowest_rank(record)[0] in (0, 1)
    assert record.spec.processes == 2
    assert scaling.REPLICAS_DIFFER not in record.get("throughput").flags


def test_the_process_that_forks_the_ranks_asks_nothing_of_a_gpu_before(factories, monkeypatch):
    asked, describe = [], together._environment
    monkeypatch.setattr(together, "_environment", lambda *words: asked.append(words) or describe(*words))
    assert _measured(factories("tiny")).failure is None
    assert asked == [], "CUDA would be awake in the process that is forked"


@pytest.mark.parametrize(
    ("factory", "kind", "words"),
    [
        ("unused", "unsupported", "2 parameters get no gradient (beside.weight, beside.bias), and DDP says"),
        ("frozen", "unsupported", "it has nothing to train: every parameter is frozen"),
        ("raises", "error", "ValueError: first line second line"),
    ],
)
def test_what_ddp_refuses_is_a_failure_that_says_why(factories, factory, kind, words):
    record = _measured(factories(factory))
    assert record.failure is not None
    assert record.failure.kind == kind
    assert words in record.failure.message


@pytest.mark.parametrize(
    ("factory", "seconds", "kind", "message"),
    [
        ("second_rank_dies", SECONDS, "crashed", "rank 1 of 2 killed (SIGKILL)"),
        ("second_rank_fails", SECONDS, "error", "rank 1 of 2: ValueError: only here"),
        ("second_rank_leaves", SECONDS, "crashed", "rank 1 of 2 ended with exit code 0, without a result"),
        ("second_rank_exits", SECONDS, "crashed", "rank 1 of 2: the model left the process by sys.exit(0)"),
        ("second_rank_takes_all", SECONDS, "out_of_memory", "rank 1 of 2: RuntimeError: [enforce fail"),
        ("second_rank_dies_later", SECONDS, "crashed", "rank 1 of 2 killed (SIGKILL)"),
        pytest.param("second_rank_hangs", 4.0, "timeout", "stopped after 3.6 s: rank 0 at ", marks=pytest.mark.slow),
    ],
)
def test_a_rank_that_dies_fails_or_hangs_is_a_failure_within_the_limit(factories, factory, seconds, kind, message):
    began, others = time.monotonic(), set(psutil.Process().children())
    record = _measured(factories(factory), seconds)
    assert record.failure is not None
    assert record.failure.kind == kind
    assert kind == "timeout" or (record.failure.stage == "first call") is not factory.endswith("later")
    assert message in record.failure.message
    assert (record.spec.processes, record.environment.communication) == (2, "gloo")
    assert time.monotonic() - began < seconds + 5.0
    assert set(psutil.Process().children()) <= others, "a rank outlived the launch"


@pytest.mark.slow
def test_ranks_are_forked_by_a_launch_and_end_with_it(factories):
    record = launch(_spec(factories("tiny"), "ddp_views"), PROTOCOL, "cpu", 1)
    assert record.failure is None
    assert scaling_efficiency(record) is not None
    hung = launch(_spec(factories("second_rank_hangs")), replace(PROTOCOL, max_seconds=8.0), "cpu", 1)
    assert hung.failure is not None
    assert (hung.failure.kind, hung.failure.stage) == ("timeout", "first call")
    pythons = [child for child in psutil.Process().children() if "python" in child.name()]
    assert not [child for python in pythons for child in python.children()], "the fork server has children left"


class Asked(nn.Linear):
    """A layer that counts how often its parameters are walked through."""

    times = 0

    def named_parameters(self, *words, **options):
        self.times += 1
        return super().named_parameters(*words, **options)


def test_only_a_first_step_walks_through_the_parameters_and_refusing_is_not_once() -> None:
    layer = Asked(3, 2)

    def step() -> torch.Tensor:
        loss = layer(torch.ones(1, 3)).sum()
        loss.backward()
        return loss

    checked = checked_at_first(step, layer)
    for _ in range(3):
        checked()
    assert layer.times == 1

    idle = checked_at_first(lambda: torch.zeros(()), Asked(3, 2))
    for _ in range(2):
        with pytest.raises(UnsupportedError, match="2 parameters get no gradient"):
            idle()
