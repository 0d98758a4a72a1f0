"""How visionbench gets onto a machine: copies of the checkout, wheels, and environments that have one of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def project_files() -> list[str]:
    """The files that git tracks here or would track, relative to the root; links are files."""
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode or not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout, so it does not say which files are the project's")
    return sorted(name for name in listed.stdout.split("\0") if name and os.path.lexists(ROOT / name))


def copy_checkout(folder: Path) -> Path:
    """A copy of the project's files, links included."""
    for name in project_files():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    return folder


def copy_without_links(folder: Path) -> Path:
    """The same as a program leaves it that unpacks each link as a small file which holds its target."""
    for link in [path for path in copy_checkout(folder).rglob("*") if path.is_symlink()]:
        target = os.readlink(link)  # noqa: PTH115 -- as it is written, not where it leads
        link.unlink()
        link.write_text(target)
    return folder


def build_wheel(source: Path, folder: Path) -> Path:
    """Build a wheel of `source` (a folder or an sdist) into `folder`."""
    words = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(source)]
    _pip(*words)
    (wheel,) = folder.glob("*.whl")
    return wheel


def build_sdist(source: Path, folder: Path) -> Path:
    """Build the source distribution of `source` into `folder`."""
    code = f"from setuptools import build_meta; build_meta.build_sdist({str(folder)!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (sdist,) = folder.glob("*.tar.gz")
    return sdist


def make_environment(folder: Path, *install: str) -> Path:
    """A virtual environment with visionbench installed by those words, if any; returns its Python.

    A line of a `.pth` file is only a folder to look in, and the `.pth` files of that folder are not read. So where this
    Python has visionbench as an editable install, the new environment does not.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = (folder / "lib").glob("python*/site-packages")
    others = [entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]
    (packages / "others.pth").write_text("\n".join(others))
    python = folder / "bin" / "python"
    if install:
        words = ["--python", str(python), "install", "--quiet", "--no-deps", "--no-index", "--ignore-installed"]
        _pip(*words, *install, folder=folder)
    return python


def _pip(*words: str, folder: Path | None = None) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", *words], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
