"""A campaign of 10,000 shifts on 500 nodes: planned in two seconds, and a minute's looks cost a second of CPU."""

from __future__ import annotations

import time
from pathlib import Path

from visionbench.cluster import drive, shifts
from visionbench.cluster.slurm import Job, Node
from visionbench.record.spec import SWIN, Spec

NODES = tuple(Node(name=f"n{k}", state="idle", gres="gpu:a100:1", features=(), limit=None) for k in range(500))
ROWS = tuple(Spec(model=f"timm:net{k}", batch_size=64) for k in range(20))


class Queue:
    """Every shift runs, and nobody ends."""

    def __init__(self) -> None:
        self.listed: list[Job] = []

    def nodes(self, _card: str) -> tuple[Node, ...]:
        """Every node."""
        return NODES

    def jobs(self) -> list[Job]:
        """Every job."""
        return self.listed

    def submit(self, shift: str, _card: str, node: str | None, _exclude: object) -> str:
        """Begin it at once."""
        number = str(len(self.listed) + 1)
        self.listed.append(Job(number=number, shift=shift, state="RUNNING", node=node or "", pinned=node or ""))
        return number

    def cancel(self, _numbers: object) -> None:
        """Nobody asks for that."""
        raise AssertionError("nothing is cancelled")


def test_ten_thousand_shifts(tmp_path: Path) -> None:
    began = time.process_time()
    card = shifts.Card(word="a100", pieces=((shifts.Part(protocol=SWIN, specs=ROWS),),))
    request = shifts.keep(tmp_path, shifts.Request(cards=(card,), launches=10_000))
    every = shifts.shifts_of(request)
    spread = shifts.Spread({"a100": [node.name for node in NODES]})
    assert all(spread.next(shift.card) for shift in every)
    planned = time.process_time() - began
    queue = Queue()
    driver = drive.Driver(tmp_path, every, queue, lambda _: None)
    while len(queue.listed) < len(every):
        driver.look()
    began = time.process_time()
    for _ in range(6):
        driver.look()
    looked = time.process_time() - began
    print(f"planned in {planned:.2f} s, a minute's six looks take {looked:.2f} s of CPU")
    assert planned < 2
    assert looked < 1
