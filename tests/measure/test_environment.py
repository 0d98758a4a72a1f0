"""Where a number was made."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
import torch

from visionbench.machine import environment
from visionbench.machine.environment import describe, find_device
from visionbench.record.errors import BenchError
from visionbench.record.record import Record, from_json, to_json
from visionbench.record.spec import Spec


@pytest.fixture
def fresh_checkout() -> Iterator[None]:
    environment._checkout.cache_clear()
    yield
    environment._checkout.cache_clear()


def test_a_cpu_is_named_with_its_threads() -> None:
    here = describe("cpu", threads=3)
    assert here.device_type == "cpu"
    assert here.device.endswith("-3t")
    assert here.device_name == here.cpu
    assert here.torch == torch.__version__
    assert here.cores
    assert here.cores >= 1
    assert here.cuda is None
    assert here.started is not None
    assert datetime.fromisoformat(here.started).utcoffset() is not None


def test_threads_are_torchs_own_unless_told() -> None:
    assert describe("cpu").threads == torch.get_num_threads()


def test_meta_touches_no_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    def touched(*_: object) -> None:
        raise AssertionError

    for name in ("is_available", "device_count", "get_device_properties"):
        monkeypatch.setattr(torch.cuda, name, touched)
    monkeypatch.setattr(environment, "_cpu_model", touched)
    here = describe("meta")
    assert here.device == "meta"
    assert (here.cpu, here.threads, here.device_name) == (None, None, None)
    assert here.timm
    assert here.python


def test_a_missing_gpu_has_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    here = describe("cuda")
    assert (here.device_type, here.device_name, here.device) == ("cuda", None, "cuda")
    assert find_device() == "cpu"


def test_it_survives_a_line_of_json() -> None:
    record = Record(spec=Spec(model="timm:resnet50"), protocol=None, environment=describe("cpu"), source="measured")
    assert from_json(to_json(record)) == record


@pytest.mark.usefixtures("fresh_checkout")
def test_outside_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    assert environment._checkout() == (None, None)


@pytest.mark.usefixtures("fresh_checkout")
def test_inside_somebody_elses_repository_neither(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    repository(tmp_path)
    (tmp_path / "site-packages").mkdir()
    monkeypatch.setattr(environment, "ROOT", tmp_path / "site-packages")
    assert environment._checkout() == (None, None)


@pytest.mark.usefixtures("fresh_checkout")
def test_a_checkout_is_known_by_commit_and_dirt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    commit = repository(tmp_path)
    monkeypatch.setattr(environment, "ROOT", tmp_path.resolve())
    monkeypatch.setenv("GIT_DIR", "/nowhere")  # as inside a hook
    assert environment._checkout() == (commit, False)
    (tmp_path / "file").write_text("changed")
    environment._checkout.cache_clear()
    assert environment._checkout() == (commit, True)


def test_a_word_that_is_no_device_is_a_mistake() -> None:
    with pytest.raises(BenchError, match="a100"):
        describe("a100")


def repository(path: Path) -> str:
    """Make a repository with one commit; its hash."""

    def git(*words: str) -> str:
        identity = ("-c", "user.name=n", "-c", "user.email=e@e", "-c", "commit.gpgsign=false")
        return subprocess.check_output(["git", "-C", str(path), *identity, *words], text=True).strip()

    git("init", "--quiet")
    (path / "file").write_text("first")
    git("add", "file")
    git("commit", "--quiet", "--message", "first")
    return git("rev-parse", "HEAD")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_is_described() -> None:
    here = describe("cuda")
    assert here.device_name == torch.cuda.get_device_name()
    assert here.device_memory
    assert here.cuda
    assert here.cudnn
    assert find_device() == "cuda"
