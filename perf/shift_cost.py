"""One shift's process on this CPU: prints the seconds of its launches, and those of the process, its start included.

`python shift_cost.py FOLDER` makes a request of ten small rows there; with a shift's name it is the job, timed.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from visionbench.cluster import job, shifts
from visionbench.record.record import Record
from visionbench.record.spec import STEADY, Spec

MODELS = (
    "resnet18", "resnet26", "resnet34", "mobilenetv3_small_100", "mobilenetv3_large_100", "efficientnet_lite0",
    "deit_tiny_patch16_224", "vit_tiny_patch16_224", "regnetx_002", "convnext_atto",
)  # fmt: skip
ROWS = tuple(Spec(model=f"timm:{model}", batch_size=1) for model in MODELS)
ONCE = replace(STEADY, launches=1, target_rel_ci=None)


class Timed(job._Log):
    """Adds up the launches."""

    seconds = 0.0
    launches = 0

    def started(self, spec: Spec, index: int, total: int) -> None:
        """A launch begins."""
        super().started(spec, index, total)
        self._began = time.perf_counter()

    def finished(self, record: Record, index: int, total: int, eta_seconds: float) -> None:
        """A launch has ended."""
        Timed.seconds += time.perf_counter() - self._began
        Timed.launches += record.failure is None
        super().finished(record, index, total, eta_seconds)


def main(folder: Path) -> None:
    """Write the request, do its shift as a job does, and say what it took."""
    card = shifts.Card(word="a100", pieces=((shifts.Part(protocol=ONCE, specs=ROWS),),))
    request = shifts.keep(folder, shifts.Request(cards=(card,), launches=1, device="cpu", threads=1))
    [shift] = shifts.shifts_of(request)
    shifts.write_shift(folder, shift)
    began = time.perf_counter()
    words = [sys.executable, __file__, str(folder), shift.name]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    whole = time.perf_counter() - began
    launches, number = map(float, done.stdout.split())
    assert number == len(ROWS)
    print(launches, whole)


if __name__ == "__main__":
    if len(sys.argv) == 2:
        main(Path(sys.argv[1]))
    else:
        job._Log = Timed  # type: ignore[misc]
        assert job.main(sys.argv[1:]) == 0
        print(Timed.seconds, Timed.launches)
