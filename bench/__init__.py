"""visionbench: trustworthy benchmarks for vision models.

The package `visionbench` is the folder `bench/`, with `models/` and `reports/` inside it. In a checkout three links say
so; in a wheel or an editable install `package-dir` in pyproject.toml does. This file imports nothing: every `--help`
would pay for it.
"""

from pathlib import Path

if __name__ == "bench":
    raise ImportError("visionbench has one import name: say `import visionbench`, not `import bench`.")

ROOT = Path(__file__).resolve().parents[1]
"""The folder to put on an import path so that `import visionbench` finds this copy."""
