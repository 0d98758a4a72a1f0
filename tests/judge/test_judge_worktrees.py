"""Two revisions on disk, in scratch repositories: what a gate checks out, what it leaves alone, and what it removes."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from visionbench.judging import worktrees
from visionbench.judging.worktrees import (
    LOCK,
    OLD,
    PREFIX,
    changed_declarations,
    checked_out,
    dependencies_differ,
    here,
    repository,
    sweep_up,
)
from visionbench.record.errors import BenchError


def git(root: Path, *words: str) -> str:
    identity = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.org", "-c", "commit.gpgsign=false")
    return subprocess.run(
        ["git", "-C", str(root), *identity, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


def commit(root: Path, **files: str) -> str:
    for name, text in files.items():
        (root / f"{name}.py").write_text(text)
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--allow-empty", "--message", "a commit")
    return git(root, "rev-parse", "HEAD")


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, of this test alone."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with two commits: `net.py` says "old" in the first and "new" in the second."""
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch", "main")
    commit(folder, net="old")
    commit(folder, net="new")
    return folder


def listed(root: Path) -> list[str]:
    lines = git(root, "worktree", "list", "--porcelain").splitlines()
    return [line.removeprefix("worktree ") for line in lines if line.startswith("worktree ")]


def test_a_repository_is_found_from_within(root: Path) -> None:
    (root / "sub").mkdir()
    assert repository(root / "sub") == root.resolve()


def test_a_repository_is_found_through_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    assert repository(tmp_path / "link") == root.resolve()


def test_no_repository_is_a_mistake_in_gits_words_and_ours(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"no git checkout.*not a git repository.*--vary"):
        repository(tmp_path)


def test_no_git_is_a_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BenchError, match="git cannot be run"):
        repository(tmp_path)


def test_a_git_that_waits_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "git").write_text("#!/bin/sh\nexec sleep 100\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(worktrees, "GIT_SECONDS", 0.2)
    with pytest.raises(BenchError, match=r"`git rev-parse` did not end in 0\.2 s"):
        repository(tmp_path)


def test_a_hooks_variables_do_not_lead_elsewhere(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "elsewhere" / "index"))
    assert repository(root) == root.resolve()


def test_a_revision_lies_in_a_folder_of_its_own_and_is_gone_afterwards(root: Path, temporary: Path) -> None:
    old = git(root, "rev-parse", "HEAD~1")
    with checked_out(root, "HEAD~1") as revision:
        assert (revision.name, revision.commit, revision.dirty) == ("HEAD~1", old, False)
        assert (revision.tree / "net.py").read_text() == "old"
        assert (root / "net.py").read_text() == "new"
        assert listed(root) == [str(root), str(revision.tree)]
    assert listed(root) == [str(root)]
    assert list(temporary.iterdir()) == []
    assert git(root, "branch", "--show-current") == "main"


@pytest.mark.parametrize("name", ["v1", "main", "HEAD", "HEAD^{/a commit}", "v1^{tree}^{commit}"])
def test_whatever_git_calls_a_commit(root: Path, name: str) -> None:
    git(root, "tag", "--annotate", "v1", "--message", "one")
    if name.endswith("^{tree}^{commit}"):
        with pytest.raises(BenchError, match="there is no revision"), checked_out(root, name):
            pass
        return
    with checked_out(root, name) as revision:
        assert revision.commit == git(root, "rev-parse", "HEAD")


@pytest.mark.parametrize(
    "name", ["origin/main", "", "-x", "--upload-pack=touch x", "HEAD:net.py", "a\nb", "$(touch x)", "..", "@{-1}"]
)
def test_what_is_no_revision_is_a_mistake_and_nothing_is_left(root: Path, name: str, temporary: Path) -> None:
    with pytest.raises(BenchError, match="there is no revision"), checked_out(root, name):
        pass
    assert list(temporary.iterdir()) == []
    assert not (root / "x").exists()


