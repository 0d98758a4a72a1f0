"""The recipes of docs/cluster.md for queues that are not here: each line runs with the variables it would find."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.test_readme import ROOT
from visionbench.command.main import main
from visionbench.record import store

yaml = pytest.importorskip("yaml")

PAGE = (ROOT / "docs" / "cluster.md").read_text()
RECIPES: list[dict[Any, Any]] = [yaml.safe_load(text) for text in re.findall(r"```yml\n(.*?)```", PAGE, re.DOTALL)]
KUBERNETES, SKYPILOT, GITHUB = RECIPES
ASKED = "--table convnext_table1 --gpu a100"
TINY = "user:net.py:make --image-size 32 --device cpu --threads 1"
"""What is measured here in the place of the rows that the recipes ask for."""

STUB = """\
import json, os, sys
with open(os.environ["HEARD"], "a") as file:
    file.write(json.dumps([sys.argv[1:], os.environ.get("VISIONBENCH_NODE")]) + "\\n")
open(sys.argv[sys.argv.index("--records") + 1], "a").close()
"""
"""Stands for the program on the path: it writes down what it was asked for."""


def of_kubernetes(job: int, shared: Path) -> tuple[str, dict[str, str]]:
    """The container's command; the kubelet sets the variables, the node's name by the downward API."""
    [container] = KUBERNETES["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["sh", "-c"]
    assert KUBERNETES["spec"]["completionMode"] == "Indexed"
    assert container["volumeMounts"][0]["mountPath"] == "/shared"
    [variable] = container["env"]
    assert variable["valueFrom"] == {"fieldRef": {"fieldPath": "spec.nodeName"}}
    command = container["args"][0].replace("/shared", str(shared))
    return command, {"JOB_COMPLETION_INDEX": str(job), variable["name"]: f"node-{job}"}


def of_skypilot(job: int, shared: Path) -> tuple[str, dict[str, str]]:
    """The task's script; each node is told its rank."""
    assert list(SKYPILOT["file_mounts"]) == ["/shared/records"]
    return SKYPILOT["run"].replace("/shared", str(shared)), {"SKYPILOT_NODE_RANK": str(job)}


def of_github(job: int, _shared: Path) -> tuple[str, dict[str, str]]:
    """A matrix job's step, whose expressions the runner fills in."""
    measure = GITHUB["jobs"]["measure"]
    filled = {"${{ matrix.launch }}": str(job), "${{ runner.name }}": f"runner-{job}"}

    def fill(text: str) -> str:
        for expression, value in filled.items():
            text = text.replace(expression, value)
        assert "${{" not in text
        return text

    return fill(measure["steps"][0]["run"]), {name: fill(value) for name, value in measure["env"].items()}


@pytest.fixture
def heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a shared disk, a network, and a `visionbench` that writes down what it is asked."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shared" / "records").mkdir(parents=True)
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\ndef make():\n"
        "    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 10))\n"
    )
    program = tmp_path / "bin" / "visionbench"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\n{STUB}")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("HEARD", str(tmp_path / "heard"))
    return tmp_path / "heard"


def report(records: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["report", "nodes", "--records", str(records)]) == 0
    return capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [of_kubernetes, of_skypilot, of_github])
def test_a_recipes_command_measures_and_its_records_are_read_together(
    heard: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], recipe: Callable[..., Any]
) -> None:
    jobs = (1, 2)
    (heard.parent / "records").mkdir()
    for job in jobs:
        command, variables = recipe(job, heard.parent / "shared")
        subprocess.run(["sh", "-ec", command], env={**os.environ, **variables}, check=True, timeout=60)
    for line in heard.read_text().splitlines():
        words, node = json.loads(line)
        assert node
        monkeypatch.setenv("VISIONBENCH_NODE", node)
        file = Path(words[-1])
        records = heard.parent / "records" / file.name
        assert ASKED in " ".join(words)
        asked = " ".join(words).replace(ASKED, TINY).replace(str(file), str(records)).split()
        assert main(asked) == 0
    log = store.read(heard.parent / "records")
    assert [record.failure for record in log.records] == [None, None]
    assert len({path.name for path in (heard.parent / "records").glob("*.jsonl")}) == len(jobs)
    for record in log.records:
        assert record.environment.node
        assert record.environment.node in report(heard.parent / "records", capsys)


def test_what_the_recipes_ask_for_is_understood(capsys: pytest.CaptureFixture[str]) -> None:
    """The real words: a table and a card that is not here."""
    assert PAGE.count(f"visionbench run {ASKED} --launches 1") == 4
    try:
        code = main(["run", *ASKED.split(), "--launches", "1", "--dry-run"])
    except SystemExit as stop:
        code = int(stop.code or 0)
    assert code in (0, 2)
    assert "GPU" in "".join(capsys.readouterr())


@pytest.mark.slow
def test_submitits_recipe_runs_here(heard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    submitit = pytest.importorskip("submitit", reason="submitit is not installed: pip install submitit")
    [text] = [block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "submitit" in block]
    monkeypatch.setattr(submitit, "AutoExecutor", partial(submitit.AutoExecutor, cluster="local"))
    exec(compile(text, "recipe", "exec"), {})
    assert len(heard.read_text().splitlines()) == 7
