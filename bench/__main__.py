"""`python -m bench`: the same program as `python bench.py` and `visionbench`."""

from bench.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
