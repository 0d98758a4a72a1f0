"""How often Slurm is asked: pretended commands that write down each call."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.cluster.campaign import QUICK, ROWS
from visionbench.cluster import drive, shifts, site, slurm

SAID = {
    "squeue": "",
    "sinfo": "".join(rf"n{k}\037idle\037infinite\037gpu:v100:1\037v100\037\n" for k in range(4)),
    "sbatch": "7\\n",
    "scancel": "",
}


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of calls; the four commands are first on the path."""
    for name, text in SAID.items():
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\necho {name} >>{tmp_path}/calls\nprintf '{text}'\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    return tmp_path / "calls"


@pytest.mark.parametrize("site_words", [{}, {"gres": "gpu:v100:1"}, {"constraint": "v100"}])
@pytest.mark.parametrize("partition", ["gpu", None])
def test_a_look_asks_once_for_jobs_and_seldom_for_nodes(calls, tmp_path, monkeypatch, site_words, partition):
    monkeypatch.setattr(slurm, "FRESH", 60.0)  # a busy machine may take a second to queue thirty shifts
    card = shifts.Card(word="v100", pieces=((shifts.Part(protocol=QUICK, specs=ROWS),),))
    request = shifts.keep(tmp_path / "folder", shifts.Request(cards=(card,), launches=30))
    sites = {"v100": site.Site(**site_words)}
    engine = slurm.Slurm(name=request.name, folder=tmp_path / "folder", partition=partition, sites=sites)
    driver = drive.Driver(tmp_path / "folder", shifts.shifts_of(request), engine, lambda _: None)
    for _ in range(3):
        driver.look()
    asked = Counter(calls.read_text().split())
    assert (asked["squeue"], asked["sbatch"], asked["scancel"]) == (3, 30, 0)
    assert asked["sinfo"] <= 2  # the nodes, and what the default partition is called


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("SBATCH_ACCOUNT", True),
        ("SBATCH_EXCLUSIVE", True),
        ("SBATCH_GPUS", False),
        ("SBATCH_GPUS_PER_NODE", False),
        ("SBATCH_GPUS_PER_TASK", False),
        ("SBATCH_ARRAY_INX", False),
    ],
)
def test_a_users_variable_adds_nothing_that_a_shift_sets_itself(tmp_path, monkeypatch, name, counts):
    (tmp_path / "sbatch").write_text("#!/bin/sh\nenv\n")
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv(name, "8")
    assert (f"{name}=8" in slurm._ask("sbatch")) == counts
