"""Drifts: none seen in noise that wanders, a step found where it is, sessions and fingerprints kept apart."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from visionbench.comparison.trend import Trend
from visionbench.judging.change_point import PERMUTATIONS, SHORTEST, _null, changes, p_value
from visionbench.judging.result_files import from_records
from visionbench.judging.trend import ALPHA, exit_code, trend
from visionbench.record.record import Environment, Measurement, Record
from visionbench.record.spec import STEADY, Spec

START = datetime(2026, 1, 1, tzinfo=UTC)
CPU = Environment(device_type="cpu", device_name="Fixture CPU", threads=2, torch="2.15.0")


def wandering(random: np.random.Generator, number: int, r: float, sessions: int) -> np.ndarray[Any, Any]:
    """Stationary first-order autoregressions, one a row, of standard deviation 1."""
    noise = random.normal(size=(number, sessions)) * np.sqrt(1 - r * r)
    noise[:, 0] = random.normal(size=number)
    for place in range(1, sessions):
        noise[:, place] += r * noise[:, place - 1]
    return noise


def times(noise: np.ndarray[Any, Any], sd: float = 0.01, **steps: float) -> np.ndarray[Any, Any]:
    """Seconds around 1 with `sd` of noise; `at20=1.03` multiplies from session 20 on."""
    values = np.exp(sd * noise)
    for name, factor in steps.items():
        values[..., int(name.removeprefix("at")) :] *= factor
    return values


# --- the test for a change -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("r", [0.0, 0.3, 0.5])
@pytest.mark.parametrize("sessions", [15, 40])
def test_noise_that_wanders_has_no_change_point(r, sessions):
    series = times(wandering(np.random.default_rng(1), 400, r, sessions))
    found = sum(bool(changes(one, ALPHA)) for one in series)
    assert found <= 0.05 * len(series)


def test_of_exchangeable_sessions_the_level_is_what_it_says():
    series = np.random.default_rng(2).normal(size=(2000, 30))
    share = np.mean([p_value(one) <= 0.1 for one in series])
    assert share == pytest.approx(0.1, abs=4 * np.sqrt(0.1 * 0.9 / 2000))


@pytest.mark.parametrize("factor", [1.03, 1 / 1.03])
def test_a_step_of_three_percent_over_noise_of_one_is_found_where_it_is(factor):
    series = times(wandering(np.random.default_rng(3), 100, 0.0, 40), at20=factor)
    found = [changes(one, ALPHA) for one in series]
    near = [its for its in found if len(its) == 1 and abs(its[0].place - 20) <= 3]
    assert len(near) >= 95
    covered = sum(its[0].earliest <= 20 <= its[0].latest for its in near)
    assert covered >= 0.9 * len(near)
    assert all(its[0].earliest <= its[0].place <= its[0].latest for its in near)


def test_two_steps_are_two_changes():
    series = times(wandering(np.random.default_rng(4), 20, 0.0, 90), at30=1.04, at60=1.04)
    found = [[change.place for change in changes(one, ALPHA)] for one in series]
    good = [its for its in found if len(its) == 2 and abs(its[0] - 30) <= 3 and abs(its[1] - 60) <= 3]
    assert len(good) >= 18


def test_a_step_that_was_undone_is_two_changes():
    series = times(wandering(np.random.default_rng(4), 20, 0.0, 90), at30=1.04, at60=1 / 1.04)
    found = [[change.place for change in changes(one, ALPHA)] for one in series]
    good = [its for its in found if len(its) == 2 and abs(its[0] - 30) <= 3 and abs(its[1] - 60) <= 3]
    assert len(good) >= 18


def test_one_session_in_bad_weather_is_no_change():
    for place in (3, 20, 38):
        values = times(wandering(np.random.default_rng(5), 1, 0.0, 40))[0]
        values[place] *= 3
        assert changes(values, ALPHA) == ()


def test_a_slow_drift_is_seen_though_no_session_steps():
    series = times(wandering(np.random.default_rng(6), 20, 0.0, 60)) * np.linspace(1, 1.05, 60)
    assert sum(bool(changes(one, ALPHA)) for one in series) >= 18


def test_a_constant_and_a_short_series_have_no_change():
    assert changes(np.ones(50), ALPHA) == ()
    assert changes(np.array([1.0] * 5 + [2.0] * 6), 1.0) == ()
    assert len(changes(np.array([1.0, 1.1] * 20 + [0.0, 0.1] * 20), ALPHA)) == 1, "zeros have no logarithm"


def test_the_null_distribution_is_drawn_once_and_alike():
    first = _null(SHORTEST).copy()
    _null.cache_clear()
    assert np.array_equal(first, _null(SHORTEST))
    assert len(first) == PERMUTATIONS


# --- series and sessions ---------------------------------------------------------------------------------------------


def launch(seconds: float, when: timedelta | None, commit: str = "", **changes: Any) -> Record:
    started = (START + when).isoformat() if when is not None else None
    block = Measurement(metric="throughput", unit="s", better="lower", assume="nothing", values=(seconds,))
    return Record(
        spec=changes.get("spec", Spec(model="timm:resnet18")),
        protocol=STEADY,
        environment=replace(changes.get("environment", CPU), started=started, git_commit=commit or None),
        measurements=(block,),
        source="measured",
    )


def history(values: Any, launches: int = 3, **changes: Any) -> list[Record]:
    """A session a day, each of a commit of its own."""
    return [
        launch(value * (1 + 0.001 * k), timedelta(days=day, minutes=k), f"{day:07d}" + "0" * 33, **changes)
        for day, value in enumerate(values)
        for k in range(launches)
    ]


def seen(records: list[Record]) -> Trend:
    return trend(from_records(records))


def test_a_step_in_the_records_is_told_with_its_levels_and_commits():
    values = times(wandering(np.random.default_rng(7), 1, 0.0, 40), at20=1.03)[0]
    found = seen(history(values))
    [series] = found.series
    [shift] = series.shifts
    assert series.course == "shifted"
    assert abs(shift.place - 20) <= 3
    assert shift.cost == pytest.approx(1.03, abs=0.01), "slower, though images/s fall"
    assert shift.after < shift.before
    assert sum(shift.sessions) == 40
    assert series.sessions[shift.place].commit == f"{shift.place:07d}" + "0" * 33
    assert exit_code(found) == 0, "a trend is never a gate"


def test_launches_of_one_session_are_one_value_and_a_stray_one_does_not_move_it():
    records = [launch(s, timedelta(minutes=m), "a") for m, s in enumerate((1.0, 9.0, 1.1))]
    [session] = seen(records).series[0].sessions
    assert (session.value, session.launches, session.commit) == (pytest.approx(1 / 1.1), 3, "a")


def test_another_commit_and_a_long_pause_begin_a_session():
    hours = [0, 1, 6.5, 12.6, 12.7]
    records = [launch(1.0, timedelta(hours=h), c) for h, c in zip(hours, "aaaab", strict=True)]
    assert [one.launches for one in seen(records[::-1]).series[0].sessions] == [3, 1, 1]


def test_a_copy_of_a_file_adds_nothing():
    records = history([1.0, 2.0])
    assert seen(records + records) == seen(records)


def test_fingerprints_rows_and_protocols_are_series_of_their_own():
    other = replace(CPU, torch="2.16.0")
    records = history([1.0] * 3) + history([2.0] * 3, environment=other)
    records += history([3.0] * 3, spec=Spec(model="timm:resnet50"))
    found = seen(records)
    assert [len(series.sessions) for series in found.series] == [3, 3, 3]
    assert len({series.fingerprint for series in found.series}) == 2


def test_a_new_driver_is_a_new_level_and_no_drift():
    new = replace(CPU, driver="2")
    days = [launch(2.0, timedelta(days=40 + d), "b", environment=new) for d in range(20)]
    assert {series.course for series in seen(history([1.0] * 20) + days).series} == {"steady"}


def test_too_short_is_not_steady():
    assert seen(history([1.0] * (SHORTEST - 1))).series[0].course == "too short"
    assert seen(history([1.0] * SHORTEST)).series[0].course == "steady"


def test_exact_counts_and_undated_launches_are_left_out():
    count = Measurement(metric="params", unit="count", better="lower", assume="exact", values=(1.0,))
    computed = replace(launch(1.0, timedelta(0)), measurements=(count,), source="computed", protocol=None)
    found = seen([computed, launch(1.0, None)])
    assert (found.series, found.undated) == ((), 1)
    assert exit_code(found) == 4


def test_among_many_series_one_weak_change_is_not_enough():
    random = np.random.default_rng(8)
    values = next(one for one in times(wandering(random, 20000, 0.0, 20)) if ALPHA / 2 < p_value(one) <= ALPHA)
    alone = history(values, 1)
    assert seen(alone).series[0].course == "shifted"
    others = [r for n in range(100) for r in history([1.0] * 20, 1, spec=Spec(model=f"timm:m{n}"))]
    assert {series.course for series in seen(alone + others).series} == {"steady"}
