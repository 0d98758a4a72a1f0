"""Which launches are missing, in which order they are made, and what is kept when a sweep is cut off."""

from __future__ import annotations

import itertools
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from visionbench.command import progress
from visionbench.machine.environment import describe
from visionbench.measuring import sweep as sweeping
from visionbench.measuring.sweep import Budget, plan, sweep
from visionbench.record import store
from visionbench.record.errors import BenchError
from visionbench.record.files import ROOM
from visionbench.record.record import Environment, Failure, Record
from visionbench.record.spec import Protocol, Spec
from visionbench.record.store import append, read

A, B, C = (Spec(model=f"timm:{name}") for name in "abc")
THREE = Protocol(name="three", warmup_iterations=1, blocks=1, block_iterations=1, launches=3)
HERE = describe("cpu")
OOM = Failure(kind="out_of_memory", stage="build", message="too large")


def made(spec: Spec, failure: Failure | None = None, environment: Environment = HERE) -> Record:
    return Record(spec=spec, protocol=THREE, environment=environment, failure=failure, source="measured")


def missing(done: list[Record], **options: bool) -> list[Spec]:
    return plan((A, B), THREE, done, HERE, **options)


def test_every_row_once_before_any_row_twice() -> None:
    assert missing([]) == [A, B, A, B, A, B]


def test_rows_that_lag_behind_come_first() -> None:
    assert missing([made(A), made(A)]) == [B, B, A, B]


def test_what_is_there_is_not_measured_again() -> None:
    assert missing([made(A)] * 3 + [made(B)] * 5) == []


def test_a_failure_is_a_result_unless_retried() -> None:
    done = [made(A), made(A, OOM)]
    assert missing(done) == [B, B, B]
    assert missing(done, retry_failures=True) == [B, A, B, A, B]


def test_only_the_same_key_counts() -> None:
    others = [
        made(A, environment=replace(HERE, threads=77)),
        made(A, environment=replace(HERE, torch="1.8.0")),
        replace(made(A), protocol=replace(THREE, name="other")),
        replace(made(A), protocol=None),
        replace(made(A), source="published"),
        replace(made(A), spec=replace(A, batch_size=2)),
    ]
    assert missing(others) == [A, B, A, B, A, B]


def test_a_spec_named_twice_is_one_row() -> None:
    assert plan([A, A], THREE, [], HERE) == [A, A, A]


@dataclass
class Lab:
    """Launches that take no time, follow a script and leave a trail."""

    failing: dict[Spec, Failure] = field(default_factory=dict)
    interrupt_at: int | None = None
    launched: list[Spec] = field(default_factory=list)
    devices: list[str] = field(default_factory=list)
    one_at_a_time: threading.Lock = field(default_factory=threading.Lock)

    def launch(self, spec: Spec, protocol: Protocol, device: str, threads: int | None, stop: threading.Event) -> Record:
        with self.one_at_a_time:
            if self.interrupt_at is not None and len(self.launched) >= self.interrupt_at:
                raise KeyboardInterrupt
            self.launched.append(spec)
            self.devices.append(device)
        return replace(made(spec, self.failing.get(spec)), protocol=protocol)


@dataclass
class Listener:
    heard: list[tuple[object, ...]] = field(default_factory=list)

    def started(self, spec: Spec, index: int, total: int) -> None:
        self.heard.append(("started", spec, index, total))

    def finished(self, record: Record, index: int, total: int, eta_seconds: float) -> None:
        self.heard.append(("finished", record.spec, index, total, eta_seconds))


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Lab:
    fake = Lab()
    monkeypatch.setattr(sweeping, "launch", fake.launch)
    monkeypatch.setattr(sweeping, "prepare", lambda: None)
    return fake


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "records.jsonl"


def test_a_sweep_appends_as_it_goes(lab: Lab, path: Path) -> None:
    outcome = sweep((A, B), THREE, path, ["cpu"])
    assert lab.launched == [A, B, A, B, A, B]
    assert read(path).records == outcome.records
    assert (outcome.measured, outcome.failed, outcome.skipped, outcome.left) == (6, 0, 0, 0)
    assert not outcome.interrupted


def test_rows_are_spread_over_equal_devices(lab: Lab, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2, timeout=30)  # neither goes on before the other has its launch
    alone = lab.launch

    def together(*words: Any, **options: Any) -> Record:
        both.wait()
        return alone(*words, **options)

    monkeypatch.setattr(sweeping, "launch", together)
    outcome = sweep((A, B), THREE, path, ["cuda:0", "cuda:1"])
    assert sorted(lab.devices) == ["cuda:0"] * 3 + ["cuda:1"] * 3
    assert sorted(map(str, lab.launched)) == sorted(map(str, [A, B] * 3))
    assert sorted(map(str, read(path).records)) == sorted(map(str, outcome.records))


