"""What a node runs: `python -m visionbench.cluster.job FOLDER SHIFT`, inside a job.

Every launch is on the disk when it ends, and a job counts its own file before it begins. So a job that was preempted,
requeued or killed needs nothing written about it: it goes on.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from visionbench.cluster.drive import Unfit
from visionbench.cluster.shifts import Part, Shift, hidden, missing, read_records, read_shift, records_file
from visionbench.record import store
from visionbench.record.devices import identify, select
from visionbench.record.errors import BenchError
from visionbench.record.files import write_whole
from visionbench.record.record import Environment, Failure, Record
from visionbench.record.spec import Spec

DONE, USAGE, UNFIT = 0, 2, 69
"""What a job ends with; 69 says that nothing may be measured on this node."""

Measure = Callable[[Part, Shift, Path, Callable[[], None]], None]
"""Measures the rows of a part into a file; calls the last argument before each launch."""


class DisplacedError(Exception):
    """The queue has started this shift again elsewhere, because it took this job for dead."""


def main(
    words: Sequence[str],
    measure: Measure | None = None,
    examine: Callable[[Shift], Sequence[str]] | None = None,
) -> int:
    """Do the shift of that name; its exit code. `measure` and `examine` are a test's to replace."""
    folder, name = Path(words[0]), words[1]
    try:
        shift = read_shift(folder, name)
        node = os.environ.get("SLURMD_NODENAME") or os.environ.get("VISIONBENCH_NODE") or socket.gethostname()
        shown = hidden(node, shift.salt) if shift.salt else node
        os.environ["VISIONBENCH_NODE"] = shown
        left = missing(shift, read_records(folder, name))
        if not left:
            return DONE
        if measure is None:
            prepare(shift)
        if reasons := tuple((examine or unfit)(shift)):
            job = os.environ.get("SLURM_JOB_ID") or os.environ.get("VISIONBENCH_JOB", "")
            unfit_node = Unfit(node=shown, job=job, reasons=reasons, name=node)
            about = folder / "unfit" / (job or shown)
            store.append(f"{about}.jsonl", _left_out(shift, left[0], reasons, asked=measure is None))
            write_whole(Path(f"{about}.json"), json.dumps(asdict(unfit_node)))
            print(f"nothing is measured on {shown}: {'; '.join(reasons)}", file=sys.stderr)
            return UNFIT
        start = ".".join(os.environ.get(word, "0") for word in ("SLURM_JOB_ID", "SLURM_RESTART_COUNT"))
        mine = f"{start} {os.getpid()}"
        holder = folder / "shifts" / f"{name}.holder"
        write_whole(holder, mine)
        for part in left:
            (measure or sweep)(part, shift, records_file(folder, name), lambda: _check(holder, mine))
    except DisplacedError:
        return DONE
    except BenchError as error:
        print(f"visionbench: {error}", file=sys.stderr)
        return USAGE
    return DONE


def _left_out(shift: Shift, part: Part, reasons: Sequence[str], *, asked: bool) -> Record:
    """Why nothing is measured on this node, for reports: a failed row with what the driver counts, if it is `asked`.

    A card that torch does not see goes by the one that was asked for.
    """
    from visionbench.machine import host

    environment = Environment(device_type=shift.device.partition(":")[0])
    if asked:
        from visionbench.machine.environment import describe

        environment = describe(shift.device, shift.threads)
    if environment.device_name is None:
        card = select(shift.card)[0]
        environment = replace(environment, device_key=card.key, device_name=card.names[0])
    environment = replace(environment, node=host.node(), job=host.job(), restarts=host.restarts())
    return Record(
        spec=part.specs[0],
        protocol=replace(part.protocol, launches=1),
        environment=replace(environment, started=datetime.now(UTC).isoformat(timespec="seconds")),
        failure=Failure(kind="unfit", stage="cluster", message="; ".join(reasons)),
        source="measured",
    )


def _check(holder: Path, mine: str) -> None:
    """A node that is cut off is taken for dead, and its job starts elsewhere: the one that began last writes."""
    try:
        if holder.read_text(encoding="utf-8") != mine:
            raise DisplacedError
    except OSError:
        return  # the disk is away for now; the launch will say so if it stays away


def prepare(shift: Shift) -> None:
    """Import torch once, for this process and for the one that forks the launches, before CUDA is awake; without its
    compiler, three of five seconds, where no row needs it.
    """
    from visionbench.measuring.process import launch

    plain = (spec.task == "inference" and spec.compile_mode is None for part in shift.parts for spec in part.specs)
    launch.prepare(own=True, light=all(plain))


def unfit(shift: Shift) -> Sequence[str]:
    """Why this shift may not be measured on this node, as clauses."""
    if shift.device == "cpu":
        return ()
    from visionbench.machine import health, unseen
    from visionbench.machine.environment import describe

    name = describe(shift.device).device_name
    if name is None:
        return (f"torch finds no GPU there ({unseen.missing()})",)
    card = identify(name)
    if card is None or card not in select(shift.card):
        return (f"its GPU is a {name}, not a {shift.card}",)
    return (*health.no_kernels(shift.device), *health.unfit(shift.device))


def sweep(part: Part, shift: Shift, file: Path, begin: Callable[[], None]) -> None:
    """Every row of the part in a fresh process, one after another."""
    from visionbench.measuring.sweep import sweep

    protocol = replace(part.protocol, launches=1, target_rel_ci=None)
    sweep(part.specs, protocol, file, [shift.device], threads=shift.threads, progress=_Log(begin))


class _Log:
    """Progress as lines of the job's log."""

    def __init__(self, begin: Callable[[], None]) -> None:
        self._begin = begin

    def started(self, spec: Spec, index: int, total: int) -> None:  # noqa: ARG002 -- the log says what has ended
        """A launch begins, unless another job has taken the shift."""
        self._begin()

    def finished(self, record: Record, index: int, total: int, eta_seconds: float) -> None:  # noqa: ARG002
        """A launch has ended."""
        outcome = record.failure.message if record.failure else "measured"
        print(f"[{index}/{total}] {record.spec}: {outcome}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
