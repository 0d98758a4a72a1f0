"""One door for files: every wrong input ends in one sentence, and what is written is whole or not there."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from visionbench.comparison import comparison, noise_profile, structure
from visionbench.comparison.fold_names import count_of, unfold
from visionbench.predicting import calibration
from visionbench.record import files, pytest_benchmark, store
from visionbench.record.errors import BenchError
from visionbench.record.record import Environment

SHIPPED = Path(__file__).parents[2]
COMPARISON = next((SHIPPED / "reports" / "records" / "comparisons").glob("*.jsonl")).read_text("utf-8").splitlines()[0]
PROFILE = (SHIPPED / "reports" / "records" / "noise_profile.json").read_text("utf-8")
CALIBRATION = sorted(calibration.FOLDER.glob("*.json"))[0].read_text("utf-8")
RECORD = (SHIPPED / "reports" / "records" / "computed.jsonl").read_text("utf-8").splitlines()[0]
STRUCTURE = structure.to_text(
    structure.Structures(
        torch="2.14",
        timm="1.0.31",
        rows={
            "timm:a@8 inference b1 fp32": structure.Structure(
                row="timm:a@8 inference b1 fp32",
                totals={"operators": 1},
                layers={"a": structure.Layer(operators={"aten.add": 1})},
            )
        },
    )
)

READERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "records": (store.read, RECORD),
    "comparisons": (comparison.read, COMPARISON),
    "noise profile": (noise_profile.read, PROFILE),
    "structure": (structure.read, STRUCTURE),
    "calibration": (calibration.read, CALIBRATION),
}

WRONG = {
    "nested brackets": "[" * 100_000,
    "nested objects": '{"schema":' * 100_000,
    "a torn line": '{"schema": 1, "rows": {"a',
    "a list": "[1, 2]",
    "a null": "null",
    "a lone surrogate": '"\\ud800"',
    "a number that is none": '{"schema": NaN}',
    "a number that is too large": '{"schema": 1e999}',
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG.keys())
@pytest.mark.parametrize(("read", "right"), READERS.values(), ids=READERS.keys())
def test_a_wrong_file_is_one_sentence(read: Callable[[Path], object], right: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text(right, encoding="utf-8")
    assert read(path)
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BenchError) as caught:
        read(path)
    assert "file.json" in str(caught.value)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("read", "right"), READERS.values(), ids=READERS.keys())
def test_what_an_editor_or_a_shell_adds_is_no_fault(read: Callable[[Path], object], right: str, tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text(right, encoding="utf-8")
    asked = read(path)
    for data in (b"\xef\xbb\xbf" + right.encode(), right.replace("\n", "\r\n").encode(), right.encode() + b"\n\n"):
        path.write_bytes(data)
        assert read(path) == asked
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=[right], daemon=True)
    writer.start()
    assert read(pipe) == asked
    writer.join(10)


OTHER_FILES = {
    "compressed": (gzip.compress(b"{}"), "unpack it first"),
    "UTF-16": ("{}".encode("utf-16"), "UTF-16"),
    "Latin-1": ('"é"'.encode("latin-1"), "no text in UTF-8"),
    "a pipe": (None, "no program writes to"),
    "a folder": (None, "directory"),
    "a link to itself": (None, "symbolic links"),
    "a long name": (None, "name too long|no baseline"),
}


@pytest.mark.parametrize("kind", OTHER_FILES)
@pytest.mark.parametrize(("read", "right"), READERS.values(), ids=READERS.keys())
def test_what_is_no_file_of_text_is_called_that(
    read: Callable[[Path], object], right: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "PIPE_SECONDS", 0.02)
    path = tmp_path / ("n" * 300 if kind == "a long name" else "file.json")
    content, why = OTHER_FILES[kind]
    if content is not None:
        path.write_bytes(content)
    elif kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a folder":
        path.mkdir()
    elif kind == "a link to itself":
        path.symlink_to(path.name)
    if kind == "a long name" and read is noise_profile.read:
        assert read(path) == ()  # there is none
        return
    with pytest.raises(BenchError, match=why) as caught:
        read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["noise profile", "structure", "calibration"])
def test_a_name_that_stands_twice_is_refused(name: str, tmp_path: Path) -> None:
    read, right = READERS[name]
    path = tmp_path / "file.json"
    for key in ("schema", max(json.loads(right))):
        path.write_text(right.replace(f'"{key}":', f'"{key}": 0, "{key}":', 1))
        with pytest.raises(BenchError, match="stands in it twice"):
            read(path)


def test_records_are_read_from_a_pipe_and_none_are_written_to_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "PIPE_SECONDS", 0.02)
    lines = (SHIPPED / "reports" / "records" / "computed.jsonl").read_bytes().splitlines(keepends=True)[:3]
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(BenchError, match="no program writes to"):
        store.read(pipe)
    with pytest.raises(BenchError, match="a pipe, which keeps nothing"):
        store.check_writable(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=[b"".join(lines)], daemon=True)
    writer.start()
    assert len(store.read(pipe).records) == 3
    writer.join(10)
    words = f"zcat | {sys.executable} {SHIPPED / 'bench.py'} export /dev/stdin --format csv"
    done = subprocess.run(["bash", "-c", words], input=gzip.compress(b"".join(lines)), capture_output=True, check=True)
    assert len(done.stdout.splitlines()) >= 4


def _changed(text: str, path: tuple[str | int, ...], value: object) -> str:
    data = json.loads(text)
    place = data
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return json.dumps(data)


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        ("comparisons", ("launches", 0, "flags"), [["throttled"]]),
        ("comparisons", ("launches", 0, "rounds", 0, "baseline"), 10**400),
        ("comparisons", ("launches", 0, "rounds", 0, "baseline"), 0),
        ("comparisons", ("launches", 0, "rounds"), []),
        ("comparisons", ("baseline", "spec", "model"), ["a"]),
        ("comparisons", ("seed",), 1.5),
        ("comparisons", ("humidity",), 0.4),
        ("comparisons", ("environment", "humidity"), 0.4),
        ("noise profile", ("profiles", 0, "findings", 0, "same"), None),
        ("noise profile", ("profiles", 0, "findings", 0, "condition"), "bored"),
        ("noise profile", ("profiles", 0, "rule", "humidity"), 0.4),
        ("noise profile", ("profiles", 0, "date"), "yesterday"),
        ("noise profile", ("profiles",), None),
        ("structure", ("rows", "timm:a@8 inference b1 fp32", "layers", "a", "macs"), "1"),
        ("structure", ("rows", "timm:a@8 inference b1 fp32", "layers", "a", "humidity"), 1),
        ("structure", ("rows", "timm:a@8 inference b1 fp32", "totals", "operators"), 1.5),
        ("structure", ("torch",), 2.14),
        ("calibration", ("rows",), "many"),
        ("calibration", ("multipliers",), {"launch": 10**400}),
        ("calibration", ("humidity",), 0.4),
        ("calibration", ("batches",), [1]),
    ],
)
def test_a_wrong_field_is_refused(name: str, path: tuple[str | int, ...], value: object, tmp_path: Path) -> None:
    read, right = READERS[name]
    file = tmp_path / "file.json"
    file.write_text(_changed(right, path, value), encoding="utf-8")
    with pytest.raises(BenchError, match=r"file\.json"):
        read(file)


def test_the_sentence_names_file_line_and_place(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text(f"{COMPARISON}\n{_changed(COMPARISON, ('environment', 'threads'), 'two')}\n", encoding="utf-8")
    with pytest.raises(BenchError, match=r"c\.jsonl holds no comparisons \(line 2: .*`\$\.environment\.threads`"):
        comparison.read(path)


def test_a_few_bytes_do_not_become_millions_of_layers() -> None:
    assert count_of("a.{0..99999}.{0..99999}") == 10**10
    assert count_of("blocks.{0..2,4}.norm") == len(unfold("blocks.{0..2,4}.norm")) == 4
    text = _changed(STRUCTURE, ("rows", "timm:a@8 inference b1 fp32", "layers"), {"a.{0..99999}.{0..99999}": {}})
    with pytest.raises(ValueError, match="more than 1,000,000 layers"):
        structure.from_text(text)


@pytest.mark.parametrize(
    "patterns",
    [
        ["{0..99999}.{0..99999}"],
        ["{0..99999}.{0..9}", "{9..0}.{0..99999}"],
        ["a" * 1_000 + "{0..99999}"],
        [f"{name}.{{0..99999}}" for name in "abcdefghijk"],
        ["{5..4}"],
    ],
)
def test_layers_that_explode_are_refused_before_memory_is_taken(patterns: list[str]) -> None:
    data = json.loads(STRUCTURE)
    (row,) = data["rows"].values()
    row["layers"] = {key: {} for key in patterns}
    with pytest.raises(ValueError, match="layers"):
        structure.from_text(json.dumps(data))


def test_a_huge_time_of_pytest_benchmark_is_no_time(tmp_path: Path) -> None:
    path = tmp_path / "saved.json"
    stats = {"median": 10**400, "q1": 1.0, "q3": 1.0, "rounds": 3}
    path.write_text(json.dumps({"machine_info": {}, "benchmarks": [{"fullname": "a", "stats": stats}]}), "utf-8")
    with pytest.raises(BenchError, match=r"saved\.json is a broken file"):
        pytest_benchmark.read(path)


def test_a_typed_value_is_the_dataclass_that_was_written() -> None:
    environment = Environment(device_type="cpu", cores=4, power_limit=3.0)
    assert files.typed(asdict(environment), Environment, "machine") == environment
    with pytest.raises(ValueError, match="unknown field in a machine: a, b"):
        files.typed({"device_type": "cpu", "b": 1, "a": 2}, Environment, "machine")


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "kept.json"
    files.write_whole(path, "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(BenchError, match=r"kept\.json \(no space left on device\): name another file"):
        files.write_whole(path, "new")
    assert path.read_text("utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_folders_are_made_only_where_asked(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="cannot write"):
        files.write_whole(tmp_path / "a" / "b.json", "x")
    files.write_whole(tmp_path / "a" / "b.json", "x", folders=True)
    assert (tmp_path / "a" / "b.json").read_text("utf-8") == "x"


def test_a_toml_file_that_is_nested_too_deeply_is_one_sentence(tmp_path: Path) -> None:
    from visionbench.judging import virtualenvs, worktrees
    from visionbench.predicting.targets import from_toml
    from visionbench.reports.paper.toml import read_toml

    for number, text in enumerate(("a = " + "[" * 9999, "a = " + "{b=" * 9999, "a = [" + "[1]," * 9)):
        path = tmp_path / str(number) / "pyproject.toml"
        path.parent.mkdir()
        path.write_text(text)
        for read in (from_toml, read_toml):
            with pytest.raises(BenchError, match="is no TOML"):
                read(path)
        assert virtualenvs._is_package(path.parent)
        assert worktrees._dependencies(path) == text.encode()


@pytest.mark.parametrize(
    "text",
    [
        "a = 0x" + "F" * 6000,
        "a = " + "9" * 3000,
        "a = 9223372036854775808",
        "a." * 60_000 + "a = 1",
        "[" + "a . " * 200 + "a]",
        "a = " + "[" * 3000 + "]" * 3000,
        "a = " + "[" * 150 + "]" * 150,
        "a = " + "{b = " * 150 + "1" + "}" * 150,
    ],
)
def test_toml_that_nobody_can_walk_through_or_print_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"deep|too large|digits"):
        files.toml_of(text)


def test_toml_as_people_write_it_is_read() -> None:
    text = 'title = "a.b.c"\n[[table]]\nx = [1.5, 2, [3]]\nwords = """' + "a.b " * 5000 + '"""\n'
    data = files.toml_of(text, parse_float=str)
    assert data["table"][0]["x"] == ["1.5", 2, [3]]
    assert files.toml_of("a = 0x7fffffffffffffff")["a"] == 2**63 - 1


def test_a_device_is_read_by_no_reader(tmp_path: Path) -> None:
    link = tmp_path / "zero"
    link.symlink_to("/dev/zero")
    with pytest.raises(OSError, match="it is a device"):
        files.text_of(link)
    assert not files.is_device(tmp_path)
    assert not files.is_device(tmp_path / "nothing")
