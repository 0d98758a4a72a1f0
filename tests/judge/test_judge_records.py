"""Two files compared: what is refused, what is exact, what may be said of times, and the exit code."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from visionbench.comparison.stored import StoredComparison, exit_code
from visionbench.judging.result_files import from_records, load
from visionbench.judging.stored import compare
from visionbench.record import store
from visionbench.record.errors import BenchError
from visionbench.record.record import Environment, Failure, Measurement, Record
from visionbench.record.spec import STEADY, Spec

CPU = Environment(
    device_type="cpu",
    device_name="Fixture CPU",
    cpu="Fixture CPU",
    cores=2,
    threads=2,
    torch="2.15.0",
    git_commit="a" * 40,
    started="2026-01-02T03:04:05+00:00",
)
META = Environment(device_type="meta", torch="2.15.0", git_commit="a" * 40)
TINY = Spec(model="timm:convnext_tiny", batch_size=4)
OUT = Failure(kind="out_of_memory", stage="warm-up", message="tried to allocate 3 GiB")


def timed(seconds: float, *others: Measurement, spec: Spec = TINY, **changes: Any) -> Record:
    """A launch whose blocks of ten iterations take ten times `seconds`."""
    block = Measurement(
        metric="throughput", unit="s", better="lower", assume="nothing", values=(seconds * 10,), iterations=10
    )
    plain = Record(spec=spec, protocol=STEADY, environment=CPU, measurements=(block, *others), source="measured")
    return replace(plain, **changes)


def launches(centre: float, number: int = 7, **changes: Any) -> list[Record]:
    """The k-th is k - (number - 1) / 2 per mille off."""
    return [timed(centre * (1 + (k - (number - 1) / 2) / 1000), **changes) for k in range(number)]


def counted(**counts: float) -> Record:
    taken = tuple(
        Measurement(metric=name, unit="count", better="lower", assume="exact", values=(value,))
        for name, value in counts.items()
    )
    return Record(spec=TINY, protocol=None, environment=META, measurements=taken, source="computed")


def measured(metric: str, *values: float, unit: str = "s", better: Any = "lower", **changes: Any) -> Measurement:
    return Measurement(metric=metric, unit=unit, better=better, assume="nothing", values=values, **changes)


def against(baseline: list[Record], candidate: list[Record]) -> StoredComparison:
    return compare(from_records(baseline), from_records(candidate))


def words(compared: StoredComparison) -> list[str]:
    return [entry.word for entry in compared.entries]


# --- times -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("candidate", "word", "cost"), [(1.1, "apart", 1.1), (0.9, "apart", 0.9), (1.002, "overlapping", 1.002)]
)
def test_times_are_apart_or_they_overlap_and_are_never_a_verdict(candidate, word, cost):
    compared = against(launches(1.0), launches(candidate))
    [entry] = compared.entries
    assert (entry.word, entry.metric, entry.unit) == (word, "throughput", "1/s")
    assert entry.cost == pytest.approx(cost, rel=1e-9), "of time, though images/s are shown"
    assert entry.baseline is not None
    assert entry.baseline.estimate.centre == pytest.approx(4.0, rel=1e-5)
    assert exit_code(compared) == 0


def test_touching_intervals_overlap():
    seven = launches(1.0)
    [entry] = against(seven, seven).entries
    assert (entry.word, entry.cost) == ("overlapping", 1.0)


def test_few_launches_allow_no_interval_on_either_side():
    assert words(against(launches(1.0, 6), launches(2.0))) == ["no interval"]
    assert words(against(launches(1.0), launches(2.0, 1))) == ["no interval"]


def test_other_metrics_are_per_iteration_and_the_weather_is_left_out():
    others = (
        measured("cpu_time", 8.0, 12.0, iterations=5),
        measured("energy", 40.0, unit="J", iterations=5),
        measured("latency", *[0.3] * 10),
        measured("steal", 0.1, unit="1", better="none"),
    )
    found = {entry.metric: entry for entry in against([timed(1.0, *others)], [timed(1.0, *others)]).entries}
    assert list(found) == ["throughput", "cpu_time", "energy", "latency"]
    centres = [entry.baseline.estimate.centre for entry in found.values() if entry.baseline]
    assert centres == [4.0, 2.0, 2.0, pytest.approx(0.3)], "energy per image: 40 J / 5 iterations / 4 images"


def test_a_count_of_zero_has_no_logarithm_and_is_compared_all_the_same():
    breaks = [[timed(1.0, measured("graph_breaks", n, unit="count"))] for n in (0, 2)]
    entry = against(*breaks).entries[1]
    assert (entry.word, entry.cost) == ("no interval", None)
    assert entry.candidate is not None
    assert entry.candidate.estimate.centre == 2


def test_flags_and_failed_launches_beside_a_number_are_kept():
    flagged = [replace(one, measurements=(replace(one.measurements[0], flags=("throttled",)),)) for one in launches(1)]
    [entry] = against(launches(1.0), [*flagged, timed(1.0, failure=OUT)]).entries
    assert entry.candidate is not None
    assert (entry.candidate.flags, entry.candidate.failed) == (("throttled",), 1)
    assert entry.candidate.estimate.launches == 7


# --- exact counts ----------------------------------------------------------------------------------------------------


def test_a_count_that_changed_by_one_is_a_change():
    compared = against([counted(params=28_589_128, macs=5)], [counted(params=28_589_129, macs=5)])
    assert words(compared) == ["changed", "equal"]
    assert exit_code(compared) == 1
    assert exit_code(against([counted(params=1)], [counted(params=1)])) == 0


def test_a_count_s_vanishing_fails_and_a_new_one_does_not():
    assert words(against([counted(a=1, b=1)], [counted(a=1)])) == ["equal", "vanished"]
    assert exit_code(against([counted(a=1, b=1)], [counted(a=1)])) == 1
    assert words(against([counted(a=1)], [counted(a=1, b=1)])) == ["equal", "new"]
    assert exit_code(against([counted(a=1)], [counted(a=1, b=1)])) == 0


def test_of_a_history_of_counts_the_newest_is_compared():
    assert words(against([counted(params=1), counted(params=2)], [counted(params=2)])) == ["equal"]
    assert words(against([counted(params=2), counted(params=1)], [counted(params=2)])) == ["changed"]


# --- refused ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"environment": replace(CPU, threads=4, torch="2.9.0")},
            ["threads: 2 against 4", "torch: 2.15.0 against 2.9.0"],
        ),
        ({"protocol": replace(STEADY, blocks=3)}, ["protocol blocks: 10 against 3"]),
        ({"protocol": replace(STEADY, metrics=("throughput",))}, None),
        ({"source": "published"}, ["source: measured against published"]),
    ],
)
def test_what_was_recorded_otherwise_is_refused_and_says_why(changes, told):
    compared = against(launches(1.0), launches(1.0, **changes))
    [entry] = compared.entries
    assert (entry.word, entry.baseline, entry.candidate, entry.cost) == ("not comparable", None, None, None)
    assert told is None or [str(one) for one in entry.differences] == told
    assert exit_code(compared) == 4


def test_how_many_launches_were_asked_for_changes_no_launch():
    asked = replace(STEADY, launches=9, target_rel_ci=0.01, max_seconds=5.0)
    assert words(against(launches(1.0), launches(1.0, protocol=asked))) == ["overlapping"]


def test_commit_and_date_do_not_matter():
    later = replace(CPU, git_commit="b" * 40, git_dirty=True, started="2026-03-01T00:00:00+00:00")
    compared = against(launches(1.0), launches(1.0, environment=later))
    assert words(compared) == ["overlapping"]
    assert compared.candidate.commits == ("b" * 40,)
    assert compared.candidate.dirty
    assert not compared.baseline.dirty


def test_of_several_machines_in_a_file_each_finds_its_own():
    big = replace(CPU, threads=16)
    both = [*launches(1.0), *launches(0.2, environment=big)]
    assert words(against(both, both)) == ["overlapping", "overlapping"]
    assert [entry.among for entry in against(both, both).entries] == ["threads 2", "threads 16"]
    assert [entry.among for entry in against(launches(1.0), both).entries] == ["threads 2", "threads 16"]
    assert [entry.among for entry in against(launches(1.0), launches(1.0)).entries] == [""]
    assert words(against(both, launches(1.0))) == ["overlapping", "vanished"]
    assert words(against(launches(1.0), both)) == ["overlapping", "new"]
    assert exit_code(against(both, launches(1.0))) == 1


def test_a_refused_row_is_paired_with_the_nearest_of_the_other_side():
    near, far = replace(CPU, threads=4), replace(CPU, threads=16, torch="2.0.0", cores=16)
    compared = against(launches(1.0), [*launches(1.0, environment=far), *launches(1.0, environment=near)])
    assert words(compared) == ["not comparable", "new"]
    assert [str(one) for one in compared.entries[0].differences] == ["threads: 2 against 4"]


def test_one_refused_row_among_compared_ones_is_enough():
    other = Spec(model="timm:resnet18")
    candidate = [*launches(1.0), *launches(1.0, spec=other, environment=replace(CPU, threads=4))]
    assert exit_code(against([*launches(1.0), *launches(1.0, spec=other)], candidate)) == 4


# --- rows ------------------------------------------------------------------------------------------------------------


def test_a_row_that_is_gone_fails_and_a_new_one_is_listed():
    two = [*launches(1.0), *launches(1.0, spec=Spec(model="timm:resnet18"))]
    gone, new = against(two, launches(1.0)), against(launches(1.0), two)
    assert (words(gone), exit_code(gone)) == (["overlapping", "vanished"], 1)
    assert (words(new), exit_code(new)) == (["overlapping", "new"], 0)


def test_a_row_that_fails_now_is_gone_too():
    other = Spec(model="timm:resnet18")
    failed = [timed(1.0, failure=OUT, spec=other)]
    compared = against([*launches(1.0), *launches(1.0, spec=other)], [*launches(1.0), *failed])
    assert (words(compared), exit_code(compared)) == (["overlapping", "vanished"], 1)
    assert compared.entries[1].reason == "the candidate: out of memory in stage 'warm-up': tried to allocate 3 GiB"
    assert words(against([*launches(1.0), *failed], launches(1.0))) == ["failed", "overlapping"][::-1]
    assert exit_code(against([*launches(1.0), *failed], [*launches(1.0), *failed])) == 0


def test_nothing_compared_is_never_a_success():
    assert exit_code(against([], [])) == 4
    assert exit_code(against(launches(1.0), [])) == 4
    assert exit_code(against(launches(1.0), launches(1.0, spec=Spec(model="timm:resnet18")))) == 4
    assert exit_code(against([timed(1.0, failure=OUT)], [timed(1.0, failure=OUT)])) == 4


# --- files -----------------------------------------------------------------------------------------------------------


def bench_file(names: dict[str, float], **machine: Any) -> str:
    benchmarks = [
        {"fullname": name, "stats": {"median": t, "q1": t * 0.9, "q3": t * 1.2, "rounds": 5}, "options": {}}
        for name, t in names.items()
    ]
    info = {"node": "a", "machine": "x86_64", "cpu": {"brand_raw": "AMD EPYC", "count": 2}} | machine
    return json.dumps({"machine_info": info, "benchmarks": benchmarks, "commit_info": {"id": "c" * 40}}, indent=4)


def files(tmp_path, *texts: str) -> StoredComparison:
    for name, text in zip("ab", texts, strict=True):
        (tmp_path / name).write_text(text)
    a, b = (load(tmp_path / name) for name in "ab")
    return compare(a.samples, b.samples, labels=("a", "b"))


def test_files_of_pytest_benchmark_are_compared_and_what_is_gone_is_seen(tmp_path):
    compared = files(tmp_path, bench_file({"x": 1.0, "gone": 1.0}), bench_file({"x": 1.1, "new": 1.0}, node="b"))
    assert words(compared) == ["no interval", "vanished", "new"]
    entry = compared.entries[0]
    assert entry.cost == pytest.approx(1.1)
    assert entry.baseline is not None
    assert entry.baseline.spread == (0.9, 1.2)
    assert exit_code(compared) == 1


def test_files_of_pytest_benchmark_from_two_machines_are_refused(tmp_path):
    other = {"brand_raw": "Intel Xeon", "count": 4}
    compared = files(tmp_path, bench_file({"x": 1.0}), bench_file({"x": 1.0}, cpu=other))
    told = [str(one) for one in compared.entries[0].differences]
    assert told == ["cpu: AMD EPYC against Intel Xeon", "cores: 2 against 4"]
    assert exit_code(compared) == 4


def test_a_file_of_records_is_read_with_its_torn_lines_told(tmp_path):
    for record in launches(1.0):
        store.append(tmp_path / "a", record)
    with (tmp_path / "a").open("a") as file:
        file.write('{"spec":')
    batch = load(tmp_path / "a")
    assert len(batch.samples) == 7
    assert len(batch.problems) == 1
    assert batch.samples == from_records(launches(1.0))


def test_records_and_benchmarks_have_no_row_in_common(tmp_path):
    store.append(tmp_path / "b", timed(1.0))
    assert exit_code(files(tmp_path, bench_file({"x": 1.0}), (tmp_path / "b").read_text())) == 4


def test_a_file_that_is_neither_is_a_mistake(tmp_path):
    (tmp_path / "a").write_text("hello")
    with pytest.raises(BenchError, match="not a visionbench records file"):
        load(tmp_path / "a")
    with pytest.raises(BenchError, match="cannot read"):
        load(tmp_path / "missing")
