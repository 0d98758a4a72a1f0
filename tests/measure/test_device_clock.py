"""Who sets the pace, and whether the clocks agree: by a pretended device whose clock and host are numbers."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from visionbench.machine.device_clock import Lone, flags, lone


class Card:
    """A device that works off a queue: a step costs the host `host` seconds and the device `device` seconds."""

    def __init__(self, *, host: float, device: float, queue: float = 1e9) -> None:
        self.host, self.device, self.queue = host, device, queue
        self.now = 0.0  # the host's clock
        self.free = 0.0  # when the device will have done all that was enqueued

    def step(self) -> None:
        """Work begins when the first kernel is enqueued, and ends no sooner than the host has enqueued the last."""
        begun = max(self.now, self.free)
        self.now += self.host
        self.free = max(begun + self.device, self.now)
        self.now = max(self.now, self.free - self.queue)  # a full queue makes the host wait

    def synchronize(self, *_: object) -> None:
        self.now = max(self.now, self.free)

    def spin(self, cycles: int) -> None:
        self.free = max(self.now, self.free) + cycles / 2e9

    def event(self, **_: object) -> SimpleNamespace:
        card, event = self, SimpleNamespace(at=0.0)

        def synchronize() -> None:
            card.now = max(card.now, event.at)

        event.record = lambda *_: setattr(event, "at", max(card.now, card.free))
        event.query = lambda: event.at <= card.now
        event.synchronize = synchronize
        event.elapsed_time = lambda other: (other.at - event.at) * 1e3
        return event


def _measured(monkeypatch: pytest.MonkeyPatch, card: Card) -> Lone:
    monkeypatch.setattr(torch.cuda, "synchronize", card.synchronize)
    monkeypatch.setattr(torch.cuda, "_sleep", card.spin, raising=False)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda *_: None)
    monkeypatch.setattr(torch.cuda, "Event", card.event)
    return lone(card.step, "cuda", lambda: card.now)


@pytest.mark.parametrize(
    ("host", "device", "bound"),
    [(0.005, 0.020, False), (0.0056, 0.0053, True), (0.005, 0.001, True), (0.010, 0.012, False), (0.2, 0.001, True)],
)
def test_the_host_sets_the_pace_where_it_needs_most_of_a_step(
    monkeypatch: pytest.MonkeyPatch, host: float, device: float, bound: bool
) -> None:
    alone = _measured(monkeypatch, Card(host=host, device=device))
    block = max(host, device)
    assert flags((block,), (block,), alone, iterations=1) == (("host_bound",) if bound else ())


def test_a_clock_that_sinks_under_load_is_not_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = _measured(monkeypatch, Card(host=0.002, device=0.100))
    blocks = (30 * 0.125,)  # a block's step takes a quarter longer than a lone one
    assert flags(blocks, blocks, alone, iterations=30, slowed=True) == ()


def test_a_queue_that_is_full_leaves_no_unhindered_step_and_the_pace_is_still_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alone = _measured(monkeypatch, Card(host=0.005, device=0.100, queue=0.02))
    assert alone.unhindered == ()
    assert flags((1.0,), (1.0,), alone, iterations=10) == ()


def test_unhindered_steps_are_the_devices_own(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = _measured(monkeypatch, Card(host=0.005, device=0.001))
    assert alone.unhindered == pytest.approx([0.001] * 5)
    assert alone.enqueue == pytest.approx([0.005] * 5)


@pytest.mark.parametrize(
    ("step", "unhindered", "bound"),
    [
        (0.0143, (0.01407,), False),  # Swin-T on an H100 in a virtual machine
        (0.00707, (0.0070, 0.0070, 0.0071), False),  # DeiT-S
        (0.0110, (0.0100,), True),
        (0.0110, (), True),  # the queue was too short to know
    ],
)
def test_a_host_that_was_slow_for_a_moment_sets_no_pace(
    step: float, unhindered: tuple[float, ...], bound: bool
) -> None:
    alone = Lone(enqueue=(0.0139,) * 5, done=(0.0141,) * 5, unhindered=unhindered)
    blocks = tuple(30 * step * off for off in (1.0, 1.001, 1.3))
    assert ("host_bound" in flags(blocks, blocks, alone, iterations=30)) is bound


def test_clocks_that_lie_apart_are_flagged() -> None:
    assert flags((1.0, 1.0), (1.0, 1.0), Lone(), iterations=1) == ()
    assert flags((1.0, 1.0), (0.97, 0.97), Lone(), iterations=1) == ("clocks_disagree",)


def test_a_cpu_has_no_queue() -> None:
    assert lone(lambda: None, "cpu") == Lone()
