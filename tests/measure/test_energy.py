"""Joules of a GPU, against a counter that steps as the real one does: a tenth of a second at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tests.pretended.nvml import NOT_SUPPORTED, WIDE, FakeNvml, FakeNVMLError
from tests.pretended.nvml import pretend_cuda as pretend
from visionbench.machine import nvml
from visionbench.machine.telemetry import Watch
from visionbench.measuring.metrics import energy
from visionbench.measuring.timing import Instruments, WarmUp
from visionbench.record.record import Measurement
from visionbench.record.spec import SMOKE

STEP = 0.1


@dataclass
class Card:
    """A clock, a workload and an energy counter in one: `busy` watts while it works, `idle` watts while it waits."""

    busy: float = 600.0
    idle: float = 80.0
    cost: float = 0.02
    time: float = 1000.0
    joules: float = 1e6
    counted: float = 1e6
    counted_at: float = 1000.0
    pending: float = 0.0
    steps: int = 0
    synchronisations: int = 0

    def now(self) -> float:
        return self.time

    def spend(self, seconds: float, watts: float) -> None:
        """Let time pass; the counter follows in whole steps."""
        end = self.time + seconds
        while self.counted_at + STEP <= end:
            self.counted_at += STEP
            self.counted = self.joules + watts * (self.counted_at - self.time)
        self.joules += watts * seconds
        self.time = end

    def step(self) -> None:
        self.steps += 1
        self.pending += self.cost

    def synchronize(self) -> None:
        self.synchronisations += 1
        self.spend(self.pending, self.busy)
        self.pending = 0.0

    def sleep(self, seconds: float) -> None:
        self.spend(seconds, self.idle)

    def is_finite(self, _: Any) -> bool:
        return True


def warm(finite: bool = True) -> WarmUp:
    return WarmUp(first_call=1.0, iterations=10, iteration_seconds=0.02, finite=finite)


def library(card: Card, **answers: Any) -> FakeNvml:
    fake = FakeNvml(**{"nvmlDeviceGetTotalEnergyConsumption": lambda: int(card.counted * 1000), **answers})
    fake.fields = dict.fromkeys((74, 269, 270, 271), (WIDE, 0))
    return fake


def tools(card: Card, driver: FakeNvml, **others: Any) -> Instruments:
    return Instruments(now=card.now, watch=Watch("cuda", gpu=nvml.open_gpu("cuda", driver), now=card.now), **others)


def measure(card: Card, driver: FakeNvml, warmth: WarmUp | None = None, **others: Any) -> tuple[Measurement, ...]:
    return energy.measure(card, SMOKE, warmth or warm(), tools(card, driver, **others), sleep=card.sleep)


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)


def test_joules_of_a_window_and_watts_of_idling() -> None:
    card = Card()
    joules, lasted, watts = measure(card, library(card))
    assert (joules.metric, joules.unit, joules.better, joules.assume) == ("energy", "J", "lower", "nothing")
    assert joules.iterations == card.steps
    assert joules.values[0] / joules.iterations == pytest.approx(600 * 0.02, rel=0.021)
    assert (joules.warmups, joules.flags) == (10, ())
    assert (watts.metric, watts.unit, watts.better) == ("idle_power", "W", "none")
    assert watts.values[0] == pytest.approx(80, rel=0.06)
    assert (lasted.metric, lasted.unit, lasted.iterations) == ("energy_seconds", "s", joules.iterations)
    assert lasted.values[0] == pytest.approx(joules.iterations * 0.02, rel=0.01)


@pytest.mark.parametrize("offset", [0.0, 0.013, 0.05, 0.099])
def test_wherever_the_window_falls_between_the_counters_steps_it_is_off_by_two_percent_at_most(offset: float) -> None:
    card = Card(cost=0.0317)
    card.spend(offset, card.idle)
    joules, *_ = measure(card, library(card))
    assert joules.values[0] / joules.iterations == pytest.approx(600 * 0.0317, rel=0.021)


@pytest.mark.parametrize("cost", [1e-5, 0.001, 0.02, 1.7, 30.0])
def test_the_window_is_long_enough_and_the_queue_kept_full(cost: float) -> None:
    card = Card(cost=cost)
    start = card.time
    joules, *_ = measure(card, library(card))
    assert joules.iterations == card.steps
    window = card.time - start - energy.SETTLE_SECONDS - energy.IDLE_SECONDS
    assert energy.WINDOW_SECONDS <= window < energy.WINDOW_SECONDS + max(cost, 3 * energy.BURST_SECONDS)
    assert card.synchronisations < 40


def test_without_a_gpu_there_is_no_number() -> None:
    card = Card()
    watched = Instruments(now=card.now, watch=Watch("cpu"))
    assert energy.measure(card, SMOKE, warm(), watched, sleep=card.sleep) == ()
    assert energy.measure(card, SMOKE, warm(), Instruments(now=card.now), sleep=card.sleep) == ()
    assert card.steps == 0


def test_without_a_counter_there_is_no_number_and_no_time_is_spent() -> None:
    card = Card()
    refused = FakeNVMLError(NOT_SUPPORTED)
    assert measure(card, library(card, nvmlDeviceGetTotalEnergyConsumption=refused)) == ()
    slice_of_a_card = FakeNvml(mig=True)
    assert measure(card, slice_of_a_card) == ()
    assert card.steps == 0


@pytest.mark.parametrize("change", [0.0, -1e3])
def test_a_counter_that_stands_or_goes_back_is_no_number_and_no_zero(change: float) -> None:
    card, readings = Card(), iter([1e9, 1e9, 1e9 + change])
    assert measure(card, library(card, nvmlDeviceGetTotalEnergyConsumption=lambda: next(readings))) == ()


def test_idle_watts_that_cannot_be_had_leave_the_joules() -> None:
    card = Card(idle=0.0)
    assert [one.metric for one in measure(card, library(card))] == ["energy", "energy_seconds"]


def test_what_is_doubtful_is_said() -> None:
    card = Card()
    driver = library(card)

    step = card.step

    def step_at_the_power_limit() -> None:
        driver.fields[74] = (WIDE, 10**8)
        step()

    card.step = step_at_the_power_limit  # type: ignore[method-assign]
    joules, *_ = measure(card, driver, warm(finite=False), surroundings=("other_gpu_processes",))
    assert joules.flags == ("nan_output", "power_capped", "other_gpu_processes")


def test_the_window_is_long_against_the_counters_steps() -> None:
    deviation = STEP * (1 / 6) ** 0.5 / energy.WINDOW_SECONDS
    assert deviation < 0.01
    assert STEP / energy.WINDOW_SECONDS <= 0.02
    assert SMOKE.max_seconds > 4 * (energy.WINDOW_SECONDS + energy.SETTLE_SECONDS + energy.IDLE_SECONDS)
