"""`python -m visionbench`: the same program as `python bench.py` and `visionbench`."""

import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until `main` can answer, a Ctrl-C ends it without a traceback

from visionbench.command.main import main

__all__ = ["main"]

if __name__ == "__main__":
    raise SystemExit(main())
