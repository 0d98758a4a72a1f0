"""The composite action: its steps, one by one, as a runner would run them, on somebody's scratch repository."""

from __future__ import annotations

import os
import site
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[1]
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text())
MODEL = "user:models.net:make"
NET = "from torch import nn\n\n\ndef make():\n    return nn.Sequential(nn.Conv2d(3, {width}, 3), nn.Flatten())\n"


def script(name: str) -> str:
    return next(step["run"] for step in ACTION["runs"]["steps"] if step["name"] == name)


def test_it_has_three_inputs_and_no_value_of_theirs_is_part_of_a_script() -> None:
    assert list(ACTION["inputs"]) == ["models", "baseline", "budget"]
    assert not any("${{" in step["run"] for step in ACTION["runs"]["steps"])


@pytest.mark.slow
def test_its_steps_gate_a_repository_that_owns_a_folder_called_models(tmp_path: Path) -> None:
    python = environment(tmp_path / "env")
    repository = tmp_path / "theirs"
    (repository / "models").mkdir(parents=True)
    (repository / "models" / "net.py").write_text(NET.format(width=8))
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "GITHUB_"))},
        "PATH": f"{python.parent}:{os.environ['PATH']}",
        "GITHUB_ACTION_PATH": str(ROOT),
        "PIP_NO_DEPS": "1",  # its dependencies are these tests' own
        "PIP_NO_BUILD_ISOLATION": "0",  # pip reads it the wrong way round: 0 is without isolation
        "PIP_NO_INDEX": "1",
        "MODELS": MODEL,
        "BASELINE": ACTION["inputs"]["baseline"]["default"],
        "BASE": "HEAD",
        "BUDGET": "60s",
        **{f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }

    def run(text: str) -> subprocess.CompletedProcess[str]:
        words = ["bash", "-e", "-o", "pipefail", "-c", text]
        return subprocess.run(words, cwd=repository, env=env, capture_output=True, text=True, timeout=600, check=False)

    installed = run(script("Install visionbench"))
    assert installed.returncode == 0, installed.stderr
    prepared = run("git init -q . && visionbench compare --exact $MODELS --image-size 32 --update")
    assert prepared.returncode == 0, prepared.stderr
    assert run("git add -A && git commit -q -m first").returncode == 0
    exact = run(f"{script('Structure, exactly')} --image-size 32")
    assert exact.returncode == 0, exact.stdout + exact.stderr
    (repository / "models" / "net.py").write_text(NET.format(width=512))
    wider = run(f"{script('Structure, exactly')} --image-size 32")
    assert wider.returncode == 1, wider.stdout + wider.stderr
    slower = run(f"{script('Time, in turns')} --image-size 32 --launches 8 --rounds 3")
    assert slower.returncode == 1, slower.stdout + slower.stderr
    assert "regressed" in slower.stdout


def environment(folder: Path) -> Path:
    """A virtual environment that sees the packages of this one, so that nothing is downloaded."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    packages = next(folder.glob("lib/python*/site-packages"))
    (packages / "zz_shared.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    return folder / "bin" / "python"
