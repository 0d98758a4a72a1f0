"""What a wheel brings: one import name and all its data, whichever copy of the source it is built from."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

from tests.installed import build_sdist, build_wheel, copy_without_links, project_files

pytestmark = pytest.mark.slow

FOLDERS = {"bench": "visionbench", "models": "visionbench/models", "reports": "visionbench/reports"}
LINKS = {"bench/models", "bench/reports"}
NOT_SHIPPED = {"reports/published/README.md"}
DATA = {".csv", ".json", ".jsonl", ".css", ".js", ".typed"}
"""Kinds of data that the package reads, or is known by."""


def contents(wheel: Path) -> dict[str, bytes]:
    """The files of a wheel by name, without what pip writes about it."""
    with zipfile.ZipFile(wheel) as file:
        return {name: file.read(name) for name in file.namelist() if ".dist-info/" not in name}


def expected() -> set[str]:
    """The three folders' files under the names that a wheel gives them."""
    return {
        "/".join((FOLDERS[name.partition("/")[0]], name.partition("/")[2]))
        for name in project_files()
        if name.partition("/")[0] in FOLDERS and "/" in name and name not in LINKS | NOT_SHIPPED
    }


def test_the_wheel_brings_one_name_and_every_file_of_the_three_folders(wheel: Path) -> None:
    names = set(contents(wheel))
    assert {name.partition("/")[0] for name in names} == {"visionbench"}
    assert names == expected()
    assert {Path(name).suffix for name in names} >= DATA | {".py"}


def test_the_wheel_says_what_it_needs_and_what_it_runs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        (folder,) = {name.partition("/")[0] for name in file.namelist() if ".dist-info/" in name}
        points, top = (file.read(f"{folder}/{name}").decode() for name in ("entry_points.txt", "top_level.txt"))
        metadata = message_from_bytes(file.read(f"{folder}/METADATA"))
        assert f"{folder}/licenses/LICENSE" in file.namelist()
    assert "visionbench = visionbench.__main__:main" in points
    assert "[pytest11]\nvisionbench = visionbench.plugin.hooks" in points
    assert top.split() == ["visionbench"]
    needed = [need for need in metadata.get_all("Requires-Dist") or () if "extra ==" not in need]
    assert any(need.startswith("torch>=") for need in needed)
    assert not any(need.startswith(("pytest", "ruff", "mypy", "import-linter", "setuptools")) for need in needed)


def test_an_index_would_take_it(wheel: Path, source: Path, tmp_path: Path) -> None:
    pytest.importorskip("twine", reason="it comes with the extra `test`")
    files = [str(wheel), str(build_sdist(source, tmp_path))]
    words = [sys.executable, "-m", "twine", "check", "--strict", *files]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASSED") == 2


def test_the_source_distribution_builds_the_same_wheel(wheel: Path, source: Path, tmp_path: Path) -> None:
    other = build_wheel(build_sdist(source, tmp_path), tmp_path / "wheel")
    assert contents(other) == contents(wheel)


def test_an_archive_without_links_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    other = build_wheel(copy_without_links(tmp_path / "unpacked"), tmp_path / "wheel")
    assert contents(other) == contents(wheel)
