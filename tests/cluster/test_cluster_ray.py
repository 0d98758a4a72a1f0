"""The same shifts on a real Ray: a head and three nodes on this machine, with pretended GPUs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.cluster.campaign import in_background, wait_for, write_python
from tests.cluster.slurm import free_ports
from visionbench.cluster import drive, ray, shifts
from visionbench.cluster.site import Site
from visionbench.command import queued
from visionbench.command.main import main
from visionbench.record import store

NODES = {"v1": "V100", "v2": "V100", "a1": "A100"}
CARDS = ("--cluster", "ray", "--gpu", "v100", "--gpu", "a100")


# --- without Ray ---


def test_without_its_client_the_remedy_is_said(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray.job_submission", None)
    assert main(["run", "resnet18", *CARDS]) == 2
    assert "pip install 'visionbench[ray]'" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--partition", "gpu"], ["--sbatch=--time=1:00"], ["--nodes", "any"]])
def test_what_is_slurms_alone_is_refused(capsys, words):
    assert main(["run", "resnet18", *CARDS, *words]) == 2
    assert f"{words[0].partition('=')[0]} is for Slurm" in capsys.readouterr().err


@pytest.mark.parametrize("text", ['gres = "gpu:x:1"', 'partition = "x"', 'sbatch = "--time=1"'])
def test_a_site_file_in_slurms_words_is_refused(tmp_path, monkeypatch, capsys, text):
    monkeypatch.setattr(ray, "check_here", lambda: None)
    (tmp_path / "cluster.toml").write_text(f"[v100]\n{text}\n")
    assert main(["run", "resnet18", *CARDS, "--site", str(tmp_path / "cluster.toml")]) == 2
    assert "[v100]: gres, partition and sbatch are Slurm's" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "wanted", "same"),
    [("V100", "v100", True), ("A100", "a100-sxm4-80gb", True), ("A10", "a100", False), ("", "v100", False)],
)
def test_rays_word_for_a_card_is_the_card_or_its_family(kind, wanted, same):
    assert ray._is_kind(kind, wanted) is same


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            ConnectionError("Could not find any Ray. Please set `--address`."),
            "Ray does not answer (Could not find any Ray)",
        ),
        (
            ConnectionError("Failed to connect to Ray at address: http://x:9."),
            "at address: http://x:9): set RAY_ADDRESS",
        ),
        (TimeoutError(), "Ray does not answer (TimeoutError)"),
        (RuntimeError("Invalid address format: x"), "Ray refuses: Invalid address format: x."),
    ],
)
def test_a_ray_that_is_not_there_is_one_sentence(monkeypatch, capsys, error, said):
    def client() -> None:
        raise error

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "ray.job_submission", SimpleNamespace(JobSubmissionClient=client))
    assert main(["run", "resnet18", *CARDS]) == 2
    heard = capsys.readouterr().err
    assert said in heard
    assert heard.count("\n") == 1


def details(status: str, error: str | None = None) -> Any:
    """A job as Ray describes it."""
    return SimpleNamespace(
        submission_id="x.v100-01.7",
        status=SimpleNamespace(value=status),
        metadata={"request": "x", "shift": "v100-01", "node": "v1"},
        error_type=error,
    )


@pytest.mark.parametrize(
    ("status", "over"), [("PENDING", False), ("RUNNING", False), ("STOPPED", True), ("FAILED", True)]
)
def test_a_job_of_rays_is_a_job_of_the_loop(status, over):
    job = ray._job(details(status))
    assert (job.over, job.pinned, job.begun) == (over, "v1", True)
    assert job.node == ("" if status == "PENDING" else "v1")


def test_a_job_that_ray_gave_up_before_it_began_is_no_try(tmp_path):
    kept = shifts.keep(tmp_path, request())
    engine = SimpleNamespace(
        jobs=lambda: [ray._job(details("FAILED", ray.NEVER_BEGAN))],
        nodes=lambda _card: [ray.Node(name="v1", state="idle", gres="V100", features=("id",), limit=None)],
        submit=lambda *_: "x.v100-01.7",
    )
    said: list[str] = []
    driver = drive.Driver(tmp_path, shifts.shifts_of(kept), engine, said.append)  # type: ignore[arg-type]
    for _ in range(5):
        assert not driver.look()
    assert "v100-01 is sent again: its job never began." in said


def request(**more: Any) -> shifts.Request:
    from tests.cluster.campaign import QUICK, ROWS

    pieces = ((shifts.Part(protocol=QUICK, specs=ROWS),),)
    return shifts.Request(cards=(shifts.Card(word="v100", pieces=pieces),), launches=1, cluster="ray", **more)


# --- on a real Ray ---


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A head without a GPU, and a node for each of `NODES`; about 20 s and 1 GB."""
    pytest.importorskip("ray", reason="Ray is not installed here: pip install 'visionbench[ray]'")
    from ray.cluster_utils import Cluster

    [port] = free_ports(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_API_SERVER_ADDRESS", f"http://127.0.0.1:{port}")
        patch.setenv("WORKER", json.dumps({"seconds": 0.3, "sick": {"v2": "its GPU is a slice of a card (MIG)"}}))
        small = {"num_cpus": 1, "object_store_memory": 80_000_000}
        nodes = Cluster(
            initialize_head=True,
            head_node_args={**small, "num_gpus": 0, "include_dashboard": True, "dashboard_port": port},
        )
        try:
            nodes.named = {
                name: nodes.add_node(
                    num_gpus=1, resources={f"accelerator_type:{kind}": 1}, node_name=name, wait=False, **small
                )
                for name, kind in NODES.items()
            }
            nodes.wait_for_nodes()
            yield nodes
        finally:
            nodes.shutdown()


@pytest.fixture
def here(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a site file whose Python needs no torch; looks are quick."""
    monkeypatch.chdir(tmp_path)
    write_python(tmp_path / "python")
    (tmp_path / "cluster.toml").write_text(
        "".join(f'[{card}]\npython = "{tmp_path}/python"\n' for card in ("v100", "a100"))
    )
    monkeypatch.setattr(queued.drive, "Driver", partial(queued.drive.Driver, every=0.5, late=1.0))
    return tmp_path


@pytest.mark.slow
def test_a_card_that_no_node_has_is_said_and_not_waited_for(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "resnet18", "--cluster", "ray", "--gpu", "h100"]) == 2
    said = capsys.readouterr().err
    assert "no node of the cluster has it (there: A100, V100)" in said
    assert 'constraint = "NAME"' in said


@pytest.mark.slow
def test_a_dry_run_prints_what_would_be_queued(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "resnet18", *CARDS, "--launches", "3", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "v100: 1 row x 3 = 3 shifts on 2 nodes" in said
    assert "ray job submit --no-wait --entrypoint-num-gpus=1" in said
    assert """--entrypoint-label-selector='{"ray.io/node-id": """ in said
    assert not (here / "visionbench-cluster").exists()


@pytest.mark.slow
def test_columns_are_filled_one_job_per_gpu_and_an_unfit_node_is_left_out(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", "resnet18", "resnet34", *CARDS, "--launches", "2"]
    assert main(words) == 0
    heard = capsys.readouterr()
    assert "Node v2 is left out: its GPU is a slice of a card (MIG)" in heard.err
    records = store.read(here / "visionbench-cluster").records
    assert len(records) == 8
    assert {record.environment.node for record in records} == {"v1", "a1"}
    assert all(record.environment.threads is None for record in records), "Ray's OMP_NUM_THREADS=1 is taken away"
    for node in ("v1", "a1"):
        spans = sorted(
            tuple(map(float, (record.environment.started or "").split()))
            for record in records
            if record.environment.node == node
        )
        assert all(first[1] <= second[0] + 0.01 for first, second in pairwise(spans))
    assert main(words) == 0
    assert "there is nothing to queue" in capsys.readouterr().err
    assert main(["run", "resnet50", *words[3:]]) == 2
    assert "another request" in capsys.readouterr().err


@pytest.mark.slow
def test_jobs_outlive_the_driver_and_a_killed_one_goes_on(here: Path) -> None:
    kept = shifts.keep(here / "folder", request())
    sites = {"v100": Site(python=str(here / "python"))}
    engine = ray.Ray(name=kept.name, folder=here / "folder", sites=sites)
    said: list[str] = []

    def driver() -> drive.Driver:
        return drive.Driver(here / "folder", shifts.shifts_of(kept), engine, said.append, every=0.5, late=1.0)

    first = driver()
    first.look()
    wait_for(lambda: any((here / "folder" / "records").glob("*.jsonl")))
    [job] = first.active()
    assert job.number in engine.how_to_cancel([job])
    del first
    words = ["pgrep", "-f", f"worker.py -m visionbench.cluster.job {here}"]
    os.kill(int(subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()[0]), signal.SIGKILL)
    loop = in_background(driver())
    loop.join(60)
    assert not loop.is_alive(), said
    records = store.read(here / "folder").records
    assert len(records) == len({record.spec for record in records}) == 4
    assert all(record.failure is None for record in records)


@pytest.mark.slow
def test_real_launches_on_a_nodes_cpu(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "cluster.toml").write_text("")
    (here / "net.py").write_text(
        "from torch import nn\n\ndef make():\n"
        "    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 10))\n"
    )
    words = ["run", "user:net.py:make", "--image-size", "32", "--device", "cpu", "--threads", "1"]
    assert main([*words, "--cluster", "ray", "--gpu", "a100", "--launches", "1"]) == 0
    [record] = store.read(here / "visionbench-cluster").records
    assert record.failure is None
    assert (record.environment.node, record.environment.threads) == ("a1", 1)
    assert record.environment.job
    assert "user:net.py:make" in capsys.readouterr().out
