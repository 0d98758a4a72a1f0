"""Single iterations against a clock that only work can move: how many, how they are timed, what is said of them."""

from __future__ import annotations

import gc
from dataclasses import dataclass, field, replace

import pytest

from visionbench.measuring.metrics import latency
from visionbench.measuring.timing import WarmUp
from visionbench.record.spec import SMOKE, STEADY, SWIN, Protocol
from visionbench.record.statistics import percentile

WARM = WarmUp(first_call=8.0, iterations=50, iteration_seconds=0.25, finite=True)


@dataclass
class Device:
    """The k-th step is enqueued in 1 s and takes the device k s more."""

    time: float = 100.0
    pending: float = 0.0
    steps: int = 0
    log: list[str] = field(default_factory=list)
    collecting: list[bool] = field(default_factory=list)

    def now(self) -> float:
        self.log.append("clock")
        return self.time

    def step(self) -> None:
        self.log.append("step")
        self.collecting.append(gc.isenabled())
        self.steps += 1
        self.time += 1.0
        self.pending += self.steps

    def synchronize(self) -> None:
        self.log.append("sync")
        self.time += self.pending
        self.pending = 0.0

    def is_finite(self, result: object) -> bool:
        return True


def test_every_iteration_is_synchronised_before_and_after_and_stored_in_order() -> None:
    device = Device(pending=1000.0)  # what somebody has left in the queue is not ours
    protocol = Protocol(name="p", warmup_iterations=1, blocks=1, block_iterations=7)
    (measured,) = latency.measure(device, protocol, replace(WARM, iteration_seconds=100.0), device.now)
    assert device.log == ["sync", "clock", "step", "sync", "clock"] * 28
    assert measured.values == tuple(1.0 + k for k in range(1, 29))
    assert (measured.metric, measured.unit, measured.better, measured.assume) == ("latency", "s", "lower", "nothing")
    assert (measured.iterations, measured.warmups, measured.flags) == (1, 50, ())


@pytest.mark.parametrize(
    ("protocol", "iteration_seconds", "expected"),
    [
        (STEADY, 0.025, 100),  # ten blocks of 0.25 s
        (STEADY, 0.001, 1000),  # 2500 would fit
        (STEADY, 0.0, 1000),
        (STEADY, 0.05, 50),
        (STEADY, 0.1, 50),  # 25 fit; 50 take twice as long
        (STEADY, 0.5, 20),  # 5 fit; 20 take four times as long
        (STEADY, 10.0, 6),  # a minute, against 2.5 s: the median's interval needs them
        (SMOKE, 0.025, 100),
        (SWIN, 1e-3, 90),  # three times 30 timed iterations, whatever they take
        (SWIN, 100.0, 90),
        (replace(SWIN, blocks=100), 1.0, 1000),
        (replace(SWIN, block_iterations=1), 1.0, 12),
    ],
)
def test_the_number_of_iterations_by_hand(protocol: Protocol, iteration_seconds: float, expected: int) -> None:
    assert latency.iterations(protocol, iteration_seconds) == expected


def test_the_fewest_iterations_are_just_enough_for_a_median_and_the_least_for_a_ninetieth_percentile() -> None:
    assert percentile([1.0] * latency.ENOUGH, 0.5)
    assert not percentile([1.0] * (latency.ENOUGH - 1), 0.5)
    assert percentile([1.0] * latency.LEAST, 0.9)
    assert percentile([1.0] * latency.MOST, 0.99)
    assert not percentile([1.0] * latency.MOST, 0.999)


@pytest.mark.parametrize(
    ("warm", "flags"),
    [
        (WARM, ()),
        (replace(WARM, finite=False), ("nan_output",)),
        (replace(WARM, moving="the median moves"), ("no_steady_state",)),
        (replace(WARM, finite=False, moving="x"), ("nan_output", "no_steady_state")),
    ],
)
def test_what_the_warm_up_says_is_said_of_the_latency(warm: WarmUp, flags: tuple[str, ...]) -> None:
    device = Device()
    (measured,) = latency.measure(device, SWIN, warm, device.now)
    assert measured.flags == flags


def test_no_garbage_is_collected_inside_an_iteration() -> None:
    assert gc.isenabled()
    device = Device()
    latency.time_parts((device.step,), device.synchronize, 3, device.now)
    assert device.collecting == [False] * 3
    assert gc.isenabled()


def test_collection_is_restored_when_a_step_raises() -> None:
    def raises() -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        latency.time_parts((raises,), lambda: None, 1, lambda: 0.0)
    assert gc.isenabled()
