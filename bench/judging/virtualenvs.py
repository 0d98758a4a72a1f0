"""What each side's code needs installed: one environment for both, or, where the revisions declare different things,
one each.

Building them costs minutes and gigabytes, so it happens only where a file that declares dependencies differs between
the two trees, and then openly: a new version of torch is a change like any other, and may be what made a model slower.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from visionbench import ROOT
from visionbench.record.errors import BenchError

INSTALL_SECONDS = 3600.0


def build(folder: Path, tree: Path, name: str) -> str:
    """A virtual environment in `folder` with what `tree` asks for and the engine's own needs; its Python's path.

    By uv where that is installed, else by venv and pip. Raises `BenchError` with the last line of what failed, in which
    the tree is called `name`.
    """
    python = folder / "bin" / "python"
    uv = shutil.which("uv")
    if uv:
        _run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)], tree, name)
        _run([uv, "pip", "install", "--quiet", "--python", str(python), *_wanted(tree)], tree, name)
    else:
        _run([sys.executable, "-m", "venv", str(folder)], tree, name)
        _run([str(python), "-m", "pip", "install", "--quiet", *_wanted(tree)], tree, name)
    return str(python)


def _wanted(tree: Path) -> list[str]:
    """The tree itself, its requirement files where it is no package, and the engine that measures both sides."""
    requirements = [word for path in sorted(tree.glob("requirements*.txt")) for word in ("-r", str(path))]
    package = [str(tree)] if _is_package(tree) else []
    is_engine = (tree / "bench" / "record" / "spec.py").exists()
    return [*requirements, *package, *(() if is_engine else (_engine(),))]


def _is_package(tree: Path) -> bool:
    """Whether pip can install the tree: many a pyproject.toml holds a linter's settings and nothing else."""
    try:
        declared = tomllib.loads((tree / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # none, or a broken one: pip says what is wrong with it
        declared = {"project": {}} if (tree / "pyproject.toml").exists() else {}
    return bool({"project", "build-system"} & set(declared)) or (tree / "setup.py").exists()


def _engine() -> str:
    """This visionbench, as something that pip can install."""
    if (ROOT / "pyproject.toml").exists():
        return str(ROOT)
    try:
        return f"visionbench=={version('visionbench')}"
    except PackageNotFoundError:
        return "visionbench"


def _run(command: list[str], directory: Path, name: str) -> None:
    try:
        done = subprocess.run(
            command, cwd=directory, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=INSTALL_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise BenchError(
            f"installing what {name} declares did not end in {INSTALL_SECONDS / 60:g} min: mend it, or say "
            "--environment same."
        ) from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
        raise BenchError(f"what {name} declares cannot be installed ({said[-1]}): mend it, or say --environment same.")
