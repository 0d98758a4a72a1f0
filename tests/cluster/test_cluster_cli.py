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
from tests.cluster.campaign import TORCH, wait_for, write_python
from visionbench import ROOT
from visionbench.cluster import shifts, slurm
from visionbench.command import queued
from visionbench.command.main import main
from visionbench.record import store
from visionbench.record.errors import BenchError
from visionbench.record.record import Environment

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
    "no launches": ([*RUN, "--launches", "0"], "0"),
    "no nodes": ([*RUN, "--nodes", "0"], "there is no"),
    "no word for nodes": ([*RUN, "--nodes", ""], "there is no"),
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
    "a file for sbatch": ([*RUN, "--sbatch=account=vision"], "'account=vision' is no option of sbatch"),
    "a file after an option": ([*RUN, "--sbatch=--account=vision job.sh"], "'job.sh' is no option of sbatch"),
    "a file after two dashes": ([*RUN, "--sbatch=-- job.sh"], "'--' is no option of sbatch"),
    "another name of jobs": ([*RUN, "--sbatch=-J mine"], "a shift sets --job-name itself"),
    "three of each": ([*RUN, "--sbatch=--arr=1-3"], "a shift sets --array itself"),
    "a dry run of sbatch": ([*RUN, "--sbatch=--version"], "a shift sets --version itself"),
    "a log of errors": ([*RUN, "--sbatch=-e x.err"], "a shift sets --error itself"),
    "another cluster": ([*RUN, "--sbatch=-M other"], "a shift sets --clusters itself"),
    "a partition by sbatch": ([*RUN, "--sbatch=-pgpu"], "a shift sets --partition itself"),
    "GPUs by another name": ([*RUN, "--sbatch=--tres-per-task=gres/gpu:2"], "a shift sets --tres-per-task itself"),
    "two jobs in one": ([*RUN, "--sbatch=--exclusive : --mem=0"], "':' is no option of sbatch"),
    "a dry run that Slurm refuses": ([*RUN, "--dry-run", "--sbatch=--mem=999G"], "Slurm's sbatch refuses"),
    "a site file's feature": ([*RUN, "--site", "moon.toml"], "no node of the cluster has it"),
    "nodes of one's own": ([*RUN, "--sbatch=-wv1"], "a shift sets --nodelist itself"),
    "two GPUs": ([*RUN, "--sbatch", "--gres gpu:2"], "a shift sets --gres itself"),
    "a folder below a file": ([*RUN, "--records", "cluster.toml/x"], "cannot write to cluster.toml/x (Not a"),
    "a folder of nobody": ([*RUN, "--records", "/proc/1/x"], "cannot write to /proc/1/x"),
    "one card twice": ([*RUN, "--gpu", "v100-sxm2-16gb"], "both mean v100-sxm2-16gb; name one of them"),
    "a site file's card": ([*RUN, "--site", "sites.toml"], "sites.toml, [v1000]: there is no GPU 'v1000'"),
    "a file for a folder": ([*RUN, "--records", "cluster.toml"], "it names a folder"),
}


@pytest.mark.parametrize(("words", "why"), THERE.values(), ids=list(THERE))
def test_what_the_cluster_lacks_is_one_sentence_before_anything_is_queued(here, cluster, capsys, words, why):
    (here / "sites.toml").write_text('[v1000]\nconstraint = "x"\n')
    (here / "moon.toml").write_text('[v100]\nconstraint = "v100&moon"\n')
    assert why in complaint(words, capsys)
    assert cluster.run("squeue", "-h") == ""


