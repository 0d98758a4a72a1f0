"""A campaign of 10,000 shifts on 500 nodes beside one of 1,000: what planning and a minute's looks cost."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from visionbench.cluster import drive, shifts
from visionbench.cluster.slurm import Job, Node
from visionbench.record.spec import SWIN, Spec

HERE = Path(__file__).parent
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


def _seconds(folder: Path, number: int) -> tuple[float, float]:
    """CPU seconds of planning `number` shifts, and of the six looks of a minute while all of them run."""
    folder.mkdir()
    began = time.process_time()
    card = shifts.Card(word="a100", pieces=((shifts.Part(protocol=SWIN, specs=ROWS),),))
    request = shifts.keep(folder, shifts.Request(cards=(card,), launches=number))
    every = shifts.shifts_of(request)
    spread = shifts.Spread({"a100": [node.name for node in NODES]})
    assert all(spread.next(shift.card) for shift in every)
    planned = time.process_time() - began
    queue = Queue()
    driver = drive.Driver(folder, every, queue, lambda _: None)
    while len(queue.listed) < len(every):
        driver.look()
    looks = []
    for _ in range(6):
        began = time.process_time()
        driver.look()
        looks.append(time.process_time() - began)
    return planned, 6 * min(looks)


@pytest.mark.slow
def test_ten_times_the_shifts_cost_about_ten_times_as_much(tmp_path: Path) -> None:
    """Never a hundred times: no look compares shifts with one another. The seconds are printed, not asserted."""
    few, many = _seconds(tmp_path / "few", 1_000), _seconds(tmp_path / "many", 10_000)
    print(f"10,000 shifts: planned in {many[0]:.2f} s, a minute's six looks take {many[1]:.2f} s of CPU")
    print(f"beside 1,000 shifts: planning {many[0] / few[0]:.1f} times, looks {many[1] / few[1]:.1f} times as long")
    assert many[1] < 40 * few[1]


@pytest.mark.slow
def test_a_driver_of_ten_thousand_shifts_stays_small(tmp_path: Path) -> None:
    """Driven to the end. One question for jobs in a look, however many there are."""
    words = [sys.executable, str(HERE / "driver_memory.py")]
    peaks = {}
    for number in (100, 10_000):
        folder = tmp_path / str(number)
        folder.mkdir()
        done = subprocess.run([*words, str(folder), str(number)], capture_output=True, text=True, check=True)
        driven, read, asked = map(float, done.stdout.split())
        peaks[number] = driven / 1e6
        assert asked == 1
        print(f"{number} shifts: the driver takes {driven / 1e6:.0f} MB, {read / 1e6:.0f} MB with all records read")
    assert peaks[10_000] < 200


@pytest.mark.slow
def test_a_shift_costs_little_beyond_its_launches(benchmark: Any, tmp_path: Path) -> None:
    """Ten small rows on one core: what the job's process takes in all, beside its launches in the same minute."""
    if benchmark.disabled:
        pytest.skip("it takes minutes of an idle machine: --benchmark-only")
    words = [sys.executable, str(HERE / "shift_cost.py"), str(tmp_path)]
    done = benchmark.pedantic(
        subprocess.run, args=(words,), kwargs={"capture_output": True, "text": True, "check": True}, rounds=1
    )
    launches, whole = map(float, done.stdout.split())
    benchmark.extra_info |= {"ratio": whole / launches}
    print(f"ten launches take {launches:.1f} s, their shift {whole:.1f} s: {whole / launches - 1:.1%} more")
    assert whole < 1.05 * launches
