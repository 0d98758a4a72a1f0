"""A user's modules may be called what our folders are called: the user's come first, and ours stay importable."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

CODE = """
import sys
sys.path[:] = [ROOT, *(entry for entry in sys.path if entry not in ("", ROOT))]
from visionbench.models import build
build("user:{module}:make", 16)
import {package}, visionbench.models
print(*{package}.__path__, visionbench.models.__file__, sep="\\n")
"""


@pytest.mark.parametrize("module", ["models.net", pytest.param("bench.net", marks=pytest.mark.slow)])
@pytest.mark.parametrize("packages", [pytest.param(True, marks=pytest.mark.slow), False])
def test_a_users_folders_hide_ours_but_not_visionbench(tmp_path: Path, module: str, packages: bool) -> None:
    for name in ("bench", "models", "reports"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "net.py").write_text("from torch import nn\ndef make():\n    return nn.Flatten()\n")
        if packages:
            (tmp_path / name / "__init__.py").touch()
    package = module.partition(".")[0]
    code = f"ROOT = {str(ROOT)!r}\n" + CODE.replace("{module}", module).replace("{package}", package)
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    *users, ours = done.stdout.split()
    assert users == [str(tmp_path / package)]
    assert Path(ours).resolve() == ROOT / "models" / "__init__.py"
