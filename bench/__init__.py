"""visionbench: benchmarks of vision models that deserve trust.

This file must exist and must import nothing: beside the script `bench.py` it is what makes
`import bench` mean this package, and an import here would be paid by every `--help`.
"""
