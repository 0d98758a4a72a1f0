"""The program's name as it was typed, and its release."""

from __future__ import annotations

import sys
from pathlib import Path


def program_name() -> str:
    """`python bench.py`, `python -m visionbench` or `visionbench`: what to type to run this program again."""
    path = Path(sys.argv[0])
    if path.name == "bench.py":
        return "python bench.py"
    if path.name == "__main__.py" and path.parent.name in ("bench", "visionbench"):
        return "python -m visionbench"
    return "visionbench"


def short_name() -> str:
    """`bench.py` or `visionbench`: what messages begin with."""
    return program_name().rpartition(" ")[2]


def release() -> str | None:
    """The installed release; None where visionbench runs from a checkout that is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("visionbench")
    except PackageNotFoundError:
        return None