PYTHONS = {
    "no kernels": (["2.14.1", "13.0", None, ["sm_80", "sm_90"]], "torch 2.14.1 has no kernels for"),
    "a version only": ("3", "does not answer as a Python does"),
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


def test_a_checkout_that_is_not_installed_is_found_from_any_folder(here, monkeypatch):
    (here / "python").write_text(
        f"#!/bin/sh\ncase \"$PYTHONPATH\" in {ROOT}:/mine) echo '{json.dumps(TORCH)}';; esac\n"
    )
    monkeypatch.setattr(queued.sys, "executable", str(here / "python"))
    monkeypatch.setattr(queued, "release", lambda: None)
    monkeypatch.setenv("PYTHONPATH", "/mine")
    queued._check_python("a100", None, on_cpu=False)
    with pytest.raises(BenchError, match="does not answer as a Python does"):
        queued._check_python("a100", str(here / "python"), on_cpu=False)  # the site's own must have it installed


def test_a_card_is_one_card_in_any_case(here, cluster, capsys):
    (here / "cluster.toml").write_text('[V100]\nconstraint = "v100"\n')
    assert main([*RUN, "--gpu", "V100", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert said.count("on 2 nodes") == 1
    assert "--constraint=v100" in said


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("request.json", "{", "request.json holds no request"),
        ("records/v100-01.jsonl", "a shopping list\nmilk\n", "is not a visionbench records file"),
        ("records/v100-01.jsonl", "\0" * 5000, "is not a visionbench records file"),
    ],
)
def test_a_folder_with_what_is_not_ours(here, cluster, capsys, name, text, why):
    folder = here / "visionbench-cluster"
    (folder / "records").mkdir(parents=True)
    (folder / name).write_text(text)
    assert why in complaint(RUN, capsys)
    assert cluster.run("squeue", "-h") == ""


def test_a_folder_of_other_records_stays_as_it_is(here, cluster, capsys):
    (here / "old").mkdir()
    (here / "old" / "visionbench.jsonl").write_text("")
    assert "old holds visionbench.jsonl and no request" in complaint([*RUN, "--records", "old"], capsys)
    assert [path.name for path in (here / "old").iterdir()] == ["visionbench.jsonl"]


def test_a_request_of_somebody_else_is_not_gone_on_with(here, cluster, capsys, monkeypatch):
    monkeypatch.setattr(queued, "_user", lambda: "ann")
    monkeypatch.setattr(queued, "_wait", lambda *_: True)
    assert main(RUN) == 130
    monkeypatch.setattr(queued, "_user", lambda: "bob")
    assert "is a request of ann" in complaint(RUN, capsys)


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
        shifts.hidden(node, shifts.read_request(here / "visionbench-cluster").salt or "") for node in ("v1", "v2")
    }
    assert main(words) == 0
    assert "there is nothing to queue" in capsys.readouterr().err
    assert "another request" in complaint(["run", "resnet50", *words[2:]], capsys)
    assert main(["report", "nodes", "--records", "visionbench-cluster"]) == 0
    assert "node-" in capsys.readouterr().out
    assert main(["export", "visionbench-cluster", "--output", "x.csv"]) == 0
    assert len((here / "x.csv").read_text().splitlines()) == 3


@pytest.mark.slow
def test_ctrl_c_leaves_a_job_queued_and_the_same_command_attaches_to_it(here, cluster, capsys, monkeypatch):
    monkeypatch.setenv("WORKER", json.dumps({"seconds": 0.05, "holds": {"v100-01": str(here / "go")}}))
    usual = queued.drive.Driver

    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(queued.drive, "Driver", partial(usual, sleep=interrupted))
    assert main(RUN) == 130
    sentence = "1 job stays queued, and the same command attaches to it. `scancel {}` cancels it."
    [number] = cluster.run("squeue", "-h", "-o", "%i").split()
    assert sentence.format(number) in capsys.readouterr().err
    monkeypatch.setattr(queued.drive, "Driver", usual)
    (here / "go").touch()
    assert main(RUN) == 0
    assert len((here / "visionbench-cluster" / "jobs.jsonl").read_text().splitlines()) == 1, "sent once"


