"""An environment per side, with a uv and a pip that only say what they were told."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from visionbench.judging import virtualenvs
from visionbench.judging.virtualenvs import ROOT, build
from visionbench.record.errors import BenchError

# Notes its words and its directory; what is called a virtual environment gets a Python that does the same.
FAKE = """#!{python}
import json, os, pathlib, sys
with open({log!r}, "a") as log:
    print(json.dumps([os.getcwd(), *sys.argv[1:]]), file=log)
if "venv" in sys.argv:
    own = pathlib.Path(sys.argv[-1]) / "bin" / "python"
    own.parent.mkdir(parents=True)
    own.write_text(pathlib.Path(__file__).read_text())
    own.chmod(0o755)
elif {fails!r}:
    print("Collecting torch\\nERROR: No matching distribution found for torch==9", file=sys.stderr)
    sys.exit(1)
"""

Tools = Callable[..., Callable[[], list[list[str]]]]


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    """Put a fake Python, and a fake uv if wanted, in the place of the real ones; the answer reads what they heard."""

    def make(*, uv: bool, fails: bool = False) -> Callable[[], list[list[str]]]:
        folder, log = tmp_path / "tools", tmp_path / "log"
        folder.mkdir()
        for name in ("uv", "python") if uv else ("python",):
            (folder / name).write_text(FAKE.format(python=sys.executable, log=str(log), fails=fails))
            (folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))
        monkeypatch.setattr(virtualenvs.sys, "executable", str(folder / "python"))
        return lambda: [json.loads(line) for line in log.read_text().splitlines()]

    return make


@pytest.fixture
def tree(tmp_path: Path) -> Callable[..., Path]:
    def make(**files: str) -> Path:
        for name, text in files.items():
            path = tmp_path / "tree" / name.replace("__", "/").replace("_", ".", 1)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path / "tree"

    return make


PROJECT: dict[str, Any] = {"pyproject_toml": '[project]\nname = "mine"\n'}


def test_uv_where_it_is_installed(tools: Tools, tree: Callable[..., Path], tmp_path: Path) -> None:
    heard, folder, where = tools(uv=True), tmp_path / "env", tree(**PROJECT)
    python = build(folder, where, "main")
    assert python == str(folder / "bin" / "python")
    assert heard() == [
        [str(where), "venv", "--quiet", "--python", str(tmp_path / "tools" / "python"), str(folder)],
        [str(where), "pip", "install", "--quiet", "--python", python, str(where), str(ROOT)],
    ]


def test_pip_of_the_new_environment_where_it_is_not(tools: Tools, tree: Callable[..., Path], tmp_path: Path) -> None:
    heard, folder, where = tools(uv=False), tmp_path / "env", tree(**PROJECT)
    build(folder, where, "main")
    assert heard() == [
        [str(where), "-m", "venv", str(folder)],
        [str(where), "-m", "pip", "install", "--quiet", str(where), str(ROOT)],
    ]


@pytest.mark.parametrize(
    ("files", "installed"),
    [
        ({"requirements_txt": "torch"}, ["-r", "TREE/requirements.txt", "ENGINE"]),
        ({"pyproject_toml": "[tool.ruff]\n", "requirements_txt": "torch"}, ["-r", "TREE/requirements.txt", "ENGINE"]),
        ({"pyproject_toml": "[tool.ruff]\n", "setup_py": ""}, ["TREE", "ENGINE"]),
        ({"pyproject_toml": "[build-system]\n"}, ["TREE", "ENGINE"]),
        ({"pyproject_toml": "no [toml"}, ["TREE", "ENGINE"]),
        ({"requirements_txt": "a", **PROJECT}, ["-r", "TREE/requirements.txt", "TREE", "ENGINE"]),
        ({"bench__record__spec_py": "", **PROJECT}, ["TREE"]),  # it is an engine itself
    ],
)
def test_what_a_tree_asks_for(
    files: dict[str, str], installed: list[str], tools: Tools, tree: Callable[..., Path], tmp_path: Path
) -> None:
    heard, where = tools(uv=False), tree(**files)
    build(tmp_path / "env", where, "main")
    words = [word.replace("TREE", str(where)).replace("ENGINE", str(ROOT)) for word in installed]
    assert heard()[-1][5:] == words


@pytest.mark.parametrize("uv", [True, False])
def test_an_installed_engine_is_copied_and_never_asked_for_by_its_name(
    uv: bool, tools: Tools, tree: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard, where = tools(uv=uv), tree(**PROJECT)
    monkeypatch.setattr(virtualenvs, "ROOT", tmp_path)
    monkeypatch.setattr(virtualenvs, "requires", lambda name: ["torch>=2.6", "pyarrow; extra == 'parquet'"])
    packages = tmp_path / "env" / "lib" / "python3.11" / "site-packages"
    packages.mkdir(parents=True)
    build(tmp_path / "env", where, "main")
    assert heard()[-1][-2:] == [str(where), "torch>=2.6"]
    assert not [word for words in heard() for word in words if word.startswith("visionbench")]
    assert (packages / "visionbench" / "record" / "spec.py").exists()


def test_an_engine_that_is_nowhere_installed_is_a_mistake(
    tools: Tools, tree: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> None:
        raise virtualenvs.PackageNotFoundError(name)

    tools(uv=False)
    monkeypatch.setattr(virtualenvs, "ROOT", tmp_path)
    monkeypatch.setattr(virtualenvs, "requires", absent)
    with pytest.raises(BenchError, match="--environment same"):
        build(tmp_path / "env", tree(**PROJECT), "main")


@pytest.mark.parametrize("uv", [True, False])
def test_what_cannot_be_installed_is_a_mistake_with_its_last_line(
    uv: bool, tools: Tools, tree: Callable[..., Path], tmp_path: Path
) -> None:
    tools(uv=uv, fails=True)
    with pytest.raises(BenchError, match=r"what origin/main declares .*torch==9\): mend it, or say --environment same"):
        build(tmp_path / "env", tree(**PROJECT), "origin/main")


def test_an_installation_without_end_is_a_mistake(
    tools: Tools, tree: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools(uv=False)
    (tmp_path / "tools" / "python").write_text("#!/bin/sh\nexec /bin/sleep 100\n")
    monkeypatch.setattr(virtualenvs, "INSTALL_SECONDS", 0.3)
    with pytest.raises(BenchError, match="--environment same"):
        build(tmp_path / "env", tree(**PROJECT), "main")
