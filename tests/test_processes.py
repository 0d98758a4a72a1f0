"""`--processes` and `--parallel` as a user types them: what is refused at once, and where the ranks are put."""

from __future__ import annotations

import pytest

from visionbench.api import compare, trace
from visionbench.command.main import main
from visionbench.command.processes import Place, placed
from visionbench.command.requests import HowToRun
from visionbench.command.selection import Defaults
from visionbench.machine import accelerator, host
from visionbench.record.errors import BenchError
from visionbench.record.spec import SMOKE

TWO = HowToRun(task="train", processes=2)


def place(*devices: str, threads: int | None = None) -> Place:
    return Place(devices=devices or ("cpu",), threads=threads, protocol=SMOKE, defaults=Defaults())


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        ("run resnet18 --processes 2 --device cpu", "add --task train"),
        ("run resnet18 --parallel ddp --device cpu", "add --task train"),
        ("run resnet18 --task train --parallel ddp_views --device cpu", "add --processes 2"),
        ("run resnet18 --task train --processes 2 --parallel fsdp2 --device cpu", "`trace` gives its memory"),
        ("run resnet18 --task train --processes 2 --compile default --device cpu", "leave --compile out"),
        ("run resnet18 --task train --processes 2 --batch-size max --device cpu", "name --batch-size"),
        ("run resnet18 --task train --processes 100000 --device cpu", "at most"),
        ("run resnet18 --task train --processes 0 --device cpu", "at least 1"),
        ("run resnet18 --task train --processes 2 --parallel dpp --device cpu", "did you mean ddp"),
        ("run resnet18 --task train --processes 2 --cluster slurm --gpu a100", "a job of --cluster has one GPU"),
        ("trace resnet18 --processes 2", "add --task train"),
        ("trace resnet18 --task train --parallel fsdp2", "add --processes 2"),
    ],
)
def test_what_cannot_be_is_one_sentence_with_its_remedy(words, remedy, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        code = main(words.split())
    except SystemExit as leaving:
        code = leaving.code
    complaints = capsys.readouterr().err.strip().splitlines()
    assert code == 2
    assert remedy in complaints[-1]
    assert not list(tmp_path.iterdir()), "something was recorded"


def test_without_processes_the_place_is_as_it_was():
    assert placed(place(), HowToRun()) == place()


def test_a_cpus_cores_are_shared_unless_threads_are_named(monkeypatch):
    monkeypatch.setattr(host, "usable_cores", lambda: tuple(range(8)))
    assert placed(place(), TWO).threads == 4
    assert placed(place(), HowToRun(task="train", processes=3)).threads == 2
    assert placed(place(), HowToRun(task="train", processes=16)).threads == 1
    assert placed(place(threads=7), TWO).threads == 7


@pytest.mark.parametrize(
    ("devices", "here", "remedy"),
    [
        (("cuda",), 1, "2 processes need 2 GPUs, and torch sees 1 here: use --processes 1"),
        (("cuda:3",), 4, "torch sees 1 here from cuda:3 on"),
        (("cuda:0", "cuda:1"), 2, "name that one alone"),
        (("mps",), 1, "not on mps: leave --processes out"),
        (("xpu:0",), 4, "not on xpu: leave --processes out"),
    ],
)
def test_every_process_needs_a_gpu_of_its_own(devices, here, remedy, monkeypatch):
    monkeypatch.setattr(accelerator, "count", lambda _kind: here)
    with pytest.raises(BenchError, match=remedy):
        placed(place(*devices), TWO)


def test_enough_gpus_are_enough(monkeypatch):
    monkeypatch.setattr(accelerator, "count", lambda _kind: 4)
    assert placed(place("cuda:2"), TWO) == place("cuda:2")


def test_two_sides_in_turns_have_one_process_each():
    with pytest.raises(BenchError, match="leave processes and parallel out"):
        compare("resnet18", vary={"precision": "bf16"}, processes=2)


def test_a_trace_of_a_rank_in_python():
    record = trace("ladder:mlp_1", task="train", batch_size=2, processes=8)
    assert (record.spec.processes, record.spec.parallel) == (8, "ddp")
    assert record.value("rank_memory.buckets") > 0
