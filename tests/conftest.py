"""Copies, builds and environments of visionbench, for the tests of what people install.

Everything is made from a copy of the checkout's files, so that nothing is written into the checkout itself. An
environment holds visionbench alone and finds torch and the rest where this one has them: nothing is downloaded.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.installed import build_wheel, copy_checkout, make_environment


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this checkout, links included."""
    return copy_checkout(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="session")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that is built from the copy."""
    return build_wheel(source, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def environments(source: Path, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The Python of an environment for each way of having visionbench; `checkout` has nothing installed."""
    folder = tmp_path_factory.mktemp("environments")
    return {
        "wheel": make_environment(folder / "wheel", str(wheel)),
        "editable": make_environment(folder / "editable", "--no-build-isolation", "--editable", str(source)),
        "checkout": make_environment(folder / "checkout"),
    }


@pytest.fixture(autouse=True)
def _a_doctor_in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dozens of tests examine this machine; it need not be watched for a second each time."""
    if doctor := sys.modules.get("visionbench.machine.doctor"):
        monkeypatch.setattr(doctor, "STEAL_SECONDS", 0.05)
