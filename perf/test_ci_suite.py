"""The suite `ci` as pytest-benchmark shows benchmarks, measured by our engine in fresh processes.

    python -m pytest perf/test_ci_suite.py --benchmark-only                      # 12 rows, about 1.5 minutes
    python -m pytest perf/test_ci_suite.py --benchmark-only --benchmark-save=main --benchmark-save-data
    python -m pytest perf/test_ci_suite.py --benchmark-only --benchmark-compare

pytest-benchmark times a function in this process by a timer of its own, and lets both be replaced. So our engine
measures first, and what it measured is then replayed by a clock that only moves when told to: `stats.data` are the
seconds per iteration of the engine's blocks, exactly and in the order in which they were taken, of one launch (a fresh
process) after the other. What pytest-benchmark makes of them (table, files, histogram) is what people know; its
standard deviation takes blocks for independent, which those of one process are not. The interval in `extra_info` is
over launches.

These are absolute times of one job: they say how fast a machine was at that hour. Whether a change made it slower is
`bench.py gate`'s to say.
"""

from __future__ import annotations

from dataclasses import asdict
from itertools import cycle
from typing import Any

import pytest

from visionbench.record.record import Record
from visionbench.record.spec import SUITES, Protocol, Spec
from visionbench.record.statistics import MIN_LAUNCHES, throughput

QUICK = Protocol(
    name="ci",
    warmup_iterations=3,
    warmup_seconds=0.15,
    blocks=5,
    block_seconds=0.05,
    launches=MIN_LAUNCHES,
    max_seconds=120.0,
)
"""Many short launches: they are the replicates, and seven are the fewest that allow an interval."""

ROWS = {str(spec): spec for spec in SUITES["ci"]}


class Clock:
    """A timer that only moves when told to."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def __call__(self) -> float:
        """Seconds."""
        return self._seconds

    def __repr__(self) -> str:
        """What pytest-benchmark writes as the timer's name: the same in every file."""
        return "launches of visionbench"

    def replay(self, benchmark: Any, samples: list[float]) -> None:
        """Let the benchmark take these seconds, one a round."""
        after = cycle(samples)  # a profiler may ask for one more

        def set_back() -> None:
            self._seconds = 0.0  # the difference of two readings is then the sample, to the last bit

        def advance() -> None:
            self._seconds = next(after)

        benchmark.pedantic(advance, setup=set_back, rounds=len(samples))


def timed(row: str) -> Any:
    """A row with a clock of its own."""
    return pytest.param(row, marks=pytest.mark.benchmark(timer=Clock(), group="ci"), id=row)


@pytest.mark.parametrize("row", [timed(row) for row in ROWS])
def test_ci(row: str, benchmark: Any, place: tuple[str, int | None], request: pytest.FixtureRequest) -> None:
    spec = ROWS[row]
    if benchmark.disabled:
        benchmark(exists, spec)
        return
    records = launched(spec, *place)
    samples = [seconds for record in records for seconds in iteration_seconds(record)]
    request.node.get_closest_marker("benchmark").kwargs["timer"].replay(benchmark, samples)
    benchmark.extra_info |= described(spec, records)


def exists(spec: Spec) -> None:
    """The cheap check where benchmarks are off: there is a model of that name."""
    from visionbench import models

    assert models.resolve(spec.model).name == spec.model


def launched(spec: Spec, device: str, threads: int | None) -> list[Record]:
    """The records of the protocol's launches; a launch without a number fails the test with its cause."""
    from visionbench.measuring.process.launch import launch

    records = [launch(spec, QUICK, device, threads) for _ in range(QUICK.launches)]
    for failure in (record.failure for record in records if record.failure):
        pytest.fail(f"{spec}: {failure.kind} at {failure.stage}: {failure.message}", pytrace=False)
    return records


def iteration_seconds(record: Record) -> list[float]:
    """Seconds of one iteration of each block of a launch, in order."""
    blocks = record.get("throughput")
    return [value / blocks.iterations for value in blocks.values] if blocks else []


def described(spec: Spec, records: list[Record]) -> dict[str, Any]:
    """What a file says about a row beside its times: the exact counts, and what the launches come to."""
    from visionbench.record.fingerprint import fingerprint_id
    from visionbench.tracing import run

    traced, rate = run(spec), throughput(records)
    flags = (flag for record in records for measurement in record.measurements for flag in measurement.flags)
    return {
        "spec": asdict(spec),
        "protocol": asdict(QUICK),
        "params": traced.params,
        "macs": traced.macs_per_image,
        "images_per_second": rate.centre if rate else None,
        "interval": [rate.low, rate.high] if rate and rate.low else None,
        "launches": len(records),
        "rounds_of_launches": [len(iteration_seconds(record)) for record in records],
        "flags": list(dict.fromkeys(flags)),
        "fingerprint": fingerprint_id(records[0].environment),
    }
