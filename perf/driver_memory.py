"""A driver of 10,000 shifts on 500 nodes from first to last: prints its peak of memory in bytes, the peak once it has
read all records for a table, and how often it asked for jobs in a look.

A process of its own, so that the peak is the driver's alone. Its queue is pretended; folder, files and loop are real.
"""

from __future__ import annotations

import re
import resource
import sys
from collections import Counter
from pathlib import Path

from visionbench.cluster import drive, shifts
from visionbench.cluster.slurm import Job, Node
from visionbench.command import queued  # noqa: F401 -- what the program has loaded while it waits
from visionbench.record import store
from visionbench.record.record import Environment, Measurement, Record, to_json
from visionbench.record.spec import SWIN, Spec

NODES = tuple(Node(name=f"n{k}", state="idle", gres="gpu:a100:1", features=(), limit=None) for k in range(500))
ROWS = tuple(Spec(model=f"timm:net{k}", batch_size=64) for k in range(2))


class Queue:
    """Half of its jobs run on until the next look and have written all their records then."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._listed: dict[str, Job] = {}
        self.asked: Counter[str] = Counter()

    def nodes(self, _card: str) -> tuple[Node, ...]:
        """Every node."""
        self.asked["nodes"] += 1
        return NODES

    def jobs(self) -> list[Job]:
        """Every job that runs, after some have ended."""
        self.asked["jobs"] += 1
        for job in list(self._listed.values())[: len(self._listed) // 2 + 1]:
            del self._listed[job.number]
            lines = "".join(to_json(_record(spec, job.node)) + "\n" for spec in ROWS)
            shifts.records_file(self._folder, job.shift).write_text(lines)
        return list(self._listed.values())

    def submit(self, shift: str, _card: str, node: str | None, _exclude: object) -> str:
        """Begin it at once."""
        self.asked["submits"] += 1
        number = str(self.asked["submits"])
        self._listed[number] = Job(number=number, shift=shift, state="RUNNING", node=node or "", pinned=node or "")
        return number

    def cancel(self, _numbers: object) -> None:
        """Nobody asks for that."""
        raise AssertionError("nothing is cancelled")


def _record(spec: Spec, node: str) -> Record:
    times = Measurement(
        metric="throughput", unit="s", better="lower", assume="nothing", values=(0.9, 1.0, 1.1), iterations=30
    )
    where = Environment(device_type="cuda", device_key="a100-sxm4-40gb", device_name="NVIDIA A100-SXM4-40GB", node=node)
    return Record(spec=spec, protocol=SWIN, environment=where, measurements=(times,), source="measured")


def main(folder: Path, number: int) -> None:
    """Drive it to its end."""
    card = shifts.Card(word="a100", pieces=((shifts.Part(protocol=SWIN, specs=ROWS),),))
    request = shifts.keep(folder, shifts.Request(cards=(card,), launches=number))
    queue = Queue(folder)
    driver = drive.Driver(folder, shifts.shifts_of(request), queue, lambda _: None)
    looks = 1
    while not driver.look():
        looks += 1
    driven = peak()
    assert queue.asked["submits"] == number
    assert len(store.read(folder).records) == number * len(ROWS)
    print(driven, peak(), queue.asked["jobs"] / looks)


def peak() -> float:
    """Bytes of this process at most, since it began: what the operating system counts includes who forked it."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return 1024.0 * int(re.search(r"VmHWM:\s+(\d+)", status)[1])  # type: ignore[index]
    except OSError:
        return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
