"""A real Slurm for the whole session, three nodes with pretended GPUs; tests are skipped where it is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import slurm as real
from tests.cluster.campaign import Campaign, write_python


@pytest.fixture(scope="session")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[real.TestCluster]:
    if why := real.missing():
        pytest.skip(why)
    nodes = {"v1": "v100", "v2": "v100", "a1": "a100"}
    with real.TestCluster(tmp_path_factory.mktemp("slurm") / "d", nodes) as cluster:
        yield cluster


@pytest.fixture
def cluster(started: real.TestCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[real.TestCluster]:
    """The session's cluster, with no job in it and all nodes up, before and after."""
    monkeypatch.setenv("SLURM_CONF", started.environ["SLURM_CONF"])
    yield started
    started.run("scancel", "--me", check=False)
    for name in started.nodes:
        if name not in started.daemons:
            started.start_node(name)
        started.run("scontrol", "update", f"nodename={name}", "state=resume", check=False)
    started.kill_jobs("")
    started.wait_until_idle(40)


@pytest.fixture
def campaign(cluster: real.TestCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Campaign:
    python = tmp_path / "python"
    write_python(python)
    monkeypatch.delenv("WORKER", raising=False)
    return Campaign(tmp_path / "50 % of %j, 'mine'", python, monkeypatch)