def test_what_ends_one_worker_ends_all(lab: Lab, path: Path) -> None:
    lab.interrupt_at = 3
    outcome = sweep((A, B), THREE, path, ["cuda:0", "cuda:1"])
    assert outcome.interrupted
    assert outcome.measured == 3
    assert outcome.left == 3


def test_a_second_sweep_finds_nothing_to_do(lab: Lab, path: Path) -> None:
    sweep((A, B), THREE, path, ["cpu"])
    outcome = sweep((A, B, C), THREE, path, ["cpu"])
    assert lab.launched[6:] == [C, C, C]
    assert (outcome.measured, outcome.skipped) == (3, 6)


def test_a_spec_that_fails_is_not_tried_again(lab: Lab, path: Path) -> None:
    lab.failing[A] = OOM
    outcome = sweep((A, B), THREE, path, ["cpu"])
    assert lab.launched == [A, B, B, B]
    assert (outcome.measured, outcome.failed, outcome.left) == (3, 1, 2)
    assert read(path).records[0].failure == OOM
    assert not outcome.interrupted


@pytest.mark.parametrize("at", range(6))
def test_a_ctrl_c_keeps_what_is_done_and_the_next_sweep_goes_on(lab: Lab, path: Path, at: int) -> None:
    lab.interrupt_at = at
    outcome = sweep((A, B), THREE, path, ["cpu"])
    assert outcome.interrupted
    assert (outcome.measured, outcome.left) == (at, 6 - at)
    assert read(path).records == outcome.records if at else not path.exists()
    lab.interrupt_at = None
    assert not sweep((A, B), THREE, path, ["cpu"]).interrupted
    assert lab.launched == [A, B, A, B, A, B]


