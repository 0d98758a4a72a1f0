#!/usr/bin/env python3
"""The script's face of visionbench: `python bench.py` is the package `bench` run as a program. Never imported."""

from bench.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
