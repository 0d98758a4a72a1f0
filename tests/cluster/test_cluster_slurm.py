"""The loop on a real Slurm: what is killed, requeued, drained, preempted or dead is made all the same, and once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import pytest

from tests.cluster.campaign import HERE, Campaign, in_background, wait_for
from tests.cluster.slurm import TestCluster
from visionbench.cluster import shifts
from visionbench.record import store
from visionbench.record.record import Record
from visionbench.reports.results import nodes, runs


def processes_of(campaign: Campaign, node: str) -> list[int]:
    """The jobs of this request that run on a node."""
    pids = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and str(campaign.folder).encode() in (entry / "cmdline").read_bytes():
                environ = (entry / "environ").read_bytes()
                pids += [int(entry.name)] if f"SLURMD_NODENAME={node}\0".encode() in environ else []
        except OSError:
            continue
    return pids


def assert_never_two_at_once(records: list[Record]) -> None:
    """Launches on one node, which has one GPU, never overlap."""
    windows = defaultdict(list)
    for record in records:
        start, end = map(float, (record.environment.started or "").split())
        windows[record.environment.node].append((start, end))
    for spans in windows.values():
        assert all(first[1] <= second[0] + 0.01 for first, second in pairwise(sorted(spans)))


def running(cluster: TestCluster, node: str) -> str:
    return cluster.run("squeue", "-h", "-t", "running", "-w", node, "-o", "%i").strip()


@pytest.mark.slow
def test_eight_shifts_with_a_kill_a_requeue_and_a_drain(cluster: TestCluster, campaign: Campaign) -> None:
    campaign.orders(seconds=0.3)
    request = campaign.request(launches=4)
    began = time.monotonic()
    loop = in_background(campaign.driver(request))
    wait_for(lambda: processes_of(campaign, "v1") and processes_of(campaign, "v2"))
    wait_for(lambda: any(campaign.records().values()))
    os.kill(processes_of(campaign, "v1")[0], signal.SIGKILL)
    cluster.run("scontrol", "requeue", running(cluster, "a1"))
    cluster.run("scontrol", "update", "nodename=v2", "state=drain", "reason=test")
    loop.join(60)
    assert not loop.is_alive(), campaign.said
    records = campaign.assert_complete(request)
    assert len(records) == 8 * 4
    assert all(record.failure is None for record in records)
    assert_never_two_at_once(records)
    print(f"{time.monotonic() - began:.1f} s")


@pytest.mark.slow
def test_shifts_go_to_other_nodes_before_any_node_is_asked_twice(campaign: Campaign) -> None:
    campaign.orders(seconds=0.05)
    request = campaign.request(launches=2, cards=("v100",))
    campaign.driver(request).run()
    nodes = {name: {record.environment.node for record in records} for name, records in campaign.records().items()}
    assert nodes == {"v100-01": {"v1"}, "v100-02": {"v2"}}


@pytest.mark.slow
def test_a_preempted_shift_goes_on(cluster: TestCluster, campaign: Campaign) -> None:
    campaign.orders(seconds=1.5)  # long enough for Slurm, on a busy machine, to take the node in its middle
    request = campaign.request(launches=1, cards=("a100",))
    loop = in_background(campaign.driver(request))
    wait_for(lambda: len(campaign.records().get("a100-01", ())) >= 1)
    cluster.run("sbatch", "-p", "urgent", "-w", "a1", "--gres=gpu:a100:1", "-o", "/dev/null", "--wrap", "sleep 1")
    loop.join(60)
    assert not loop.is_alive(), campaign.said
    records = campaign.assert_complete(request)
    assert {record.environment.restarts for record in records} == {0, 1}


@pytest.mark.slow
def test_the_other_node_takes_over_from_a_dead_one(cluster: TestCluster, campaign: Campaign) -> None:
    campaign.orders(seconds=0.4)
    request = campaign.request(launches=1, cards=("v100",))
    loop = in_background(campaign.driver(request))
    wait_for(lambda: len(campaign.records().get("v100-01", ())) >= 1)
    cluster.kill_node("v1")
    loop.join(90)
    assert not loop.is_alive(), campaign.said
    records = campaign.assert_complete(request)
    assert Counter(record.environment.node for record in records).keys() == {"v1", "v2"}


@pytest.mark.slow
def test_a_driver_that_was_killed_goes_on_where_it_was(cluster: TestCluster, campaign: Campaign) -> None:
    campaign.orders(seconds=0.3)
    request = campaign.request(launches=2)
    first = campaign.driver(request)
    first.look()
    wait_for(lambda: any(campaign.records().values()))
    del first
    second = campaign.driver(shifts.read_request(campaign.folder))
    second.run()
    campaign.assert_complete(request)
    jobs = (campaign.folder / "jobs.jsonl").read_text().splitlines()
    assert len(jobs) == 4  # nothing was sent twice
    assert campaign.driver(request).look()  # and there is nothing to do


@pytest.mark.slow
def test_a_shift_that_never_works_fails_after_three_tries_with_its_logs_end(campaign: Campaign) -> None:
    campaign.orders(seconds=0.05, ends=["v100-01"])
    request = campaign.request(launches=1, cards=("v100",))
    campaign.driver(request, late=0.2).run()
    records = campaign.assert_complete(request)
    failures = [record.failure for record in records]
    assert all(failure and failure.kind == "crashed" and failure.stage == "cluster" for failure in failures)
    assert failures[0] is not None
    assert "3 jobs ended without all records" in failures[0].message
    assert "Its log ends: " in failures[0].message
    assert failures[0].message.endswith("the disk is on fire")
    assert len((campaign.folder / "jobs.jsonl").read_text().splitlines()) == 3


@pytest.mark.slow
def test_an_unfit_node_is_left_out_and_said(campaign: Campaign) -> None:
    campaign.orders(seconds=0.05, sick={"v1": "its GPU's memory had 3 uncorrectable errors"})
    request = campaign.request(launches=2, cards=("v100",))
    campaign.driver(request).run()
    records = campaign.assert_complete(request)
    assert {record.environment.node for record in records} == {"v2"}
    sentence = "Node v1 is left out: its GPU's memory had 3 uncorrectable errors."
    assert sentence in campaign.said
    unfit = store.read_unfit(campaign.folder)
    for table in (runs.layout([*records, *unfit]), nodes.layout([*records, *unfit])):
        assert sentence in table.remarks


@pytest.mark.slow
def test_a_card_without_a_fit_node_fails(campaign: Campaign) -> None:
    campaign.orders(seconds=0.05, sick={"a1": "its GPU is a slice of a card (MIG)"})
    request = campaign.request(launches=2, cards=("a100",))
    campaign.driver(request).run()
    failures = [record.failure for record in campaign.assert_complete(request)]
    assert all(failure and "every node of a100 is unfit: its GPU is a slice" in failure.message for failure in failures)


@pytest.mark.slow
def test_the_daemons_end_with_a_pytest_that_is_killed(cluster: TestCluster, tmp_path: Path) -> None:
    script = (
        "import sys, time; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\nfrom tests.cluster.slurm import TestCluster\n"
        "cluster = TestCluster(Path(sys.argv[2]), {'n1': 'v100'}).__enter__()\n"
        "print(*(daemon.pid for daemon in cluster.daemons.values()), flush=True)\ntime.sleep(60)\n"
    )
    words = [sys.executable, "-c", script, str(HERE.parents[1]), str(tmp_path / "d")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pids = [int(word) for word in process.stdout.readline().split()]
        process.kill()
    assert len(pids) == 3

    def ended(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    wait_for(lambda: all(map(ended, pids)), 10)
