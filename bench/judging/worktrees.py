"""Two revisions of one repository on disk, beside each other, and gone afterwards.

A revision is checked out by `git worktree` into a temporary folder: the user's own checkout is not touched, and the
head, unless it is named, is that checkout as it is, uncommitted changes and all. What a killed gate left behind, the
next one removes.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from visionbench.record.errors import BenchError

PREFIX = "visionbench-gate-"
"""Of the temporary folders; the process number follows, which means little in another container."""

LOCK = "lock"
"""A file in each of them that its gate keeps locked: the kernel, and no process number, says whether the gate lives."""

OLD = 24 * 3600.0
"""Seconds after which a folder without a lock, or one that is not to be seen from here, is left behind for sure."""

OUR_OWN = ("**/visionbench*.jsonl", "**/__pycache__/**")
"""Files that a gate itself leaves in a checkout: they are no change of it."""

DECLARATIONS = (
    "pyproject.toml", "setup.cfg", "setup.py", "requirements*.txt", "requirements/*.txt", "constraints*.txt", "uv.lock",
    "poetry.lock", "pdm.lock", "pixi.lock", "pylock.toml", "Pipfile.lock", "environment.yml",
)  # fmt: skip
"""Files that say what a revision needs installed."""

GIT_SECONDS = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """A revision on disk: what people call it, its commit, its folder, and whether it has uncommitted changes."""

    name: str
    commit: str
    tree: Path
    dirty: bool = False


def repository(start: Path) -> Path:
    """The top of the checkout that contains `start`. Raises `BenchError` outside of a checkout."""
    done = _run(start, "rev-parse", "--show-toplevel")
    if done.returncode != 0:
        said = " ".join(done.stderr.split())  # of somebody else's checkout git says what to do
        raise BenchError(
            f"{start} is no git checkout to git ({said}): run the gate in one, or compare two settings with --vary."
        )
    return Path(done.stdout.removesuffix("\n")).resolve()


def here(root: Path) -> Revision:
    """The checkout as it is on disk, uncommitted changes included. Raises `BenchError` before the first commit."""
    but = [f":(exclude,glob){pattern}" for pattern in OUR_OWN]
    dirty = _git(root, "status", "--porcelain", "--untracked-files=normal", "--", ".", *but)
    return Revision(name="working tree", commit=_commit(root, "HEAD"), tree=root, dirty=bool(dirty))


@contextmanager
def checked_out(root: Path, name: str) -> Iterator[Revision]:
    """The revision `name` in a temporary folder, removed at the end. Raises `BenchError` if it cannot be had."""
    commit = _commit(root, name)
    sweep_up(root)
    with temporary_folder() as folder:
        tree = folder / "tree"
        try:
            # Without the user's hooks: they are for the user's checkouts, and one that fails would fail this one.
            words = ("-c", "core.hooksPath=/dev/null", "worktree", "add", "--detach", "--force")
            done = _run(root, *words, str(tree), commit)
            if done.returncode != 0:
                said = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
                raise BenchError(f"git cannot check out {name} ({said}): mend that, and try again.")
            yield Revision(name=name, commit=commit, tree=tree)
        finally:
            _remove(root, tree)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder of this gate's, removed at the end, or, should this process be killed, by the next gate."""
    prefix = f"{PREFIX}{os.getpid()}-"
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as folder, _locked(Path(folder)):
        yield Path(folder).resolve()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """The folder's lock, held; where the file system has none the folder lives by its age."""
    unnamed = folder / f".{LOCK}"
    descriptor = os.open(unnamed, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            unnamed.rename(folder / LOCK)  # no other gate meets it before it is locked
        yield
    finally:
        os.close(descriptor)


def sweep_up(root: Path) -> None:
    """Remove what gates left behind that were killed."""
    listed = _git(root, "worktree", "list", "--porcelain") or ""
    for line in listed.splitlines():
        tree = Path(line.removeprefix("worktree "))
        if tree.name == "tree" and _is_left_behind(tree.parent, _noted(root, tree)):
            _remove(root, tree)
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        if _is_left_behind(folder, folder):
            shutil.rmtree(folder, ignore_errors=True)


def _is_left_behind(folder: Path, dated: Path) -> bool:
    """Whether that is a gate's folder, and the gate is gone: its lock is free.

    Where there is no lock to try, `dated` must be old and no process have the gate's number.
    """
    gate = re.match(rf"{PREFIX}(\d+)-", folder.name)
    if gate is None:
        return False
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR)
    except OSError:
        return _is_old(dated) and _is_dead(int(gate[1]))
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _noted(root: Path, tree: Path) -> Path:
    """Where git notes that work tree; the tree itself if it is not found."""
    notes = root / (_git(root, "rev-parse", "--git-common-dir") or ".git") / "worktrees"
    for note in notes.glob("*/gitdir"):
        with suppress(OSError, UnicodeDecodeError):
            if note.read_text(encoding="utf-8").strip() == str(tree / ".git"):
                return note
    return tree