def test_the_deadline_starts_no_further_launch(lab: Lab, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count()
    monkeypatch.setattr(sweeping.time, "monotonic", lambda: float(next(ticks)))
    outcome = sweep((A, B), THREE, path, ["cpu"], budget=Budget(total=3.0))
    assert outcome.cut_off
    assert not outcome.interrupted
    assert 0 < outcome.measured < 6
    assert len(read(path).records) == outcome.measured


def test_progress_is_told(lab: Lab, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeping.time, "monotonic", lambda: 10.0 * len(lab.launched))  # a launch takes 10 s
    listener = Listener()
    sweep((A, B), replace(THREE, launches=1), path, ["cpu"], progress=listener)
    assert listener.heard == [
        ("started", A, 1, 2),
        ("finished", A, 1, 2, 10.0),
        ("started", B, 2, 2),
        ("finished", B, 2, 2, 0.0),
    ]


def test_an_unwritable_file_is_told_before_the_first_launch(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="directory"):
        sweep((A,), THREE, tmp_path, ["cpu"])
    assert lab.launched == []


@contextmanager
def small_disk(size: int) -> Iterator[None]:
    """Files grow to so many bytes and no further; not longer than need be, for pytest's own output may be a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_loses_nothing(lab: Lab, path: Path) -> None:
    append(path, made(A))
    line = path.stat().st_size
    fits = (line + ROOM) // line  # less than that is found out before the first launch
    with small_disk(line + ROOM), pytest.raises(BenchError, match="Nothing already recorded is lost"):
        sweep((A, B), THREE, path, ["cpu"])
    log = read(path)
    assert log.problems == ()
    assert 1 < fits < 6
    assert [record.spec for record in log.records] == [A, B, A, B, A, B][:fits]


def _removed(path: Path) -> None:
    path.unlink()


def _rotated(path: Path) -> None:
    path.rename(path.with_suffix(".1"))
    path.touch()


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:10])


@pytest.mark.parametrize(
    ("hand", "message"), [(_removed, "was removed"), (_rotated, "was replaced"), (_cut, "was cut off")]
)
def test_what_somebody_does_to_the_file_meanwhile_is_said(hand, message, tmp_path, monkeypatch):
    path, spared = tmp_path / "r.jsonl", iter((None, hand))

    def launch(spec: Spec, *_: Any, **__: Any) -> Record:
        if act := next(spared, None):
            act(path)
        return made(spec)

    monkeypatch.setattr(sweeping, "launch", launch)
    monkeypatch.setattr(sweeping, "prepare", lambda: None)
    outcome = sweep((A,), THREE, path, ["cpu"])
    [remark] = outcome.remarks
    assert f"{path} {message}" in remark
    assert "the 1 record made before" in remark


@pytest.mark.parametrize(
    ("hand", "message"), [(_removed, "was removed"), (_rotated, "was replaced"), (_cut, "was cut off")]
)
def test_what_somebody_does_to_the_file_after_the_last_record_is_said(hand, message, tmp_path, monkeypatch):
    path, sync = tmp_path / "r.jsonl", store.os.fsync

    def fsync(descriptor: int) -> None:
        sync(descriptor)
        hand(path)

    monkeypatch.setattr(sweeping, "launch", lambda spec, *_, **__: made(spec))
    monkeypatch.setattr(sweeping, "prepare", lambda: None)
    monkeypatch.setattr(store, "sync_folder", lambda _: None)
    monkeypatch.setattr(store.os, "fsync", fsync)
    [remark] = sweep((A,), replace(THREE, launches=1), path, ["cpu"]).remarks
    assert f"{path} {message}" in remark


def test_the_launch_under_way_when_the_disk_fills_is_kept(tmp_path, monkeypatch):
    def full(*_: Any) -> None:
        raise BenchError("cannot write.")

    monkeypatch.setattr(sweeping, "launch", lambda spec, *_, **__: made(spec))
    monkeypatch.setattr(sweeping, "prepare", lambda: None)
    monkeypatch.setattr(sweeping, "append", full)
    monkeypatch.setattr(sweeping.tempfile, "tempdir", str(tmp_path))
    with pytest.raises(BenchError, match="The launch that was under way is in ") as caught:
        sweep((A,), THREE, tmp_path / "r.jsonl", ["cpu"])
    [kept] = tmp_path.glob("visionbench-unsaved-*.jsonl")
    assert str(kept) in str(caught.value)
    assert read(kept).records == (made(A),)
    monkeypatch.setattr(sweeping.tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(BenchError, match=r'under way: \{"spec":'):
        sweep((A,), THREE, tmp_path / "r.jsonl", ["cpu"])


@pytest.mark.parametrize(
    "failure",
    [
        Failure(kind="error", stage="time", message="RuntimeError: CUDA error: unspecified launch failure"),
        Failure(kind="unsupported", stage="check", message="cuda is not here: torch says: no device"),
        Failure(kind="timeout", stage="time", message="killed after 600 s"),
    ],
)
def test_a_card_that_falls_off_the_bus_ends_the_sweep_and_costs_no_row(
    failure: Failure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Spec] = []

    def launch(spec: Spec, *_: object, **__: object) -> Record:
        tried.append(spec)
        return made(spec, None if len(tried) == 1 else failure)

    monkeypatch.setattr(sweeping, "launch", launch)
    monkeypatch.setattr(sweeping, "answers", lambda _: len(tried) < 2)
    outcome = sweep((A, B, C), replace(THREE, launches=1), tmp_path / "r.jsonl", ["cuda"])
    assert tried == [A, B]
    assert (outcome.measured, outcome.failed, outcome.left, outcome.lost) == (1, 0, 2, ("cuda",))
    assert [record.spec for record in read(tmp_path / "r.jsonl").records] == [A]


def test_a_row_that_fails_on_a_card_that_answers_is_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeping, "launch", lambda spec, *_, **__: made(spec, OOM))
    monkeypatch.setattr(sweeping, "answers", lambda _: True)
    outcome = sweep((A, B), replace(THREE, launches=1), tmp_path / "r.jsonl", ["cuda"])
    assert (outcome.failed, outcome.lost) == (2, ())


def test_one_of_two_cards_is_lost_and_the_other_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = Failure(kind="error", stage="time", message="CUDA error: device-side trouble")
    monkeypatch.setattr(
        sweeping, "launch", lambda spec, _, device, *__, **___: made(spec, lost if device == "cuda:1" else None)
    )
    asked: dict[str, int] = {}

    def answers(device: str) -> bool:
        asked[device] = asked.get(device, 0) + 1
        return device == "cuda:0" or asked[device] == 1

    monkeypatch.setattr(sweeping, "answers", answers)
    outcome = sweep((A, B, C), replace(THREE, launches=1), tmp_path / "r.jsonl", ["cuda:0", "cuda:1"])
    assert outcome.failed == 0
    assert set(outcome.lost) <= {"cuda:1"}
    assert outcome.measured + outcome.left == 3


def test_workers_of_several_cards_know_whether_the_user_wants_to_hear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sweeping, "launch", lambda spec, *_, **__: made(spec))
    monkeypatch.setattr(sweeping, "answers", lambda _: True)
    for quiet, lines in ((True, 0), (False, 3)):
        before = progress.QUIET.set(quiet)
        once = replace(THREE, launches=1)
        sweep((A, B, C), once, tmp_path / f"{quiet}.jsonl", ["cuda:0", "cuda:1"], progress=progress.Lines())
        progress.QUIET.reset(before)
        assert len(capsys.readouterr().err.splitlines()) == lines
