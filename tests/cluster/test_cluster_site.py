"""What cards are called at a site, which options of `sbatch` a user may have, and what a job's script says."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from visionbench import ROOT
from visionbench.cluster import site, slurm
from visionbench.record.errors import BenchError


def test_a_site_says_what_cards_are_called(tmp_path):
    path = tmp_path / "cluster.toml"
    path.write_text(
        '[v100]\nconstraint = "volta32gb"\n[a100]\ngres = "gpu:tesla:1"\nsbatch = "--account=x --time 2:00"\n'
    )
    sites = site.read_site(path)
    assert sites["v100"] == site.Site(constraint="volta32gb")
    assert sites["a100"].sbatch == ("--account=x", "--time", "2:00")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('[v100]\ngress = "gpu:v100:1"', "did you mean gres"),
        ("[v100]\ngres = 3", "is a text in quotes"),
        ('v100 = "gpu"', "is no section"),
        ("[v100", "is no TOML"),
        ('[v100]\ngres = "x"\n[v100]\ngres = "y"', "is no TOML"),
        ('[v100]\ngres = "x"\n[V100]\ngres = "y"', "is there twice"),
        ('[v100]\npython = ""', "python is empty"),
        ('[v100]\nconstraint = "  "', "constraint is empty"),
        ('[v100]\npython = "a\\nb"', "has a line's end in it"),
        ('[v100]\nsbatch = ["--account=x"]', "is a text in quotes"),
        ("[[v100]]\ngres = 1", "is no section"),
        (f"[v100]\ngres = {[1] * 10_000}", "is a text in quotes"),
        (f"a{'.a' * 5000} = 1", "nested too deeply"),
        ('[v100]\nsbatch = "account=x"', "[v100], sbatch: 'account=x' is no option of sbatch"),
        ('[v100]\ngres = "gpu:2"', "gres asks for several GPUs"),
        ('[v100]\ngres = "gpu:v100:12"', "gres asks for several GPUs"),
        ('[v100]\ngres = "shard:4,gpu:v100:8(S:0)"', "gres asks for several GPUs"),
        ('[v100]\nsbatch = "--partition=big"', "a shift sets --partition itself"),
        ('[v100]\nsbatch = "--array=1-9"', "a shift sets --array itself"),
        ('[v100]\nsbatch = "--account=\\"x"', "open quote"),
    ],
)
def test_a_wrong_site_file_is_one_sentence(tmp_path, text, why):
    path = tmp_path / "cluster.toml"
    path.write_text(text)
    with pytest.raises(BenchError) as caught:
        site.read_site(path)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_home_folder_is_filled_in_because_a_jobs_shell_would_not(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    (tmp_path / "cluster.toml").write_text('[v100]\npython = "~/env/bin/python"\n')
    assert site.read_site(tmp_path / "cluster.toml")["v100"].python == "/home/ann/env/bin/python"


@pytest.mark.parametrize(
    "words",
    [
        ("--account=vision", "--time=2:00:00"),
        ("--account", "vision", "-t", "2:00:00", "-t30", "--exclusive", "--mem=0", "--export=ALL,A=-J", "-H"),
        ("--wait-all-nodes=1", "--gres-flags=enforce-binding", "-c", "4", "--nice", "--constraint=a|b"),
        (),
    ],
)
def test_options_of_sbatch_that_are_the_users(words):
    site.check_options(words, "--sbatch")


def test_no_site_file_is_fine_unless_it_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert site.read_site(None) == {}
    with pytest.raises(BenchError, match="cannot read"):
        site.read_site(Path("nowhere.toml"))


@pytest.mark.parametrize(("before", "after"), [(None, []), ("/a:/b c", ["/a", "/b c"])])
def test_a_job_of_a_checkout_keeps_the_users_path(tmp_path, monkeypatch, before, after):
    monkeypatch.setattr(slurm, "release", lambda: None)
    line = slurm.script({}, tmp_path, "v100-01", "v100").splitlines()[1]
    environ = {} if before is None else {"PYTHONPATH": before}
    done = subprocess.run(
        ["/bin/sh", "-c", f'{line}\necho "$PYTHONPATH"'], env=environ, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip().split(":") == [str(ROOT), *after]


NODES = (("n1", "gpu:a100:4(S:0-1)", "a100,big"), ("n2", "gpu:4,shard:8", "volta"), ("n3", "(null)", "volta"))


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ({}, "n1"),
        ({"gres": "gpu:a100:1"}, "n1"),
        ({"gres": "gpu:1"}, "n1 n2"),
        ({"gres": "gpu"}, "n1 n2"),
        ({"gres": "gpu:1", "constraint": "volta"}, "n2"),
        ({"gres": "gpu:a100:1", "constraint": "big"}, "n1"),
        ({"gres": "gpu:a100:1", "constraint": "volta"}, ""),
        ({"constraint": "volta"}, "n2 n3"),
        ({"constraint": "volta|big"}, "n1 n2 n3"),
        ({"constraint": "a100&big"}, "n1"),
        ({"constraint": "volta&big"}, ""),
        ({"constraint": "moon"}, ""),
        ({"constraint": "[moon|mars]"}, "n1 n2 n3"),  # Slurm knows what that means
        ({"gres": "shard:1"}, ""),
        ({"gres": "gpu:moon:1"}, ""),
    ],
)
def test_which_nodes_have_a_card(tmp_path, monkeypatch, words, names):
    nodes = [
        slurm.Node(name=name, state="idle", gres=gres, features=tuple(features.split(",")), limit=None)
        for name, gres, features in NODES
    ]
    monkeypatch.setattr(slurm, "_listed", lambda _: tuple(nodes))
    engine = slurm.Slurm(name="x", folder=tmp_path, partition=None, sites={"a100": site.Site(**words)})
    assert [node.name for node in engine.nodes("a100")] == names.split()


def test_a_users_own_partition_is_the_one_that_is_looked_at(tmp_path, monkeypatch):
    monkeypatch.setenv("SBATCH_PARTITION", "ours")
    monkeypatch.setattr(slurm, "_listed", lambda partition: (_node(partition),))
    for partition, site_words, where in ((None, {}, "ours"), ("gpu", {}, "gpu"), ("gpu", {"partition": "big"}, "big")):
        engine = slurm.Slurm(name="x", folder=tmp_path, partition=partition, sites={"a100": site.Site(**site_words)})
        assert [node.name for node in engine.nodes("a100")] == [where]
        assert f"--partition={where}" in engine.command("a100-01", "a100", None, ())


def _node(name):
    return slurm.Node(name=name, state="idle", gres="gpu:a100:1", features=(), limit=None)