def test_a_shallow_checkout_gets_the_remedy(root: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", "--depth", "1", f"file://{root}", "shallow")
    with pytest.raises(BenchError, match="fetch-depth: 0"), checked_out(tmp_path / "shallow", "HEAD~1"):
        pass


def test_a_repository_without_a_commit_is_a_mistake(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "empty")
    with pytest.raises(BenchError, match="there is no revision 'HEAD'"):
        here(tmp_path / "empty")


class OwnError(Exception):
    pass


@pytest.mark.parametrize("error", [OwnError, KeyboardInterrupt, SystemExit])
def test_a_revision_is_gone_after_an_exception(root: Path, error: type[BaseException], temporary: Path) -> None:
    with pytest.raises(error), checked_out(root, "HEAD~1") as revision:  # noqa: PT012
        (revision.tree / "left_by_a_build").mkdir()
        (revision.tree / "net.py").write_text("edited")
        raise error
    assert (listed(root), list(temporary.iterdir())) == ([str(root)], [])


def test_a_revision_is_gone_even_if_somebody_broke_it(root: Path, temporary: Path) -> None:
    with checked_out(root, "HEAD") as revision:
        (revision.tree / ".git").unlink()
    with checked_out(root, "HEAD") as revision:
        shutil.rmtree(revision.tree.parent)
    assert (listed(root), list(temporary.iterdir())) == ([str(root)], [])


def test_a_checkout_that_fails_says_why_and_leaves_nothing(root: Path, temporary: Path) -> None:
    blob = git(root, "rev-parse", "HEAD~1:net.py")
    (root / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(BenchError, match=r"git cannot check out HEAD~1 \("), checked_out(root, "HEAD~1"):
        pass
    assert (listed(root), list(temporary.iterdir())) == ([str(root)], [])


def test_the_users_hooks_stay_out_of_it(root: Path) -> None:
    hook = root / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {root}/was_here\nexit 1\n")
    hook.chmod(0o755)
    with checked_out(root, "HEAD"):
        pass
    assert not (root / "was_here").exists()


def test_the_users_work_trees_are_not_forgotten(root: Path, tmp_path: Path) -> None:
    mine = tmp_path / "on_a_stick"
    git(root, "worktree", "add", "--detach", str(mine))
    mine.rename(tmp_path / "unplugged")
    with checked_out(root, "HEAD"):
        pass
    assert listed(root) == [str(root), str(mine)]


def dead() -> int:
    """The number of a process that is no more."""
    with subprocess.Popen(["true"]) as process:
        pass
    return process.pid


@pytest.mark.parametrize("folder_is_there", [True, False])
def test_what_a_killed_gate_left_is_swept_up(root: Path, temporary: Path, folder_is_there: bool) -> None:
    left = temporary / f"{PREFIX}{dead()}-abc"
    git(root, "worktree", "add", "--detach", str(left / "tree"))
    if not folder_is_there:  # the machine was started anew
        shutil.rmtree(left)
    environment = temporary / f"{PREFIX}{dead()}-env" / "base"  # gigabytes, and in no list of git's
    environment.mkdir(parents=True)
    (environment.parent / LOCK).touch()  # which nobody holds any more
    if folder_is_there:
        (left / LOCK).touch()
    else:
        _age(root / ".git" / "worktrees" / "tree" / "gitdir")
    with checked_out(root, "HEAD") as revision:
        assert listed(root) == [str(root), str(revision.tree)]
        assert list(temporary.iterdir()) == [revision.tree.parent]


def _age(path: Path) -> None:
    os.utime(path, (time.time() - OLD - 60,) * 2)


@pytest.mark.parametrize("way", ["locked by another container", "before its lock", "in another container's /tmp"])
def test_a_live_gate_keeps_its_tree_whatever_its_process_number_means_here(root, temporary, way):
    folder = temporary / f"{PREFIX}{dead()}-abc"
    git(root, "worktree", "add", "--detach", str(folder / "tree"))
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT)
    if way == "locked by another container":
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        _age(folder)
    else:
        (folder / LOCK).unlink()
    if way == "in another container's /tmp":
        folder.rename(temporary / "elsewhere")
    sweep_up(root)
    assert listed(root)[1:] == [str(folder / "tree")]
    assert folder.exists() or (temporary / "elsewhere" / "tree" / ".git").exists()
    os.close(descriptor)


def test_a_folder_is_locked_as_long_as_its_gate_lives(root, temporary):
    with checked_out(root, "HEAD") as revision:
        _age(revision.tree.parent)
        sweep_up(root)
        assert (revision.tree / ".git").exists()
        assert (revision.tree.parent / LOCK).exists()


def test_what_is_alive_or_not_ours_is_not_swept_up(root: Path, temporary: Path) -> None:
    names = [
        f"{PREFIX}{os.getppid()}-abc",
        f"{PREFIX}1-abc",
        f"{PREFIX}{10**30}-abc",
        f"{PREFIX}notes",
        f"my-{PREFIX}{dead()}-abc",
    ]
    names = list(dict.fromkeys(names))  # an orphan's parent is process 1
    for name in names:
        git(root, "worktree", "add", "--detach", str(temporary / name / "tree"))
    sweep_up(root)
    assert sorted(listed(root)[1:]) == sorted(str(temporary / name / "tree") for name in names)


def test_the_working_tree_is_measured_as_it_is(root: Path) -> None:
    found = here(root)
    assert (found.name, found.commit, found.tree, found.dirty) == (
        "working tree",
        git(root, "rev-parse", "HEAD"),
        root,
        False,
    )


@pytest.mark.parametrize("file", ["net.py", "new.py", "pkg/new.py"])
def test_an_edit_and_a_new_file_make_it_dirty(root: Path, file: str) -> None:
    (root / file).parent.mkdir(exist_ok=True)
    (root / file).write_text("edited")
    assert here(root).dirty


def test_what_a_gate_leaves_does_not_make_it_dirty(root: Path) -> None:
    for file in ("visionbench-gate.jsonl", "sub/visionbench.jsonl", "__pycache__/net.pyc", "sub/__pycache__/a.pyc"):
        (root / file).parent.mkdir(exist_ok=True)
        (root / file).touch()
    assert not here(root).dirty


LINTED = '[tool.ruff]\nline-length = 100\n[project]\nname = "mine"\ndependencies = ["torch>=2.6", "timm"]\n'
SORTED = LINTED.replace('["torch>=2.6", "timm"]', '["timm", "torch>=2.6"]')
POETRY = "[tool.poetry.dependencies]\ntorch = '"


@pytest.mark.parametrize(
    ("base", "head", "differ"),
    [
        ({"pyproject.toml": LINTED}, {"pyproject.toml": LINTED}, False),
        ({"pyproject.toml": LINTED}, {"pyproject.toml": LINTED.replace("100", "120")}, False),
        ({"pyproject.toml": LINTED}, {"pyproject.toml": LINTED.replace("2.6", "2.7")}, True),
        ({"pyproject.toml": LINTED}, {"pyproject.toml": SORTED}, False),
        ({"pyproject.toml": LINTED}, {"pyproject.toml": LINTED + 'requires-python = ">=3.12"\n'}, True),
        ({"pyproject.toml": LINTED}, {}, True),
        ({}, {"pyproject.toml": "[tool.ruff]\nline-length = 100\n"}, False),
        ({"pyproject.toml": f"{POETRY}2.6'"}, {"pyproject.toml": f"{POETRY}2.7'"}, True),
        ({"pyproject.toml": LINTED}, {"pyproject.toml": "this is [no toml"}, True),
        ({"pyproject.toml": "project = 3"}, {"pyproject.toml": "project = 4"}, True),
        ({"pyproject.toml": "this is [no toml"}, {"pyproject.toml": "this is [no toml"}, False),
        ({"requirements.txt": "torch"}, {"requirements.txt": "torch>=2.6"}, True),
        ({"requirements.txt": "torch"}, {"requirements.txt": "torch", "requirements-dev.txt": "ruff"}, True),
        ({}, {"requirements/gpu.txt": "torch"}, True),
        ({"uv.lock": "1"}, {"uv.lock": "2"}, True),
        ({"net.py": "1"}, {"net.py": "2", "notes.txt": "x"}, False),
    ],
)  # fmt: skip
def test_only_what_is_to_be_installed_counts(
    tmp_path: Path, base: dict[str, str], head: dict[str, str], differ: bool
) -> None:
    for side, files in (("base", base), ("head", head)):
        (tmp_path / side).mkdir()
        for name, text in files.items():
            (tmp_path / side / name).parent.mkdir(exist_ok=True)
            (tmp_path / side / name).write_text(text)
    assert dependencies_differ(tmp_path / "base", tmp_path / "head") is differ
    assert dependencies_differ(tmp_path / "head", tmp_path / "base") is differ


def test_changed_files_are_named(tmp_path: Path) -> None:
    for side, texts in (("base", ("1", "1", "1")), ("head", ("2", "1", "2"))):
        (tmp_path / side / "requirements").mkdir(parents=True)
        for name, text in zip(("setup.cfg", "pyproject.toml", "requirements/a.txt"), texts, strict=True):
            (tmp_path / side / name).write_text(text)
    (tmp_path / "head" / "uv.lock").touch()
    assert changed_declarations(tmp_path / "base", tmp_path / "head") == ("requirements/a.txt", "setup.cfg", "uv.lock")
