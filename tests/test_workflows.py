"""The workflows that CI runs: they parse, what they call exists, and they ask for no more than they need."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from visionbench.command.main import command_line

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def read(path: Path) -> dict[Any, Any]:
    workflow: dict[Any, Any] = yaml.safe_load(path.read_text())
    return workflow


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in read(path)["jobs"].values() for step in job["steps"]]


def test_every_page_of_the_docs_is_in_the_site() -> None:
    pages = [page for entry in yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"] for page in entry.values()]
    assert sorted(pages) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))


def test_there_are_four() -> None:
    assert [path.stem for path in WORKFLOWS] == ["gate", "nightly", "release", "tests"]


def test_the_oldest_versions_that_are_tested_are_the_oldest_that_are_allowed() -> None:
    matrix = read(ROOT / ".github" / "workflows" / "tests.yml")["jobs"]["tests"]["strategy"]["matrix"]["include"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    oldest = dict(re.findall(r"(\S+?)==([\d.]*\d)", matrix[0]["torch"]))
    assert set(oldest) == {"torch", "torchvision", "timm"}
    for name, version in oldest.items():
        assert f"{name}>={version}" in project["dependencies"]
    assert project["requires-python"] == f">={matrix[0]['python']}"
    assert f"Programming Language :: Python :: {matrix[-1]['python']}" in project["classifiers"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_is_bounded_pinned_and_reads_only(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["group"]
    assert all(job["timeout-minutes"] <= 150 for job in workflow["jobs"].values())
    used = [step["uses"] for step in steps(path) if "uses" in step]
    assert used
    publisher = r"|pypa/gh-action-pypi-publish" if path.stem == "release" else ""
    pinned = re.compile(rf"(?:actions/[a-z-]+{publisher})@[0-9a-f]{{40}}")
    assert all(pinned.fullmatch(name) for name in used), "a tag can be moved"
    assert not any("${{" in step.get("run", "") for step in steps(path)), "a branch's name is no part of a script"


def test_a_release_is_published_without_a_secret() -> None:
    """Trusted publishing: one job may ask for an identity, and it runs nothing but the upload."""
    text = (ROOT / ".github" / "workflows" / "release.yml").read_text()
    jobs = read(ROOT / ".github" / "workflows" / "release.yml")["jobs"]
    assert "secrets." not in text
    assert "password" not in {key for job in jobs.values() for step in job["steps"] for key in step.get("with", {})}
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert jobs["publish"]["needs"] == "build"
    assert all("run" not in step for step in jobs["publish"]["steps"])
    assert "permissions" not in jobs["build"]


def test_the_release_s_tag_is_compared_with_the_version(tmp_path: Path) -> None:
    (step,) = (
        step for step in steps(ROOT / ".github" / "workflows" / "release.yml") if "The tag" in step.get("name", "")
    )
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for tag, expected in ((f"v{version}", True), ("v99.0.0", False), (version, False)):
        script = step["run"].replace("python -", f"{shlex.quote(sys.executable)} -", 1)
        done = subprocess.run(
            ["bash", "-e", "-c", script], cwd=ROOT, env={**os.environ, "GITHUB_REF_NAME": tag}, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        assert (done.returncode == 0) == expected, done.stderr


def test_the_wheel_is_checked_in_an_empty_environment() -> None:
    job = read(ROOT / ".github" / "workflows" / "tests.yml")["jobs"]["wheel"]
    script = "\n".join(step.get("run", "") for step in job["steps"])
    assert "twine check --strict dist/*" in script
    assert "bench.__file__.startswith" in script  # theirs, beside ours
    for words in re.findall(r"bin/visionbench\" (.*)", script):
        assert callable(command_line(words.split()[0]).parse_args(words.split(" > ")[0].split()).verb)


@pytest.mark.parametrize(
    "path", [path for path in WORKFLOWS if path.stem in ("gate", "nightly")], ids=lambda path: path.stem
)
def test_its_commands_are_what_the_command_line_understands(path: Path) -> None:
    lines = [line.strip() for step in steps(path) for line in step.get("run", "").splitlines()]
    commands = [line.removeprefix("python bench.py ") for line in lines if line.startswith("python bench.py ")]
    assert len(commands) >= 2
    for command in commands:
        words = shlex.split(re.split(r" (?:>|\|\|) ", command)[0])
        assert callable(command_line(words[0]).parse_args(words).verb)