@pytest.mark.slow
def test_a_card_without_a_fit_node_is_not_measured_and_the_tables_say_why(here, cluster, capsys, monkeypatch):
    monkeypatch.setenv("WORKER", json.dumps({"seconds": 0.05, "sick": {"a1": "its GPU is a slice of a card (MIG)"}}))
    words = ["run", "resnet18", "--cluster", "slurm", "--gpu", "a100", "--launches", "1", "--anonymous-nodes"]
    assert main(words) == 4
    said = " ".join(capsys.readouterr().out.split())
    assert "every node of a100 is unfit: its GPU is a slice of a card (MIG)" in said
    node = shifts.hidden("a1", shifts.read_request(here / "visionbench-cluster").salt or "")
    assert f"Node {node} is left out: its GPU is a slice of a card (MIG)." in said
    for report in ("nodes", "convnext_table12"):
        assert main(["report", report, "--records", "visionbench-cluster", "--format", "markdown"]) == 0
        assert f"Node {node} is left out" in capsys.readouterr().out


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
    # Sixteen daemons share this machine: a busy one is not to be taken for dead.
    with real.TestCluster(tmp_path_factory.mktemp("wide") / "d", nodes, patience=60) as cluster:
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
    go, folder = here / "go", here / "visionbench-cluster"
    hit = {"v1": "v100-01", "a1": "a100-01"}  # the first shift of a card goes to its first node
    monkeypatch.setenv("WORKER", json.dumps({"seconds": 0.1, "holds": dict.fromkeys(hit.values(), str(go))}))
    words = ["run", "resnet18", "resnet34", "--cluster", "slurm", "--gpu", "v100", "--gpu", "a100", "--launches", "7"]
    wait = finished([*words, "--partition", "gpu"])

    def launches(shift: str) -> list[Environment]:
        return [record.environment for record in store.read_if_there(folder / "records" / f"{shift}.jsonl").records]

    wait_for(lambda: all(len(launches(shift)) == 1 for shift in hit.values()), 60)
    assert {launches(shift)[0].node for shift in hit.values()} == set(hit), "each is in the middle of its shift"
    wide.kill_node("v1")
    wide.run("scontrol", "update", "nodename=v1", "state=down", "reason=died")  # else Slurm waits for it for a minute
    wide.run("sbatch", "-J", "other", "-p", "urgent", "-w", "a1", "--gres=gpu:a100:1", "-o", "/dev/null", "--wrap=:")
    wait_for(lambda: "other" not in wide.run("squeue", "-h", "-o", "%j"), 60)
    go.touch()
    assert wait() == 0
    launched = [
        (path.stem, record.spec) for path in (folder / "records").glob("*.jsonl") for record in store.read(path).records
    ]
    assert len(launched) == len(set(launched)) == 28, "nothing is lost, nothing is there twice"
    assert all(record.failure is None for record in store.read(folder).records)
    assert [where.node == "v1" for where in launches("v100-01")] == [True, False]
    assert [where.restarts for where in launches("a100-01")] == [0, 1]
    assert "interval: 95 %, over 7 nodes" in " ".join(capsys.readouterr().out.split())

    assert main(["report", "runs", "--records", str(folder), "--format", "json"]) == 0
    rows = [row["cells"] for row in json.loads(capsys.readouterr().out)["rows"]]
    assert len({row["device"]["text"] for row in rows}) == 2
    assert len({(row["device"]["text"], row["model"]["text"]) for row in rows}) == len(rows) == 4
    for row in rows:
        rate = row["throughput"]
        assert (row["nodes"]["text"], rate["level"]) == ("7", 0.95)
        assert rate["low"] <= rate["value"] <= rate["high"]

    before = {path: path.read_bytes() for path in folder.rglob("*.jsonl")}
    assert main([*words, "--partition", "gpu"]) == 0
    assert "All 14 shifts are done: there is nothing to queue." in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.rglob("*.jsonl")} == before
    assert "visionbench" not in wide.run("squeue", "-h", "-o", "%j")


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
