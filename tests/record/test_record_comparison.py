"""Comparisons as lines of a file: what goes in comes out, and what is no comparison is never read as one."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from visionbench.comparison import comparison
from visionbench.comparison.comparison import (
    Comparison,
    Launch,
    Round,
    Side,
    from_json,
    iteration_seconds,
    log_ratios,
    read,
    to_json,
    wall_log_ratios,
    write,
)
from visionbench.record.errors import BenchError
from visionbench.record.record import Environment, Failure
from visionbench.record.spec import Spec


def turns(*values: tuple[float, float], **rest: Any) -> Launch:
    rounds = [
        Round(first="candidate", baseline=a, candidate=b, baseline_wall=2 * a, candidate_wall=4 * b) for a, b in values
    ]
    return Launch(rounds=tuple(rounds), **rest)


WHOLE = Comparison(
    name="user:zoo:net b1 224 px",
    baseline=Side(label="origin/main", spec=Spec(model="user:zoo:net"), commit="a" * 40),
    candidate=Side(
        label="working tree", spec=Spec(model="user:zoo:net", precision="bf16"), commit="b" * 40, dirty=True
    ),
    environment=Environment(device_type="cpu", device_name="Grün & Söhne", threads=1),
    timer="cpu",
    seed=2**31 - 1,
    launches=(turns((1.0, 1.1), (2.0, 2.0), cores=(1,), flags=("noisy_env",)), turns((1e-9, 1e-9))),
)
BROKEN = replace(
    WHOLE, name="broken", failure=Failure(kind="error", stage="build", message="first\nsecond"), failed="candidate"
)


def test_what_goes_in_comes_out() -> None:
    assert [from_json(to_json(one)) for one in (WHOLE, BROKEN)] == [WHOLE, BROKEN]
    assert "\n" not in to_json(BROKEN)


def test_a_file_of_them(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    write(path, [WHOLE, BROKEN])
    assert read(path) == (WHOLE, BROKEN)
    write(path, [BROKEN])
    assert read(path) == (BROKEN,)
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept.jsonl"]


def test_an_empty_file_holds_none(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n\n")
    assert read(tmp_path / "empty") == ()


def test_not_a_number_is_never_written() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        to_json(replace(WHOLE, launches=(turns((1.0, math.nan)),)))


def test_a_writer_that_is_killed_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "kept.jsonl"
    write(path, [WHOLE])

    def killed(one: Comparison) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(comparison, "to_json", killed)
    with pytest.raises(KeyboardInterrupt):
        write(path, [BROKEN])
    assert read(path) == (WHOLE,)


def changed(change: Callable[[dict[str, Any]], object]) -> str:
    data = json.loads(to_json(WHOLE))
    change(data)
    return json.dumps(data)


WRONG: dict[str, str] = {
    "cut off": to_json(WHOLE)[:-20],
    "no JSON": "launch 3/10",
    "a number": "3",
    "a list": "[]",
    "a record": '{"schema":1,"spec":{},"source":"measured"}',
    "of another schema": changed(lambda d: d.update(schema=2)),
    "without its schema": changed(lambda d: d.pop("schema")),
    "an iteration of 1e-300 s": changed(lambda d: d["launches"][0]["rounds"][0].update(baseline=1e-300)),
    "an iteration of 1e300 s": changed(lambda d: d["launches"][0]["rounds"][0].update(candidate_wall=1e300)),
    "without a side": changed(lambda d: d.pop("candidate")),
    "a side that is none": changed(lambda d: d.update(candidate=3)),
    "a side without a spec": changed(lambda d: d["candidate"].pop("spec")),
    "an unknown field": changed(lambda d: d.update(colour="red")),
    "an unknown field of a launch": changed(lambda d: d["launches"][0].update(colour="red")),
    "an unknown clock": changed(lambda d: d.update(timer="sundial")),
    "an unknown precision": changed(lambda d: d["baseline"]["spec"].update(precision="fp3")),
    "an unknown failure": changed(lambda d: d.update(failure={"kind": "bad", "stage": "", "message": ""})),
    "without an environment": changed(lambda d: d.pop("environment")),
    "a launch without rounds": changed(lambda d: d["launches"][0].update(rounds=[])),
    "launches that are none": changed(lambda d: d.update(launches=[3])),
    "a round without its wall": changed(lambda d: d["launches"][0]["rounds"][0].pop("baseline_wall")),
    "zero seconds": changed(lambda d: d["launches"][0]["rounds"][0].update(baseline=0)),
    "less than zero": changed(lambda d: d["launches"][0]["rounds"][0].update(candidate=-1.0)),
    "not a number": changed(lambda d: d["launches"][0]["rounds"][0].update(candidate=math.nan)),
    "infinite": changed(lambda d: d["launches"][0]["rounds"][0].update(candidate_wall=math.inf)),
    "words for seconds": changed(lambda d: d["launches"][0]["rounds"][0].update(baseline="1.0")),
}


@pytest.mark.parametrize("line", WRONG.values(), ids=WRONG)
def test_what_is_no_comparison_is_refused(line: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r".+"):
        from_json(line)
    path = tmp_path / "kept.jsonl"
    path.write_text(f"{to_json(WHOLE)}\n{line}\n")
    with pytest.raises(BenchError, match=r"kept\.jsonl holds no comparisons .*`gate`"):
        read(path)


@pytest.mark.parametrize("bytes_", [b"\xff\xfe", b"PK\x03\x04"])
def test_a_file_of_something_else_is_a_mistake(bytes_: bytes, tmp_path: Path) -> None:
    (tmp_path / "kept.jsonl").write_bytes(bytes_)
    with pytest.raises(BenchError, match="holds no comparisons"):
        read(tmp_path / "kept.jsonl")


def test_a_file_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="no such file"):
        read(tmp_path / "missing.jsonl")
    with pytest.raises(BenchError, match="directory"):
        read(tmp_path)
    with pytest.raises(BenchError, match="name another file"):
        write(tmp_path / "missing" / "kept.jsonl", [WHOLE])


def test_a_clock_that_there_is_not_is_a_mistake() -> None:
    with pytest.raises(BenchError, match="timer"):
        replace(WHOLE, timer="sundial")  # type: ignore[arg-type]


def test_one_number_per_launch_the_median_of_its_rounds() -> None:
    found = replace(WHOLE, launches=(turns((1.0, 1.1), (1.0, 1.2), (1.0, 9.9)), turns((2.0, 1.0))))
    assert log_ratios(found) == pytest.approx((math.log(1.2), -math.log(2)))
    assert wall_log_ratios(found) == pytest.approx((math.log(2.4), 0.0))


def test_an_iterations_seconds_are_a_median_of_medians() -> None:
    found = replace(
        WHOLE, launches=(turns((1.0, 2.0), (3.0, 4.0), (100.0, 100.0)), turns((5.0, 6.0)), turns((4.0, 9.0)))
    )
    assert iteration_seconds(found, "baseline") == 4.0
    assert iteration_seconds(found, "candidate") == 6.0
    assert iteration_seconds(replace(found, launches=()), "baseline") is None


def test_a_flag_is_named_once() -> None:
    found = replace(WHOLE, launches=(turns((1.0, 1.0), flags=("b", "a")), turns((1.0, 1.0), flags=("a", "c"))))
    assert found.flags == ("b", "a", "c")
