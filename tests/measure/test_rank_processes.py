"""Processes that work together, without torch: they are forked, heard, and ended together, whatever becomes of them."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest

from visionbench.measuring.process import exit_status, rank_processes
from visionbench.measuring.process.rank_processes import Tell, root_cause, run_together
from visionbench.record.errors import BenchError
from visionbench.record.record import Failure

LONG = 60.0
"""Seconds that no test waits for: what ends before was ended."""


@pytest.fixture(autouse=True)
def little_grace(monkeypatch):
    monkeypatch.setattr(rank_processes, "GRACE", 0.1)


def _work(folder: Path, do: Callable[[int, Tell], str], rank: int, _listener: int | None, tell_stage: Tell) -> str:
    (folder / f"{rank}.pid").write_text(str(os.getpid()))
    return do(rank, tell_stage)


def _pids(folder: Path) -> list[int]:
    return [int(file.read_text()) for file in folder.glob("*.pid")]


def _contract(_rank: int, _tell: Tell) -> str:
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    return json.dumps({name: os.environ[name] for name in names})


def test_every_rank_has_torchruns_contract_and_they_share_one_port(tmp_path):
    answers = run_together(partial(_work, tmp_path, _contract), 3, seconds=LONG)
    assert (answers.failure, answers.mistake) == (None, None)
    told = [json.loads(text or "") for text in answers.texts]
    assert [(one["RANK"], one["LOCAL_RANK"], one["WORLD_SIZE"]) for one in told] == [
        ("0", "0", "3"), ("1", "1", "3"), ("2", "2", "3"),
    ]  # fmt: skip
    assert len({(one["MASTER_ADDR"], one["MASTER_PORT"]) for one in told}) == 1


def _first_at_work(rank: int, tell_stage: Tell) -> str:
    tell_stage("build")
    if rank == 0:
        tell_stage("time")
    return "done"


def test_a_launch_is_at_the_stage_of_its_last_rank(tmp_path):
    stages: list[str] = []
    run_together(partial(_work, tmp_path, _first_at_work), 2, seconds=LONG, tell_stage=stages.append)
    assert stages[-1] == "build"


def _dies(how: str, rank: int, tell_stage: Tell) -> str:
    tell_stage("warm-up")
    if rank == 1:
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        elif how == "asked to end":
            os.kill(os.getpid(), signal.SIGTERM)
        elif how == "leaves":
            os._exit(3)
        raise ValueError("nobody catches this")
    time.sleep(LONG)
    return "never"


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("killed", r"rank 1 of 3 killed \(SIGKILL\)"),
        ("asked to end", "rank 1 of 3 died of SIGTERM"),
        ("leaves", "rank 1 of 3 ended with exit code 3"),
        ("raises", "rank 1 of 3 ended with exit code 1"),
    ],
)
def test_a_rank_that_dies_is_the_failure_and_the_others_end(tmp_path, how, message):
    answers = run_together(partial(_work, tmp_path, partial(_dies, how)), 3, seconds=LONG)
    assert answers.failure is not None
    assert (answers.failure.kind, answers.failure.stage) == ("crashed", "warm-up")
    assert re.search(message, answers.failure.message), answers.failure.message
    assert not any(psutil.pid_exists(pid) for pid in _pids(tmp_path))


def _taken_by_the_kernel(counter: Path, rank: int, _tell: Tell) -> str:
    if rank == 1:
        counter.write_text("oom_kill 1\n")
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(LONG)
    return "never"


def test_a_rank_that_the_kernel_killed_for_memory_ran_out_of_it(tmp_path, monkeypatch):
    counter = tmp_path / "counter"
    counter.write_text("oom_kill 0\n")
    monkeypatch.setattr(exit_status, "COUNTERS", (counter,))
    answers = run_together(partial(_work, tmp_path, partial(_taken_by_the_kernel, counter)), 2, seconds=LONG)
    assert answers.failure is not None
    assert answers.failure.kind == "out_of_memory"
    assert answers.failure.message.startswith("rank 1 of 2 killed (SIGKILL) by the kernel")
    assert not any(psutil.pid_exists(pid) for pid in _pids(tmp_path))


def _hangs(rank: int, tell_stage: Tell) -> str:
    tell_stage("build")
    if rank == 0:
        tell_stage("first call")
    time.sleep(LONG)
    return "never"


def test_ranks_that_hang_are_a_timeout_that_says_where_each_was(tmp_path):
    answers = run_together(partial(_work, tmp_path, _hangs), 2, seconds=0.5)
    assert answers.failure == Failure(
        kind="timeout", stage="build", message="stopped after 0.5 s: rank 0 at first call, rank 1 at build"
    )
    assert not any(psutil.pid_exists(pid) for pid in _pids(tmp_path))


def _reports(rank: int, _tell: Tell) -> str:
    if rank == 1:
        return "failed: no memory"
    time.sleep(LONG)
    return "never"


def test_a_rank_that_reports_a_failure_ends_the_others_and_is_heard(tmp_path):
    work = partial(_work, tmp_path, _reports)
    answers = run_together(work, 2, seconds=LONG, failed=lambda text: text.startswith("failed"))
    assert (answers.texts, answers.failure) == ((None, "failed: no memory"), None)
    assert not any(psutil.pid_exists(pid) for pid in _pids(tmp_path))


def _mistaken(_rank: int, _tell: Tell) -> str:
    raise BenchError("there is no such device: use cpu.")


def test_a_users_mistake_is_passed_on(tmp_path):
    assert run_together(partial(_work, tmp_path, _mistaken), 2, seconds=LONG).mistake == (
        "there is no such device: use cpu."
    )


def _failure(message: str) -> Failure:
    return Failure(kind="error", stage="time", message=message)


@pytest.mark.parametrize(
    ("messages", "cause"),
    [
        ({0: "RuntimeError: Connection closed by peer", 1: "ValueError: 7"}, "rank 1 of 2: ValueError: 7"),
        ({0: "ValueError: 7", 1: "ValueError: 7"}, "ValueError: 7"),
        ({1: "ValueError: 7"}, "rank 1 of 2: ValueError: 7"),
        ({0: "DistBackendError: NCCL error in: x", 1: "OutOfMemoryError: CUDA"}, "rank 1 of 2: OutOfMemoryError: CUDA"),
        ({0: "[gloo] Connection reset", 1: "[gloo] Connection closed"}, "rank 0 of 2: [gloo] Connection reset"),
    ],
)
def test_the_cause_is_told_and_not_its_consequence_on_the_others(messages, cause):
    failures = {rank: _failure(message) for rank, message in messages.items()}
    assert root_cause(failures, 2).message == cause
