"""Which launch comes next: rounds, budgets, the target for the interval."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest

from visionbench.measuring.sweep import MAX_LAUNCHES, Agenda, Budget, precise
from visionbench.record.record import Environment, Failure, Measurement, Record
from visionbench.record.spec import Protocol, Spec

A, B = (Spec(model=f"timm:{name}") for name in "ab")
ONE = Protocol(name="one", warmup_iterations=1, blocks=1, block_iterations=1)
HERE = Environment(device_type="cpu")
OOM = Failure(kind="out_of_memory", stage="build", message="too large")


def launched(spec: Spec, seconds: float = 1.0, failure: Failure | None = None) -> Record:
    block = Measurement(metric="throughput", unit="s", better="lower", assume="nothing", values=(seconds,))
    return Record(spec=spec, protocol=ONE, environment=HERE, measurements=(block,), failure=failure, source="measured")


def work(agenda: Agenda, *seconds: float) -> list[Spec]:
    """Take until there is nothing; launch number i takes seconds[i % len]."""
    made: list[Spec] = []
    while (spec := agenda.take()) is not None:
        agenda.give(spec, launched(spec, seconds[len(made) % len(seconds)]), seconds=1.0)
        made.append(spec)
    return made


def agenda(missing: list[Spec], budget: Budget = Budget(), target: float | None = None, **options: object) -> Agenda:  # noqa: B008
    return Agenda(missing, list(dict.fromkeys(missing)), (), replace(ONE, target_rel_ci=target), budget, **options)  # type: ignore[arg-type]


def test_in_order_and_each_once() -> None:
    ours = agenda([A, B, A])
    assert work(ours, 1.0) == [A, B, A]
    assert (ours.left, ours.not_made, ours.cut_off) == (0, 0, False)


def test_a_row_that_failed_is_left_alone() -> None:
    ours = agenda([A, B, A, A])
    assert ours.take() == A
    ours.give(A, launched(A, failure=OOM), 1.0)
    assert work(ours, 1.0) == [B]
    assert (ours.left, ours.not_made) == (0, 2)


def test_a_row_that_has_had_its_time_gets_no_more() -> None:
    ours = agenda([A, B, A, B, A, B], Budget(row=2.0))
    assert work(ours, 1.0) == [A, B, A, B]
    assert ours.not_made == 2
    assert not ours.cut_off


def test_the_whole_budget_cuts_off() -> None:
    ticks = count(1000)  # a monotonic clock counts from any moment: only what has passed since the start matters
    ours = agenda([A, B, A, B], Budget(total=3.0), now=lambda: float(next(ticks)))
    assert work(ours, 1.0) == [A, B]
    assert ours.cut_off
    assert ours.not_made == 2


def test_what_is_put_back_comes_next() -> None:
    ours = agenda([A, B])
    assert ours.take() == A
    ours.put_back(A)
    assert work(ours, 1.0) == [A, B]


def test_rounds_go_on_until_the_interval_is_narrow() -> None:
    made = work(agenda([A], target=0.01), 1.0, 1.001)
    assert len(made) == 7  # the first number of launches that has an interval at all
    assert len(work(agenda([A], target=0.01), 1.0, 1.3)) == MAX_LAUNCHES


def test_only_the_rows_that_need_it_go_on() -> None:
    ours = agenda([A, B], target=0.01)
    made: list[Spec] = []
    while (spec := ours.take()) is not None:
        scatter = 1.0 + 0.2 * (len(made) % 3) if spec == B else 1.0
        ours.give(spec, launched(spec, scatter), 1.0)
        made.append(spec)
    assert made.count(A) == 7
    assert made.count(B) == MAX_LAUNCHES
    assert made[:14] == [A, B] * 7


def test_earlier_launches_count_towards_the_interval() -> None:
    ours = Agenda([A], [A], [launched(A)] * 6, replace(ONE, target_rel_ci=0.01), Budget())
    assert work(ours, 1.0) == [A]


def test_a_target_is_pursued_where_the_protocols_own_launches_are_all_done() -> None:
    protocol = replace(ONE, target_rel_ci=0.01)
    assert work(Agenda([], [A], [launched(A)] * 4, protocol, Budget()), 1.0) == [A] * 3
    assert work(Agenda([], [A], [launched(A)] * 7, protocol, Budget()), 1.0) == []


def test_a_row_that_failed_does_not_keep_the_others_from_their_target() -> None:
    ours = agenda([A, B, A, B], target=0.01)
    assert ours.take() == A
    ours.give(A, launched(A, failure=OOM), 1.0)
    assert work(ours, 1.0) == [B] * 7


def test_precise_needs_an_interval() -> None:
    assert not precise([launched(A)] * 6, 0.5)
    assert precise([launched(A)] * 7, 0.5)
    assert not precise([launched(A, 1.0 + 0.1 * i) for i in range(7)], 0.01)


@pytest.mark.parametrize("seconds", [0.01, 1.0, 100.0])
@pytest.mark.parametrize(("target", "reached"), [(0.01, False), (0.02, False), (0.04, True), (0.05, True)])
def test_the_target_is_of_half_the_interval_as_a_share_of_its_centre(
    seconds: float, target: float, reached: bool
) -> None:
    # Seven launches up to 3 % below and above the middle: half of their interval is between 2 and 3 % of it.
    launches = [launched(A, seconds * (1 + 0.01 * step)) for step in range(-3, 4)]
    assert precise(launches, target) is reached
