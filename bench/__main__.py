"""`python -m visionbench`: the same program as `python bench.py` and `visionbench`."""

from visionbench.command.main import main

if __name__ == "__main__":
    raise SystemExit(main())
