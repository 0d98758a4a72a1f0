"""`run` and `tables` with `--cluster slurm`, as a user types it: mistakes before anything is queued, whole columns."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.cluster import slurm as real
from tests.cluster.campaign import wait_for, write_python
from visionbench.cluster import job, shifts, slurm
from visionbench.command import queued
from visionbench.command.main import main
from visionbench.record import store

RUN = ["run", "resnet18", "--cluster", "slurm", "--gpu", "v100"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a site file whose Python needs no torch; looks are quick."""
    import timm  # noqa: F401 -- once, and not in each child that chooses rows

    monkeypatch.chdir(tmp_path)
    write_python(tmp_path / "python")
    (tmp_path / "cluster.toml").write_text(
        "".join(f'[{card}]\npython = "{tmp_path}/python"\n' for card in ("v100", "a100"))
    )
    monkeypatch.setattr(queued.drive, "Driver", partial(queued.drive.Driver, every=0.3, late=1.0))
    monkeypatch.delenv("WORKER", raising=False)
    return tmp_path


# --- mistakes ---

WORDS = {
    "no card": (["run", "resnet18", "--cluster", "slurm"], "--cluster needs the cards to measure"),
    "two cards here": (["run", "resnet18", "--gpu", "v100", "--gpu", "a100"], "add --cluster slurm"),
    "a partition here": (["run", "resnet18", "--partition", "gpu"], "--partition is for a cluster"),
    "anonymous here": (["tables", "--anonymous-nodes"], "--anonymous-nodes is for a cluster"),
    "a dry run here": (["tables", "--dry-run"], "--dry-run is for --cluster"),
    "a budget there": ([*RUN, "--budget", "10m"], "--budget is for one machine"),
    "locked clocks there": ([*RUN, "--lock-clocks"], "--lock-clocks is for one machine"),
    "the largest batch there": ([*RUN, "--batch-size", "max"], "--batch-size max"),
    "several processes there": ([*RUN, "--task", "train", "--processes", "2"], "a job of --cluster has one GPU"),
    "an open quote": ([*RUN, "--sbatch=--comment='x"], "open quote"),
    "another engine": (["run", "resnet18", "--cluster", "pbs", "--gpu", "v100"], "there is no cluster 'pbs'"),
}


