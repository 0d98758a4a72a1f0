"""visionbench: trustworthy benchmarks for vision models.

    from visionbench import trace, measure, predict, compare, report, read_records

The package `visionbench` is the folder `bench/`, with `models/` and `reports/` inside it. In a checkout three links say
so; in a wheel or an editable install `package-dir` in pyproject.toml does. Importing this file imports nothing heavy,
because every `--help` would pay for it: the six functions (`visionbench.api`) are loaded when they are first asked for.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from visionbench.api import compare, measure, predict, read_records, report, trace

if __name__ == "bench":
    raise ImportError("visionbench has one import name: say `import visionbench`, not `import bench`.")

ROOT = Path(__file__).resolve().parents[1]
"""The folder to put on an import path so that `import visionbench` finds this copy."""

__all__ = ["ROOT", "compare", "measure", "predict", "read_records", "report", "trace"]


def __getattr__(name: str) -> object:
    """One of the six functions, on first use."""
    if name not in __all__:
        raise AttributeError(f"module 'visionbench' has no attribute '{name}'")
    from visionbench import api

    return getattr(api, name)
