"""A request on the tests' cluster, whose launches only take time."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from visionbench.cluster import drive, shifts, site, slurm
from visionbench.record.record import Record
from visionbench.record.spec import Protocol, Spec

HERE = Path(__file__).parent
ROWS = tuple(Spec(model=f"timm:net{number}", batch_size=64) for number in range(4))
QUICK = Protocol(name="swin", warmup_iterations=1, blocks=1, block_iterations=10)


TORCH = ["2.14.1", "13.0", None, ["sm_70", "sm_80"]]
"""What a site's Python says of its torch: version, CUDA, HIP, kernels."""


def write_python(path: Path, torch: object = TORCH) -> None:
    """A site's Python: `-c` is the question for its torch, everything else a job without torch."""
    answer = f"case \"$1\" in -c) echo '{json.dumps(torch)}'; exit;; esac"
    path.write_text(f'#!/bin/sh\n{answer}\nexec {sys.executable} {HERE / "worker.py"} "$@"\n')
    path.chmod(0o755)


@dataclass
class Campaign:
    """One request on the test's cluster, with launches that only take time."""

    folder: Path
    python: Path
    monkeypatch: pytest.MonkeyPatch
    said: list[str] = field(default_factory=list)

    def request(self, launches: int = 2, cards: tuple[str, ...] = ("v100", "a100"), rows: tuple[Spec, ...] = ROWS):
        pieces = ((shifts.Part(protocol=QUICK, specs=rows),),)
        wanted = shifts.Request(
            cards=tuple(shifts.Card(word=word, pieces=pieces) for word in cards), launches=launches, name="x"
        )
        return shifts.keep(self.folder, wanted)

    def orders(self, **orders: object) -> None:
        self.monkeypatch.setenv("WORKER", json.dumps(orders))

    def engine(self, request: shifts.Request, partition: str = "gpu") -> slurm.Slurm:
        sites = {card.word: site.Site(python=str(self.python)) for card in request.cards}
        return slurm.Slurm(name=request.name, folder=self.folder, partition=partition, sites=sites)

    def driver(self, request: shifts.Request, **options: object) -> drive.Driver:
        options = {"every": 0.3, "late": 1.0, **options}
        return drive.Driver(self.folder, shifts.shifts_of(request), self.engine(request), self.said.append, **options)  # type: ignore[arg-type]

    def records(self) -> dict[str, list[Record]]:
        files = sorted((self.folder / "records").glob("*.jsonl"))
        return {path.stem: list(shifts.read_records(self.folder, path.stem)) for path in files}

    def assert_complete(self, request: shifts.Request) -> list[Record]:
        """Every row of every shift once: nothing lost, nothing twice."""
        wanted = {shift.name: sorted(map(str, ROWS)) for shift in shifts.shifts_of(request)}
        written = self.records()
        assert {name: sorted(str(record.spec) for record in records) for name, records in written.items()} == wanted, (
            self.said
        )
        return [record for records in written.values() for record in records]


def wait_for(condition: Callable[[], object], seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.05)


def in_background(driver: drive.Driver) -> threading.Thread:
    thread = threading.Thread(target=driver.run, daemon=True)
    thread.start()
    return thread
