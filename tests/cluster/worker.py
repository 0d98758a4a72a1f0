"""A job without torch: the real job, with launches that only take time and write a record.

It stands for the Python of a site: `worker.py -m visionbench.cluster.job FOLDER SHIFT`. What it does is said in
`WORKER` of its environment, as JSON: `seconds` of a launch, `sick` nodes, `ends` (shifts that end without a record),
`holds` (the file that a shift waits for before its last row), `rates` by node.
"""

import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from visionbench.cluster import job
from visionbench.record import store
from visionbench.record.record import Environment, Measurement, Record

KEYS = {"v100": "v100-sxm2-16gb", "a100": "a100-sxm4-40gb"}


def here():
    """The node, as Slurm names it, or as Ray's job is told."""
    return os.environ.get("SLURMD_NODENAME") or os.environ["VISIONBENCH_NODE"]


def orders():
    return json.loads(os.environ.get("WORKER", "{}"))


def examine(shift):
    sick = orders().get("sick", {})
    return [sick[here()]] if here() in sick else []


def measure(part, shift, file, begin):
    now, node = orders(), here()
    if shift.name in now.get("ends", ()):
        print(f"error: *** JOB 7 ON {here()} CANCELLED ***", "the disk is on fire", sep="\n", file=sys.stderr)
        raise SystemExit(7)
    for spec in part.specs:
        begin()
        hold = now.get("holds", {}).get(shift.name)
        while hold and spec == part.specs[-1] and not Path(hold).exists():
            time.sleep(0.05)
        start = time.time()
        time.sleep(now.get("seconds", 0.3))
        rate = now.get("rates", {}).get(node, 1000.0)
        environment = Environment(
            device_type="cuda",
            device_key=KEYS[shift.card],
            device_name=KEYS[shift.card],
            torch="2.14.1",
            node=os.environ["VISIONBENCH_NODE"],
            job=os.environ.get("SLURM_JOB_ID") or os.environ["VISIONBENCH_JOB"],
            threads=int(os.environ.get("OMP_NUM_THREADS", "0")) or None,
            restarts=int(os.environ.get("SLURM_RESTART_COUNT", "0")),
            gpu_uuid=os.environ.get("CUDA_VISIBLE_DEVICES"),
            started=f"{start:.3f} {time.time():.3f}",
        )
        blocks = Measurement(
            metric="throughput",
            unit="s",
            better="lower",
            assume="nothing",
            values=(spec.batch_size * 10 / rate,),
            iterations=10,
        )
        peaks = [
            Measurement(metric=f"peak_memory_{name}", unit="B", better="lower", assume="nothing", values=(2.0**32,))
            for name in ("allocated", "reserved")
        ]
        measured = (blocks,) if part.protocol.blocks else tuple(peaks)
        record = Record(
            spec=spec, protocol=part.protocol, environment=environment, measurements=measured, source="measured"
        )
        store.append(file, record)


if __name__ == "__main__":
    assert sys.argv[1:3] == ["-m", "visionbench.cluster.job"], sys.argv
    raise SystemExit(job.main(sys.argv[3:], measure=measure, examine=examine))
