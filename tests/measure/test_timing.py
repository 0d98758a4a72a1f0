"""The sampling loop against a clock that only work can move: every reading is known in advance."""

from __future__ import annotations

import gc
from dataclasses import dataclass, field, replace
from itertools import groupby

import pytest

from visionbench.measuring import timing
from visionbench.measuring.metrics import throughput
from visionbench.measuring.timing import Instruments
from visionbench.record.errors import BenchError
from visionbench.record.spec import SMOKE, STEADY, SWIN, Protocol

HOST = 0.001
"""Seconds that enqueueing one iteration takes."""


@dataclass
class Device:
    """A clock and a workload in one: enqueueing takes `HOST`, a synchronisation what was enqueued costs."""

    cost: float = 0.25
    first: float = 8.0
    finite: bool = True
    time: float = 100.0
    pending: float = 0.0
    steps: int = 0
    log: list[str] = field(default_factory=list)
    collecting: list[bool] = field(default_factory=list)

    def now(self) -> float:
        self.log.append("clock")
        return self.time

    def step(self) -> int:
        self.log.append("step")
        self.collecting.append(gc.isenabled())
        self.time += HOST
        self.pending += (self.cost if self.steps else self.first) - HOST
        self.steps += 1
        return self.steps

    def synchronize(self) -> None:
        self.log.append("sync")
        self.time += self.pending
        self.pending = 0.0

    def is_finite(self, result: int) -> bool:
        self.log.append(f"finite {result}")
        return self.finite

    @property
    def story(self) -> list[str]:
        """The log with repetitions counted: `50 step`."""
        runs = [(word, len(list(group))) for word, group in groupby(self.log)]
        return [f"{count} {word}" if count > 1 else word for word, count in runs]


def warm(device: Device, protocol: Protocol) -> timing.WarmUp:
    return timing.warm_up(device, protocol, timing.first_call(device, device.now), device.now)


def test_swin_is_the_papers_protocol_step_by_step() -> None:
    device = Device()
    (measured,) = throughput.measure(device, SWIN, warm(device, SWIN), Instruments(now=device.now))
    assert device.story == [
        *("clock", "step", "sync", "2 clock"),  # the first of the 50
        *("49 step", "sync", "clock", "finite 50"),
        *("clock", "30 step", "sync", "2 clock", "30 step", "sync", "2 clock", "30 step", "sync", "clock"),
    ]
    assert measured.values == pytest.approx((30 * device.cost,) * 3)
    assert (measured.iterations, measured.warmups, measured.flags) == (30, 50, ())


def test_the_first_call_is_timed_alone_and_to_its_end() -> None:
    device = Device()
    assert timing.first_call(device, device.now)[0] == pytest.approx(device.first)
    assert device.story == ["clock", "step", "sync", "clock"]


def test_warm_up_lasts_for_its_iterations_and_for_its_seconds() -> None:
    protocol = Protocol(name="p", warmup_iterations=4, warmup_seconds=3.0, blocks=1, block_seconds=1.0)
    device = Device(cost=0.25)
    found = warm(device, protocol)
    # 1 + 3 iterations are enough but their 0.75 s are not (the first call's 8 s do not count); a burst of 4 takes 1 s.
    assert device.story == [
        *("clock", "step", "sync", "2 clock"),
        *("3 step", "sync", "2 clock"),
        *("4 step", "sync", "2 clock", "4 step", "sync", "2 clock", "4 step", "sync", "clock", "finite 16"),
    ]
    assert found.iterations == 16
    assert found.first_call == pytest.approx(8.0)
    assert found.iteration_seconds == pytest.approx(0.25)


@pytest.mark.parametrize("iterations", [0, 1])
def test_a_warm_up_of_one_iteration_is_the_first_call(iterations: int) -> None:
    device = Device()
    protocol = Protocol(name="p", warmup_iterations=iterations, blocks=1, block_iterations=1)
    assert warm(device, protocol).iterations == 1
    assert device.steps == 1


@pytest.mark.parametrize(
    ("protocol", "iteration_seconds", "expected"),
    [
        (SWIN, 1e-3, 30),
        (SWIN, 100.0, 30),
        (STEADY, 0.25, 1),
        (STEADY, 0.1, 3),
        (STEADY, 10.0, 1),
        (SMOKE, 0.001, 500),
    ],
)
def test_a_block_fills_its_seconds(protocol: Protocol, iteration_seconds: float, expected: int) -> None:
    assert timing.block_iterations(protocol, iteration_seconds) == expected


def test_a_clock_that_stands_still_asks_for_no_endless_block() -> None:
    assert timing.block_iterations(STEADY, 0.0) < 1e8


def test_every_block_is_back_to_back_with_one_synchronisation() -> None:
    device = Device(steps=1)
    seconds = timing.time_blocks(device, blocks=3, iterations=5, now=device.now)
    assert seconds.wall == pytest.approx((1.25,) * 3)
    assert (seconds.device, seconds.weather, seconds.bad_weather) == ((), (), ())
    assert device.log == [*(["clock"] + ["step"] * 5 + ["sync", "clock"])] * 3


def test_steady_yields_its_blocks_in_order() -> None:
    device = Device(cost=0.05)
    (measured,) = throughput.measure(device, STEADY, warm(device, STEADY), Instruments(now=device.now))
    assert len(measured.values) == STEADY.blocks
    assert measured.iterations == 5
    assert measured.metric == "throughput"
    assert (measured.unit, measured.better, measured.assume) == ("s", "lower", "nothing")


def test_nan_is_timed_and_flagged() -> None:
    device = Device(finite=False)
    (measured,) = throughput.measure(device, SWIN, warm(device, SWIN), Instruments(now=device.now))
    assert len(measured.values) == SWIN.blocks
    assert measured.flags == ("nan_output",)


