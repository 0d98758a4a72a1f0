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
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import visionbench
from visionbench import ROOT
from visionbench.record.errors import BenchError

INSTALL_SECONDS = 3600.0


def build(folder: Path, tree: Path, name: str) -> str:
    """A virtual environment in `folder` with what `tree` asks for and the engine's own needs; its Python's path.

    By uv where that is installed, else by venv and pip. Raises `BenchError` with the last line of what failed, in which
    the tree is called `name`.
    """
    python = folder / "bin" / "python"
    wanted = [word for path in sorted(tree.glob("requirements*.txt")) for word in ("-r", str(path))]
    wanted += [str(tree)] if _is_package(tree) else []
    is_engine = (tree / "bench" / "record" / "spec.py").exists()
    wanted += [] if is_engine else _needed_by_the_engine()
    uv = shutil.which("uv")
    if uv:
        _run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)], tree, name)
        _run([uv, "pip", "install", "--quiet", "--python", str(python), *wanted], tree, name)
    else:
        _run([sys.executable, "-m", "venv", str(folder)], tree, name)
        _run([str(python), "-m", "pip", "install", "--quiet", *wanted], tree, name)
    if not is_engine and not _is_checkout():  # what is installed is copied
        without = shutil.ignore_patterns("__pycache__")
        for packages in (folder / "lib").glob("python*/site-packages"):
            shutil.copytree(Path(visionbench.__file__).parent, packages / "visionbench", ignore=without)
    return str(python)


def _is_package(tree: Path) -> bool:
    """Whether pip can install the tree: many a pyproject.toml holds a linter's settings and nothing else."""
    try:
        declared = tomllib.loads((tree / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # none, or a broken one: pip says what is wrong with it
        declared = {"project": {}} if (tree / "pyproject.toml").exists() else {}
    return bool({"project", "build-system"} & set(declared)) or (tree / "setup.py").exists()


def _is_checkout() -> bool:
    """Whether this visionbench is a source tree, which pip can install."""
    return (ROOT / "pyproject.toml").exists()


def _needed_by_the_engine() -> list[str]:
    """The checkout that runs this; else what the installed engine needs.

    The engine is never asked for by its name: an index may have something else of that name, and pip would run it.
    """
    if _is_checkout():
        return [str(ROOT)]
    try:
        needs = requires("visionbench") or []
    except PackageNotFoundError as error:
        raise BenchError(
            "this visionbench is not installed, so it cannot be put into another environment: install it, or say "
            "--environment same."
        ) from error
    return [need for need in needs if "extra ==" not in need]


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
