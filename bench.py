#!/usr/bin/env python3
"""`python bench.py` runs visionbench from a checkout, installed or not. Never imported."""

from visionbench.__main__ import main

if __name__ == "__main__":
    raise SystemExit(main())
