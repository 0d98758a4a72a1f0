"""The columns of the table of runs: what tells two runs apart, and every metric that a run may have a number for.

A new metric's column is one entry of `METRICS`; it is shown as soon as one row has a value for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from visionbench.record import devices
from visionbench.record.efficiency import joules_per_image, mfu
from visionbench.record.record import Environment, Record
from visionbench.record.spec import Protocol, Spec
from visionbench.record.statistics import Estimate, latency, over_launches, throughput, typical
from visionbench.reports.settings import device_name
from visionbench.reports.table import DASH


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The launches of one key, in the order of the file, and the newest trace of the same step, if there is one."""

    launches: tuple[Record, ...]
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

    @property
    def successes(self) -> int:
        """How many launches have numbers."""
        return sum(record.failure is None for record in self.launches)


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A column of words that say which run it is. One that is not `always` there is shown where two runs differ."""

    key: str
    head: str
    text: Callable[[Run], str]
    always: bool = False
    rank: int = 0


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
    note: str = ""


LABELS = (
    Label(key="model", head="model", text=lambda run: run.spec.model.removeprefix("timm:"), always=True),
    Label(key="image_size", head="size", text=lambda run: str(run.spec.image_size), always=True),
    Label(key="task", head="task", text=lambda run: run.spec.task, always=True, rank=4),
    Label(key="batch_size", head="batch", text=lambda run: str(run.spec.batch_size), always=True),
    # The rest of a key: each of them tells two rows apart, so none may be folded away.
    Label(key="precision", head="precision", text=lambda run: run.spec.precision),
    Label(key="memory_format", head="format", text=lambda run: run.spec.memory_format),
    Label(key="compile_mode", head="compiled", text=lambda run: run.spec.compile_mode or "eager"),
    Label(key="attention", head="attention", text=lambda run: f"{run.spec.attention} attention"),
    Label(key="image_width", head="width", text=lambda run: str(run.spec.image_width or "")),
    Label(key="processes", head="processes", text=lambda run: str(run.spec.processes or "")),
    Label(key="backend", head="backend", text=lambda run: run.spec.backend or ""),
    Label(key="node", head="node", text=lambda run: run.environment.node or ""),
    Label(key="device", head="device", text=lambda run: device_name(run.environment)),
    Label(key="protocol", head="protocol", text=lambda run: run.protocol.name if run.protocol else DASH),
    Label(key="torch", head="torch", text=lambda run: run.environment.torch or DASH),
    Label(key="launches", head="n", text=lambda run: str(run.successes), always=True, rank=3),
)


def _typical(metric: str) -> Callable[[Run], Estimate | None]:
    """The median of a launch's values, over the launches."""
    return lambda run: over_launches(run.launches, lambda record: typical(record, metric))


def _largest(metric: str) -> Callable[[Run], Estimate | None]:
    """The largest of all launches: a peak is a bound, and of a count that should be zero the worst is told."""

    def of(run: Run) -> Estimate | None:
        found = [value for record in run.launches if (one := record.get(metric)) for value in one.values]
        return _exactly(max(found), run) if found else None

    return of


def _exactly(value: float, run: Run) -> Estimate:
    return Estimate(centre=value, low=None, high=None, launches=run.successes)


def _mfu(run: Run) -> Estimate | None:
    found = mfu(run.launches, run.counted, devices.find(run.environment.device_key or ""))
    return None if found is None else _exactly(found, run)


def _peak(counter: str, rank: int, note: str = "") -> Metric:
    key = "process_memory" if counter == "process" else f"peak_memory_{counter}"
    return Metric(key=key, group="memory", head=counter, unit="B", of=_largest(key), flagged=key, rank=rank, note=note)


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
        note="one batch, the device idle before and after it; a percentile is of one launch's iterations."
        if spans
        else "",
    )


def _seconds(key: str, head: str, rank: int, group: str = "", note: str = "") -> Metric:
    return Metric(key=key, group=group, head=head, unit="s", of=_typical(key), flagged=key, rank=rank, note=note)


def _count(key: str, head: str) -> Metric:
    return Metric(key=key, group="compiler", head=head, unit="count", of=_largest(key), flagged=key, rank=6)


METRICS = (
    Metric(
        key="throughput",
        head="img/s",
        unit="1/s",
        of=lambda run: throughput(run.launches),
        flagged="throughput",
        spans=True,
        rank=0,
        note="images per second over blocks of back-to-back iterations, one synchronisation at each block's end.",
    ),
    _percentile(50, spans=True, rank=1),
    _percentile(90, spans=False, rank=5),
    _peak("allocated", 2),
    _peak("reserved", 7),
    _peak("process", 6, "on a CPU the peak above what the idle process held; on a GPU what the driver counts for it."),
    _seconds("first_call", "first call", 5),
    _seconds("compile_seconds", "cold", 3, "compiler"),
    _count("graph_breaks", "breaks"),
    _count("recompiles", "recompiles"),
    *(_seconds(phase, phase, 4, "phases of a step") for phase in ("forward", "backward", "optimizer")),
    Metric(
        key="mfu",
        head="MFU",
        unit="1",
        of=_mfu,
        flagged="",
        rank=2,
        note="2 x MACs x images/s over the device's dense peak for that precision; MACs by a trace.",
    ),
    Metric(
        key="joules_per_image",
        head="energy/img",
        unit="J",
        of=lambda run: joules_per_image(run.launches),
        flagged="energy",
        rank=2,
        note="all that the board drew, its idle share included.",
    ),
)