def _is_old(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > OLD
    except OSError:
        return False


def _is_dead(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # somebody else's, or no process number
        return False
    return False


def _remove(root: Path, tree: Path) -> None:
    """Take a work tree off the disk and out of git's list, whatever state it is in, and touch no other one.

    `git worktree prune` would also forget the user's own work trees on a disk that is not mounted.
    """
    shutil.rmtree(tree, ignore_errors=True)
    with suppress(OSError):
        tree.parent.mkdir(parents=True, exist_ok=True)  # git finds a tree that is gone, in a folder that is not
    _run(root, "worktree", "remove", "--force", "--force", str(tree))
    shutil.rmtree(tree.parent, ignore_errors=True)


def changed_declarations(base: Path, head: Path) -> tuple[str, ...]:
    """The files that say what is to be installed and differ between two trees, by name, sorted."""
    names = {
        str(path.relative_to(tree)) for tree in (base, head) for pattern in DECLARATIONS for path in tree.glob(pattern)
    }
    return tuple(sorted(name for name in names if _content(base / name) != _content(head / name)))


def dependencies_differ(base: Path, head: Path) -> bool:
    """Whether what is to be installed differs, and not only, say, a linter's settings in the same file."""
    others = [name for name in changed_declarations(base, head) if name != "pyproject.toml"]
    return bool(others) or _dependencies(base / "pyproject.toml") != _dependencies(head / "pyproject.toml")


def _dependencies(path: Path) -> object:
    """What a pyproject.toml asks for at run time, nothing without the file; the whole text of one that is broken."""
    try:
        declared = tomllib.loads((_content(path) or b"").decode())
        project, poetry = declared.get("project", {}), declared.get("tool", {}).get("poetry", {})
        return project.get("requires-python"), sorted(project.get("dependencies", [])), poetry.get("dependencies", {})
    except (ValueError, RecursionError, AttributeError, TypeError):  # the last two: no tables
        return _content(path)


def _content(path: Path) -> bytes | None:
    with suppress(OSError):
        return path.read_bytes()
    return None


def _commit(root: Path, name: str) -> str:
    found = None if name.startswith("-") else _git(root, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    if found is None:
        raise BenchError(
            f"there is no revision '{name}' in {root}: fetch it (a CI checkout often holds one commit only: "
            "`git fetch origin main`, or fetch-depth: 0), or name another."
        )
    return found


def _git(root: Path, *words: str) -> str | None:
    done = _run(root, *words)
    return done.stdout.strip() if done.returncode == 0 else None


def _run(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    # Inside a git hook the GIT_ variables point at the repository that the hook is of, which need not be this one.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command: Sequence[str] = ["git", "-C", str(root), *words]
    try:
        return subprocess.run(
            command, check=False, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=GIT_SECONDS,
        )  # fmt: skip
    except OSError as error:
        raise BenchError(f"git cannot be run ({error.strerror}): install it, or use --vary.") from error
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"`git {words[0]}` did not end in {GIT_SECONDS:g} s: see what it waits for.") from error