def complaint(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    try:
        code = main(words)
    except SystemExit as stop:
        code = int(stop.code or 0)
    said = capsys.readouterr().err.strip()
    assert code == 2, said
    assert "Traceback" not in said
    return said.splitlines()[-1]


@pytest.mark.parametrize(("words", "why"), WORDS.values(), ids=list(WORDS))
def test_words_that_do_not_go_together_are_one_sentence(here, capsys, words, why):
    assert why in complaint(words, capsys)
    assert not (here / "visionbench-cluster").exists()


def test_no_slurm_here(here, monkeypatch, capsys):
    monkeypatch.setattr(slurm.shutil, "which", lambda _: None)
    said = complaint(RUN, capsys)
    assert "there is no Slurm here" in said
    assert "leave --cluster out" in said


@pytest.mark.slow
def test_a_controller_that_is_away(here, monkeypatch, capsys):
    if not shutil.which("sinfo"):
        pytest.skip("Slurm is not installed here")
    (here / "slurm.conf").write_text(
        "ClusterName=x\nSlurmctldHost=localhost\nSlurmctldPort=1\nNodeName=n\nPartitionName=p Nodes=n\n"
    )
    monkeypatch.setenv("SLURM_CONF", str(here / "slurm.conf"))
    monkeypatch.setattr(slurm, "PATIENCE", 3.0)
    assert "Slurm does not answer" in complaint(RUN, capsys)


THERE = {
    "unknown partition": ([*RUN, "--partition", "gpx"], "there is no partition 'gpx': did you mean gpu?"),
    "unknown card": (["run", "resnet18", "--cluster", "slurm", "--gpu", "v1000"], "there is no GPU 'v1000'"),
    "a card that is not there": (["run", "resnet18", "--cluster", "slurm", "--gpu", "h100"], "(there: a100, v100)"),
    "unknown model": (["run", "resnet1800", "--cluster", "slurm", "--gpu", "v100"], "resnet1800"),
    "unknown option of sbatch": ([*RUN, "--sbatch=--colour=blue"], "Slurm's sbatch refuses"),
    "wrong constraint": ([*RUN, "--sbatch=--constraint=moon"], "Slurm's sbatch refuses"),
    "one card twice": ([*RUN, "--gpu", "v100-sxm2-16gb"], "both mean v100-sxm2-16gb; name one of them"),
    "a site file's card": ([*RUN, "--site", "sites.toml"], "sites.toml, [v1000]: there is no GPU 'v1000'"),
    "a file for a folder": ([*RUN, "--records", "cluster.toml"], "it names a folder"),
}


@pytest.mark.parametrize(("words", "why"), THERE.values(), ids=list(THERE))
def test_what_the_cluster_lacks_is_one_sentence_before_anything_is_queued(here, cluster, capsys, words, why):
    (here / "sites.toml").write_text('[v1000]\nconstraint = "x"\n')
    assert why in complaint(words, capsys)
    assert cluster.run("squeue", "-h") == ""


PYTHONS = {
    "no kernels": (["2.14.1", "13.0", None, ["sm_80", "sm_90"]], "torch 2.14.1 has no kernels for"),
    "no CUDA": (["2.14.1+cpu", None, None, []], "torch 2.14.1+cpu is built without CUDA"),
}


@pytest.mark.parametrize(("torch", "why"), PYTHONS.values(), ids=list(PYTHONS))
def test_a_torch_that_cannot_serve_the_card_is_said_before_anything_is_queued(here, cluster, capsys, torch, why):
    write_python(here / "python", torch)
    said = complaint(RUN, capsys)
    assert why in said
    assert "cluster.toml" in said
    assert cluster.run("squeue", "-h") == ""
    assert not (here / "visionbench-cluster" / "request.json").exists(), "the mended request may be another"


def test_a_python_without_visionbench_is_said_before_anything_is_queued(here, cluster, capsys):
    (here / "python").write_text("#!/bin/sh\necho \"ModuleNotFoundError: No module named 'visionbench'\" >&2; exit 1\n")
    said = complaint(RUN, capsys)
    assert "No module named 'visionbench'" in said
    assert cluster.run("squeue", "-h") == ""


def test_a_card_is_one_card_in_any_case(here, cluster, capsys):
    (here / "cluster.toml").write_text('[V100]\nconstraint = "v100"\n')
    assert main([*RUN, "--gpu", "V100", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert said.count("on 2 nodes") == 1
    assert "--constraint=v100" in said


def test_two_drivers_in_one_folder(here, cluster, capsys):
    (here / "visionbench-cluster").mkdir()
    with queued.drive.alone(here / "visionbench-cluster"):
        assert "another visionbench works in visionbench-cluster" in complaint(RUN, capsys)


def test_a_dry_run_prints_shifts_and_leaves_nothing(here, cluster, capsys):
    assert (
        main(
            ["run", "resnet18", "--cluster", "slurm", "--gpu", "v100", "--gpu", "a100", "--launches", "3", "--dry-run"]
        )
        == 0
    )
    said = capsys.readouterr().out
    assert "v100: 1 row x 3 = 3 shifts on 2 nodes (v1, v2)" in said
    assert "--gres=gpu:a100:1 --nodelist=a1" in said
    assert not (here / "visionbench-cluster").exists()
    assert cluster.run("squeue", "-h") == ""


# --- columns ---


@pytest.mark.slow
def test_a_column_is_filled_and_another_request_is_refused(here, cluster, capsys, monkeypatch):
    monkeypatch.setenv("WORKER", json.dumps({"seconds": 0.05}))
    words = [*RUN, "--launches", "2", "--anonymous-nodes"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "Centre and range over 2 nodes" in " ".join(out.split()) or "centre and range over 2 nodes" in out
    log = store.read(here / "visionbench-cluster")
    assert {record.environment.node for record in log.records} == {
        job.hidden(node, shifts.read_request(here / "visionbench-cluster").salt or "") for node in ("v1", "v2")
    }
    assert main(words) == 0
    assert "there is nothing to queue" in capsys.readouterr().err
    assert "another request" in complaint(["run", "resnet50", *words[2:]], capsys)
    assert main(["report", "nodes", "--records", "visionbench-cluster"]) == 0
    assert "node-" in capsys.readouterr().out
    assert main(["export", "visionbench-cluster", "--output", "x.csv"]) == 0
    assert len((here / "x.csv").read_text().splitlines()) == 3


@pytest.mark.slow
def test_tables_fill_a_column_per_card_and_then_have_nothing_to_do(here, cluster, capsys, monkeypatch):
    monkeypatch.setenv("WORKER", json.dumps({"seconds": 0.02}))
    words = ["tables", "convnext_table2", "--cluster", "slurm", "--gpu", "v100", "--gpu", "a100", "--launches", "2"]
    assert main([*words, "--format", "csv"]) == 0
    head, *_ = capsys.readouterr().out.splitlines()
    for card in ("v100", "a100"):
        assert f"throughput_measured_{card}" in head
        memory = [name for name in head.split(",") if name.startswith(f"train_memory_allocated_{card}")]
        assert len([name for name in memory if name.endswith("_source")]) == 2, "as in 2022, and as today"
    counted = (here / "visionbench-cluster" / "records" / "computed.jsonl").read_text()
    assert main([*words, "--format", "csv"]) == 0
    heard = capsys.readouterr()
    assert heard.out.splitlines()[0] == head
    assert "there is nothing to queue" in heard.err
    assert "Counting" not in heard.err
    assert (here / "visionbench-cluster" / "records" / "computed.jsonl").read_text() == counted


@pytest.fixture
def wide(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[real.TestCluster]:
    """Eight nodes of each card: one of them may die."""
    if why := real.missing():
        pytest.skip(why)
    nodes = {f"{card[0]}{number}": card for card in ("v100", "a100") for number in range(1, 9)}
    with real.TestCluster(tmp_path_factory.mktemp("wide") / "d", nodes) as cluster:
        monkeypatch.setenv("SLURM_CONF", cluster.environ["SLURM_CONF"])
        yield cluster


def finished(words: list[str]) -> Callable[[], int]:
    """Start a command; what waits for its end and says its exit code."""
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(main(words)), daemon=True)
    thread.start()

    def wait() -> int:
        thread.join(120)
        assert not thread.is_alive()
        return codes[0]

    return wait


@pytest.mark.slow
def test_two_columns_while_a_node_dies_and_a_job_is_preempted(here, wide, capsys, monkeypatch):
    monkeypatch.setenv("WORKER", json.dumps({"seconds": 1.0}))
    words = ["run", "resnet18", "resnet34", "--cluster", "slurm", "--gpu", "v100", "--gpu", "a100", "--launches", "7"]
    wait = finished([*words, "--partition", "gpu"])
    folder = here / "visionbench-cluster"
    wait_for(lambda: any((folder / "records").glob("*.jsonl")), 60)
    wide.kill_node("v1")
    wide.run("sbatch", "-p", "urgent", "-w", "a1", "--gres=gpu:a100:1", "-o", "/dev/null", "--wrap", "sleep 1")
    assert wait() == 0
    records = store.read(folder).records
    launched = [
        (path.stem, record.spec) for path in (folder / "records").glob("*.jsonl") for record in store.read(path).records
    ]
    assert len(launched) == len(set(launched)) == 28
    assert all(record.failure is None for record in records)
    out = " ".join(capsys.readouterr().out.split())
    assert "interval: 95 %, over 7 nodes" in out or "centre and range" in out  # the dead node's shift may join another
    assert main([*words, "--partition", "gpu"]) == 0
    assert "there is nothing to queue" in capsys.readouterr().err


@pytest.mark.slow
def test_real_launches_on_a_nodes_cpu(here, cluster, capsys, monkeypatch):
    (here / "cluster.toml").write_text("")
    (here / "net.py").write_text(
        "from torch import nn\n\ndef make():\n"
        "    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 10))\n"
    )
    words = ["run", "user:net.py:make", "--image-size", "32", "--device", "cpu", "--threads", "1"]
    assert main([*words, "--cluster", "slurm", "--gpu", "v100", "--launches", "2"]) == 0
    records = store.read(here / "visionbench-cluster").records
    assert [record.failure for record in records] == [None, None]
    assert {record.environment.node for record in records} <= {"v1", "v2"}  # a busy node may be passed by
    assert all(record.environment.job and record.get("throughput") for record in records)
    assert "user:net.py:make" in capsys.readouterr().out