@pytest.mark.parametrize("enabled", [True, False])
def test_no_garbage_is_collected_inside_a_block(enabled: bool) -> None:
    device = Device()
    before = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        timing.time_blocks(device, blocks=2, iterations=3, now=device.now)
        after = gc.isenabled()
    finally:
        (gc.enable if before else gc.disable)()
    assert device.collecting == [False] * 6
    assert after == enabled


def test_collection_is_restored_when_a_step_raises() -> None:
    class Breaks(Device):
        def step(self) -> int:
            raise RuntimeError

    assert gc.isenabled()
    with pytest.raises(RuntimeError):
        timing.time_blocks(Breaks(), blocks=1, iterations=1, now=Device().now)
    assert gc.isenabled()


@pytest.mark.parametrize(
    ("protocol", "word"),
    [(replace(STEADY, block_seconds=0.0), "block_seconds")],
)
def test_a_protocol_that_cannot_be_followed_is_a_mistake(protocol: Protocol, word: str) -> None:
    with pytest.raises(BenchError, match=word):
        timing.check(protocol)


@pytest.mark.parametrize("protocol", [SWIN, STEADY, SMOKE])
def test_the_named_protocols_can_be_followed(protocol: Protocol) -> None:
    timing.check(protocol)


def test_a_block_is_long_against_its_clock() -> None:
    short = Protocol(name="p", warmup_iterations=1, blocks=1, block_seconds=1e-6)
    assert timing.block_iterations(short, iteration_seconds=1e-3, cost=1e-5) == 100  # 1e-5 s is 1e-4 of 0.1 s
    assert timing.block_iterations(SWIN, iteration_seconds=1e-3, cost=1.0) == 30  # the paper's is the paper's


def test_the_clocks_cost_is_what_an_empty_block_takes() -> None:
    class Slow(Device):
        def synchronize(self) -> None:
            self.time += 0.002

    device = Slow()
    assert timing.clock_cost(device, device.now) == pytest.approx(0.002)


@dataclass
class Sky:
    """Weather by a script: which blocks are to be thrown away."""

    bad: set[int]
    looked: int = 0

    def before(self) -> None:
        self.looked += 1

    def after(self) -> Cloud:
        return Cloud(self.looked in self.bad)


@dataclass(frozen=True)
class Cloud:
    discard: bool


def test_a_block_in_bad_weather_is_repeated_after_a_growing_pause() -> None:
    device, sky, slept = Device(steps=1), Sky(bad={2, 3}), list[float]()
    found = timing.time_blocks(device, blocks=3, iterations=1, now=device.now, watch=sky, sleep=slept.append)
    assert (len(found.wall), len(found.bad_weather), sky.looked) == (3, 2, 5)
    assert found.weather == (Cloud(False),) * 3
    assert slept == pytest.approx([0.05, 0.075])


def test_weather_that_stays_bad_ends_with_what_there_is() -> None:
    device, sky = Device(steps=1), Sky(bad=set(range(100)))
    found = timing.time_blocks(device, blocks=3, iterations=1, now=device.now, watch=sky, sleep=lambda _: None)
    assert (found.wall, len(found.bad_weather)) == ((), 4)


class Ticking:
    """A device's clock that reads what it is told."""

    def __init__(self, *readings: float) -> None:
        self.readings = list(readings)

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def seconds(self) -> float:
        return self.readings.pop(0)


def test_both_clocks_are_kept_for_the_blocks_that_are() -> None:
    device = Device(steps=1)
    found = timing.time_blocks(device, blocks=2, iterations=4, now=device.now, clock=Ticking(0.9, 0.8))
    assert found.device == (0.9, 0.8)
    assert found.wall == pytest.approx((1.0, 1.0))


UNTIL_STEADY = replace(STEADY, steady_within=100.0)


def test_settling_ends_when_nothing_moves() -> None:
    device = Device(cost=0.25, steps=1)
    warm_ = timing.WarmUp(first_call=1.0, iterations=10, iteration_seconds=0.25, finite=True)
    found = timing.settle(
        device, UNTIL_STEADY, warm_, lambda blocks: None if len(blocks) == 7 else "it moves", now=device.now
    )
    assert (found.iterations, found.moving) == (17, None)
    assert found.iteration_seconds == pytest.approx(0.25)


def test_settling_says_what_moves_when_the_time_is_up() -> None:
    device = Device(cost=30.0, steps=1)
    warm_ = timing.WarmUp(first_call=1.0, iterations=10, iteration_seconds=30.0, finite=True)
    found = timing.settle(device, UNTIL_STEADY, warm_, lambda _: "it moves", now=device.now)
    assert (found.iterations, found.moving) == (14, "it moves")  # 4 blocks of 30 s pass 100 s


def test_an_event_makes_settling_begin_anew() -> None:
    device = Device(cost=0.25, steps=1)
    warm_ = timing.WarmUp(first_call=1.0, iterations=0, iteration_seconds=0.25, finite=True)
    found = timing.settle(
        device,
        UNTIL_STEADY,
        warm_,
        lambda blocks: None if len(blocks) == 5 else "it moves",
        events=lambda: device.steps >= 4,  # the third block of ours recompiles
        now=device.now,
    )
    assert found.iterations == 3 + 5


def test_a_protocol_that_does_not_ask_is_not_settled() -> None:
    device = Device()
    warm_ = timing.WarmUp(first_call=1.0, iterations=10, iteration_seconds=0.25, finite=True)
    assert timing.settle(device, SWIN, warm_, lambda _: "it moves", now=device.now) == warm_
    assert device.steps == 0
