"""The numbers of `run`, one entry of `METRICS` each: what it is over the launches of a key, and how a column shows it.

With `run --processes N` each process has its own batch (weak scaling); `record.efficiency` has the quotients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Literal

from visionbench.record import devices
from visionbench.record.efficiency import (
    communication_efficiency,
    exposed_seconds,
    images_per_second_of_all,
    joules_per_image,
    mfu,
    scaling_efficiency,
    slowest_rank,
)
from visionbench.record.metrics import DENSE_PHASES, POST_PHASES
from visionbench.record.record import Environment, Record
from visionbench.record.spec import Protocol, Spec
from visionbench.record.statistics import Estimate, end_to_end, latency, over_launches, typical
from visionbench.reports.launches import Launches


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Run:
    """The launches of one key, in the order of the file, and the newest trace of the same step, if there is one."""

    launches: Launches
    counted: Record | None

    @property
    def spec(self) -> Spec:
        """What was run."""
        return self.launches[-1].spec

    @property
    def environment(self) -> Environment:
        """Where the newest launch ran."""
        return self.launches[-1].environment

    @property
    def protocol(self) -> Protocol | None:
        """How it was measured."""
        return self.launches[-1].protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A column of numbers in base units. `flagged` is the measurement whose flags are its footnotes.

    `spans`: its interval is printed where there is one, not only stored.
    """

    key: str
    head: str
    unit: Literal["1/s", "s", "B", "count", "1", "J"]
    of: Callable[[Run], Estimate | None]
    flagged: str
    group: str = ""
    spans: bool = False
    rank: int = 1


def _largest(metric: str) -> Callable[[Run], Estimate | None]:
    """The largest of all launches: a peak is a bound, and a count that should be zero shows its worst."""

    def of(run: Run) -> Estimate | None:
        found = [value for measurement in run.launches.measurements(metric) for value in measurement.values]
        return _exactly(max(found), run) if found else None

    return of


def _exactly(value: float | None, run: Run) -> Estimate | None:
    if value is None:
        return None
    return Estimate(centre=value, low=None, high=None, launches=run.launches.successes)


def _mfu(run: Run) -> Estimate | None:
    return _exactly(mfu(run.launches, run.counted, devices.find(run.environment.device_key or "")), run)


def _exposed(run: Run) -> Estimate | None:
    """The median of the launches: it may be zero or less, so it has no logarithm and no interval."""
    values = [seconds for record in run.launches if (seconds := exposed_seconds(record)) is not None]
    return Estimate(centre=median(values), low=None, high=None, launches=len(values)) if values else None


def _over(value: Callable[[Record], float | None]) -> Callable[[Run], Estimate | None]:
    return lambda run: over_launches(run.launches, value)


def _peak(counter: str, rank: int) -> Metric:
    key = "process_memory" if counter == "process" else f"peak_memory_{counter}"
    return Metric(key=key, group="memory", head=counter, unit="B", of=_largest(key), flagged=key, rank=rank)


def _percentile(percent: int, *, spans: bool, rank: int) -> Metric:
    return Metric(
        key=f"latency_p{percent}",
        group="latency",
        head=f"p{percent}",
        unit="s",
        of=lambda run: latency(run.launches, percent / 100),
        flagged="latency",
        spans=spans,
        rank=rank,
    )


def _seconds(key: str, head: str, rank: int, group: str = "") -> Metric:
    of = _over(lambda record: typical(record, key))
    return Metric(key=key, group=group, head=head, unit="s", of=of, flagged=key, rank=rank)


def _count(key: str, head: str) -> Metric:
    return Metric(key=key, group="compiler", head=head, unit="count", of=_largest(key), flagged=key, rank=6)


def _scaling(
    key: str,
    head: str,
    unit: Literal["1/s", "s", "1"],
    of: Callable[[Run], Estimate | None],
    rank: int,
    spans: bool = False,
) -> Metric:
    """Of several processes. A quotient is of one launch, whose blocks take turns."""
    return Metric(
        key=key,
        group="processes",
        head=head,
        unit=unit,
        of=lambda run: of(run) if run.spec.processes is not None else None,
        flagged="throughput",
        spans=spans,
        rank=rank,
    )


METRICS = (
    Metric(
        key="throughput",
        head="img/s",
        unit="1/s",
        of=lambda run: run.launches.throughput,
        flagged="throughput",
        spans=True,
        rank=0,
    ),
    _scaling("images_per_second_of_all", "img/s of all", "1/s", _over(images_per_second_of_all), 3, spans=True),
    _scaling("scaling_efficiency", "scaling", "1", _over(scaling_efficiency), 1, spans=True),
    _scaling("communication_efficiency", "communication", "1", _over(communication_efficiency), 2, spans=True),
    _scaling("exposed", "exposed", "s", _exposed, 5),
    _scaling("slowest_rank", "slowest rank", "1", _over(lambda r: rank[1] if (rank := slowest_rank(r)) else None), 6),
    _percentile(50, spans=True, rank=1),
    _percentile(90, spans=False, rank=5),
    _peak("allocated", 2),
    _peak("reserved", 7),
    _peak("process", 6),
    _seconds("first_call", "first call", 5),
    _seconds("compile_seconds", "cold", 3, "compiler"),
    _count("graph_breaks", "breaks"),
    _count("recompiles", "recompiles"),
    *(_seconds(phase, phase, 4, "phases of a step") for phase in ("forward", "backward", "optimizer")),
    *(_seconds(phase, phase, 4, "dense part") for phase in DENSE_PHASES),
    *(_seconds(phase, phase, 3, "post-processing") for phase in POST_PHASES),
    Metric(key="end_to_end", head="end to end", unit="s", of=_over(end_to_end), flagged="backbone", rank=3),
    Metric(key="mfu", head="MFU", unit="1", of=_mfu, flagged="", rank=2),
    Metric(
        key="joules_per_image",
        head="energy/img",
        unit="J",
        of=lambda run: joules_per_image(run.launches),
        flagged="energy",
        rank=2,
    ),
)

NOTES = {
    "throughput": "images per second over blocks of back-to-back iterations, one synchronisation at each block's end.",
    "images_per_second_of_all": "images per second of all processes, by the time of the slowest.",
    "scaling_efficiency": "the rate of N processes over N times that of one of them alone, in turns within a launch.",
    "communication_efficiency": "time of a step under no_sync over that of a step, in turns within the same processes.",
    "exposed": "what exchanging gradients adds to a step; below zero where that is less than the noise.",
    "slowest_rank": "its time over the median rank's, where no rank waits for another (under no_sync).",
    "latency_p50": "one batch, the device idle before and after it; a percentile is of one launch's iterations.",
    "process_memory": "on a CPU the peak above what the idle process held; on a GPU what the driver counts for it.",
    "end_to_end": "a detector's phases added up, on given boxes: not the time of a real image.",
    "mfu": "2 x MACs x images/s over the device's dense peak for that precision; MACs by a trace.",
    "joules_per_image": "all that the board drew, its idle share included.",
}
"""What a column's number means, by its key."""
