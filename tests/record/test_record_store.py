"""The store: what is appended stays, whatever the disk, a second writer or the power do."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from visionbench.record import store
from visionbench.record.errors import BenchError
from visionbench.record.record import SCHEMA, Environment, Failure, Record, to_json
from visionbench.record.spec import SMOKE, Spec
from visionbench.record.store import append, check_writable, newest, read, read_if_there

ROOT = Path(__file__).parents[2]


def _record(batch_size: int = 1, message: str = "größer → 速い", model: str = "timm:convnext_tiny") -> Record:
    return Record(
        spec=Spec(model=model, batch_size=batch_size),
        protocol=SMOKE,
        environment=Environment(device_type="cpu", device_name="a CPU", threads=2),
        failure=Failure(kind="error", stage="build", message=message),
        source="measured",
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "records.jsonl"


def _child(code: str, *arguments: str | Path, **options) -> subprocess.Popen[str]:
    """A Python of its own that knows our packages."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def test_what_is_appended_is_read_in_order(path):
    records = tuple(_record(n) for n in (1, 2, 3, 2))
    for record in records:
        append(path, record)
    assert read(path) == store.Log(records=records)
    assert read(str(path)).records == records
    assert path.read_bytes().count(b"\n") == 4


def test_a_file_that_is_none_of_ours_hides_no_other_unfit_node(tmp_path):
    unfit = replace(_record(), failure=Failure(kind="unfit", stage="cluster", message="it smells of smoke"))
    (tmp_path / "unfit").mkdir()
    (tmp_path / "unfit" / "4.jsonl").write_text("a shopping list\nmilk\n")
    append(tmp_path / "unfit" / "5.jsonl", unfit)
    append(tmp_path / "unfit" / "6.jsonl", _record())
    assert store.read_unfit(tmp_path) == (unfit,)
    assert store.read_unfit(tmp_path / "unfit" / "5.jsonl") == store.read_unfit(tmp_path / "nowhere") == ()


def test_append_has_reached_the_disk_when_it_returns(path, monkeypatch):
    synced: list[bytes] = []
    fsync = os.fsync

    def watched(descriptor):
        fsync(descriptor)
        synced.append(path.read_bytes())

    monkeypatch.setattr(os, "fsync", watched)
    append(path, _record())
    assert synced[:1] == [(to_json(_record()) + "\n").encode()]


def test_newest_is_the_last_of_each_key_in_the_order_of_first_sight():
    one, two, again = _record(1, "old"), _record(2), _record(1, "new")
    assert list(newest([one, two, again]).values()) == [again, two]


def test_text_that_is_no_text_does_not_stop_a_sweep(path):
    # A file name in an exception's message may carry bytes that are no UTF-8: Python shows them as lone surrogates.
    broken = _record(message="cannot open 'gewicht\udce4.pt'")
    append(path, broken)
    append(path, _record(2))
    assert [record.spec.batch_size for record in read(path).records] == [1, 2]
    assert "gewicht" in read(path).records[0].failure.message


# --- torn lines -------------------------------------------------------------------------------------------------------


def _cuts() -> list[int]:
    line = to_json(_record(3)).encode()
    multibyte = line.index("ö".encode()) + 1  # in the middle of a character
    return [1, 10, len(line) // 2, multibyte, len(line) - 1]


@pytest.mark.parametrize("cut", _cuts())
def test_a_torn_last_line_is_reported_and_skipped(path, cut):
    append(path, _record(1))
    append(path, _record(2))
    with path.open("ab") as file:
        file.write(to_json(_record(3)).encode()[:cut])
    log = read(path)
    assert [record.spec.batch_size for record in log.records] == [1, 2]
    [problem] = log.problems
    assert str(path) in problem
    assert "line 3" in problem
    assert "\n" not in problem


@pytest.mark.parametrize("cut", _cuts())
def test_after_a_torn_line_the_next_record_starts_a_line_of_its_own(path, cut):
    append(path, _record(1))
    torn = to_json(_record(2)).encode()[:cut]
    with path.open("ab") as file:
        file.write(torn)
    append(path, _record(3))
    append(path, _record(4))
    log = read(path)
    assert [record.spec.batch_size for record in log.records] == [1, 3, 4]
    assert len(log.problems) == 1
    assert torn in path.read_bytes()  # somebody may still want to look at it


@pytest.mark.parametrize("cut", _cuts())
def test_a_file_that_holds_nothing_but_the_torn_first_line_is_still_ours(path, cut):
    path.write_bytes(to_json(_record()).encode()[:cut])
    log = read(path)
    assert log.records == ()
    assert len(log.problems) == 1


def test_a_whole_last_line_without_its_newline_is_read_and_continued(path):
    path.write_bytes(to_json(_record(1)).encode())
    assert read(path).problems == ()
    append(path, _record(2))
    assert [record.spec.batch_size for record in read(path).records] == [1, 2]
    assert read(path).problems == ()


def test_zeros_that_a_power_cut_left_are_one_torn_line(path):
    append(path, _record(1))
    with path.open("ab") as file:
        file.write(b"\0" * 512)
    append(path, _record(2))
    log = read(path)
    assert [record.spec.batch_size for record in log.records] == [1, 2]
    assert len(log.problems) == 1


def test_empty_lines_and_windows_line_ends_are_no_problems(path):
    path.write_bytes(f"\n{to_json(_record(1))}\r\n\n   \n{to_json(_record(2))}\n".encode())
    log = read(path)
    assert [record.spec.batch_size for record in log.records] == [1, 2]
    assert log.problems == ()


def test_each_bad_line_is_reported_by_its_number_and_the_rest_is_read(path):
    good = to_json(_record(1))
    bad = ['{"schema": 1}', good.replace('"failure"', '"failures"'), good[:-9], "hello", good.replace("cpu", "")[:40]]
    path.write_text("".join(f"{line}\n" for pair in zip([good] * len(bad), bad, strict=True) for line in pair))
    log = read(path)
    assert len(log.records) == len(bad)
    assert [f"line {2 * n}" in problem for n, problem in enumerate(log.problems, start=1)] == [True] * len(bad)


# --- two writers ------------------------------------------------------------------------------------------------------

WRITER = """
import sys
from visionbench.record.record import Environment, Failure, Record
from visionbench.record.spec import Spec
from visionbench.record.store import append
path, name, count, length = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
print("ready", flush=True)
sys.stdin.readline()
for number in range(1, count + 1):
    failure = Failure(kind="error", stage=name, message="ü" * length)
    spec = Spec(model="timm:" + name, batch_size=number)
    append(path, Record(spec=spec, protocol=None, environment=Environment(device_type="cpu"), failure=failure,
                        source="measured"))
"""


def test_two_processes_may_append_to_one_file(path):
    count, length = 200, 10_000
    writers = [_child(WRITER, path, name, str(count), str(length)) for name in ("left", "right")]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n", writer.communicate()[1]
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        _, told = writer.communicate(timeout=120)
        assert writer.returncode == 0, told
    log = read(path)
    assert log.problems == ()
    assert len(log.records) == 2 * count
    for name in ("left", "right"):
        mine = [record for record in log.records if record.failure.stage == name]
        assert [record.spec.batch_size for record in mine] == list(range(1, count + 1))
        assert all(record.failure.message == "ü" * length for record in mine)


def test_append_waits_for_another_writers_lock(path):
    append(path, _record(1))
    before = path.read_bytes()
    writer = threading.Thread(target=append, args=(path, _record(2)), daemon=True)
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        writer.start()
        writer.join(0.2)
        assert writer.is_alive()
        assert path.read_bytes() == before
    writer.join(10)
    assert not writer.is_alive()
    assert [record.spec.batch_size for record in read(path).records] == [1, 2]


def test_a_lock_is_given_back_after_a_failure(path, monkeypatch):
    append(path, _record(1))
    with monkeypatch.context() as broken:
        broken.setattr(os, "write", _no_space_after(7))
        with pytest.raises(BenchError):
            append(path, _record(2))
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


# --- what cannot be read ----------------------------------------------------------------------------------------------


def _sentence(caught: pytest.ExceptionInfo[BenchError]) -> str:
    told = str(caught.value)
    assert "\n" not in told
    return told


def test_a_directory_is_no_records_file(tmp_path):
    for use in (read, read_if_there, check_writable, lambda path: append(path, _record())):
        with pytest.raises(BenchError) as caught:
            use(tmp_path)
        assert str(tmp_path) in _sentence(caught)
        assert "is a directory" in _sentence(caught)


def test_a_missing_file_is_an_error_unless_one_may_be_missing(path):
    with pytest.raises(BenchError) as caught:
        read(path)
    assert str(path) in _sentence(caught)
    assert "no such file" in _sentence(caught)
    assert read_if_there(path) == store.Log(records=())
    assert not path.exists()


def test_a_dangling_link_is_not_an_empty_file(path):
    path.symlink_to(path.parent / "gone")
    with pytest.raises(BenchError, match="no such file"):
        read_if_there(path)


def test_an_empty_file_is_a_file_without_records(path):
    path.touch()
    assert read(path) == store.Log(records=())


@pytest.mark.parametrize(
    "content",
    [
        b"hello\n",
        b"hello",
        b"model,params\nresnet50,25.6\n",
        b'{"a": 1}\n',
        b'{"spec": {}}\n',
        b"[1, 2]\n",
        b"\x89PNG\r\n\x1a\n\x00\xff\xfe",
        b"\0" * 64,
        b'{\n  "schema": 1\n}\n',
    ],
)
def test_a_file_that_is_not_ours_is_one_sentence_and_left_alone(path, content):
    path.write_bytes(content)
    with pytest.raises(BenchError) as caught:
        read(path)
    assert str(path) in _sentence(caught)
    assert "not a visionbench records file" in _sentence(caught)
    assert path.read_bytes() == content


def test_a_newer_schema_stops_the_reading_in_one_sentence(path):
    append(path, _record(1))
    with path.open("a") as file:
        file.write(to_json(replace(_record(2), schema=SCHEMA + 6)) + "\n")
    with pytest.raises(BenchError) as caught:
        read(path)
    told = _sentence(caught)
    for word in (str(path), "line 2", f"schema {SCHEMA + 6}", f"up to {SCHEMA}", "upgrade"):
        assert word in told


# --- what cannot be written -------------------------------------------------------------------------------------------


def _no_space_after(count: int):
    """An `os.write` on a disk with room for `count` bytes."""
    left = [count]
    write = os.write

    def full(descriptor, data):
        if not left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = write(descriptor, data[: left[0]])
        left[0] -= written
        return written

    return full


@pytest.mark.parametrize("torn", [b"", b'{"spec":{"mo'])
@pytest.mark.parametrize("room", [0, 1, 100])
def test_a_full_disk_loses_nothing_and_leaves_no_half_line(path, monkeypatch, room, torn):
    append(path, _record(1))
    with path.open("ab") as file:
        file.write(torn)
    before = path.read_bytes()
    with monkeypatch.context() as full:
        full.setattr(os, "write", _no_space_after(room))
        with pytest.raises(BenchError) as caught:
            append(path, _record(2))
    told = _sentence(caught)
    for word in (str(path), "no space left", "free some space"):
        assert word in told
    assert path.read_bytes() == before
    append(path, _record(3))
    assert [record.spec.batch_size for record in read(path).records] == [1, 3]


def test_a_disk_that_writes_little_at_a_time_still_gets_the_whole_line(path, monkeypatch):
    write = os.write
    with monkeypatch.context() as slow:
        slow.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:100]))
        append(path, _record(1))
    assert read(path) == store.Log(records=(_record(1),))


LIMITED = """
import resource, sys
from visionbench.record.errors import BenchError
from visionbench.record.record import from_json
from visionbench.record.store import append
path, (first, second) = sys.argv[1], map(from_json, sys.argv[2:4])
append(path, first)
size = len(open(path, "rb").read())
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, resource.RLIM_INFINITY))
try:
    append(path, second)
except BenchError as error:
    print(error)
assert len(open(path, "rb").read()) == size, "a half line was left"
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
append(path, second)
"""


def test_the_kernel_cutting_a_write_short_leaves_no_half_line(path):
    child = _child(LIMITED, path, to_json(_record(1)), to_json(_record(2)))
    told, trouble = child.communicate(timeout=60)
    assert child.returncode == 0, trouble
    assert "cannot write records" in told
    assert "file too large" in told
    assert [record.spec.batch_size for record in read(path).records] == [1, 2]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_dev_full_is_called_full():
    with pytest.raises(BenchError) as caught:
        append("/dev/full", _record())
    assert "no space left" in _sentence(caught)
    assert "free some space" in _sentence(caught)


def test_a_folder_that_is_not_there_is_told_before_anything_is_measured(tmp_path):
    path = tmp_path / "no" / "such.jsonl"
    for use in (check_writable, lambda path: append(path, _record())):
        with pytest.raises(BenchError) as caught:
            use(path)
        assert "no such file or directory" in _sentence(caught)
        assert "--records" in _sentence(caught)


def test_check_writable_leaves_no_file_where_none_was(path):
    check_writable(path)
    assert not list(path.parent.iterdir())


def test_check_writable_changes_nothing_that_is_there(path):
    append(path, _record())
    before = path.read_bytes()
    check_writable(path)
    assert path.read_bytes() == before


# A child, so that it can stop being root: to root no file is read-only.
POWERLESS = """
import os, sys
from visionbench.record.errors import BenchError
from visionbench.record.record import from_json
from visionbench.record.store import append, check_writable, read
path, record = sys.argv[1], from_json(sys.argv[2])
if os.geteuid() == 0:
    try:
        os.setegid(65534)
        os.seteuid(65534)
    except OSError:
        sys.exit(77)
    if os.access(path, os.W_OK, effective_ids=True):
        sys.exit(77)
for use in (read, check_writable, lambda path: append(path, record)):
    try:
        use(path)
        print("done")
    except BenchError as error:
        print(error)
"""


@pytest.mark.parametrize(("mode", "read_works"), [(0o444, True), (0o000, False)], ids=["read-only", "unreadable"])
def test_a_file_without_permission_is_one_sentence_and_unharmed(mode, read_works):
    with tempfile.TemporaryDirectory() as folder:  # not tmp_path: that one is closed to everybody else
        Path(folder).chmod(0o755)
        path = Path(folder) / "records.jsonl"
        append(path, _record(1))
        path.chmod(mode)
        child = _child(POWERLESS, path, to_json(_record(2)))
        told, trouble = child.communicate(timeout=60)
        if child.returncode == 77:
            pytest.skip("root, and it cannot stop being root here")
        assert child.returncode == 0, trouble
        path.chmod(0o644)
        assert read(path).records == (_record(1),)
    reading, checking, appending = told.splitlines()
    assert (reading == "done") == read_works
    for sentence in [checking, appending] if read_works else [reading, checking, appending]:
        assert str(path) in sentence
        assert "permission denied" in sentence
        assert "name another file" in sentence


@pytest.mark.parametrize("text", ["model,infer_img_size\nresnet18,224\nvit,", "a;b\n1;2\n", "\n\nnot json\n{}\n"])
def test_a_foreign_file_is_refused_with_the_line_that_says_so(tmp_path: Path, text: str) -> None:
    path = tmp_path / "results.csv"
    path.write_text(text)
    first = next(number for number, line in enumerate(text.split("\n"), start=1) if line)
    with pytest.raises(BenchError, match=rf"results\.csv is not a visionbench records file: .*; line {first} \("):
        read(path)


KILLS = int(os.environ.get("VISIONBENCH_KILLS", "20"))
"""How many writers are killed. VISIONBENCH_KILLS=1000 takes a minute."""


def _write_until_killed(path: Path, writer: int, acknowledged: int) -> None:
    number = 0
    while True:
        append(path, _record(number + 1, message=f"{writer}"))
        number += 1
        os.write(acknowledged, f"{writer} {number}\n".encode())  # shorter than a pipe's page: whole or not at all


def _killed_soon(path: Path, writer: int, acknowledged: int, rng: random.Random) -> int:
    """The process number of a writer, which ends with a SIGKILL within a twentieth of a second."""
    pid = os.fork()
    if pid == 0:
        try:
            _write_until_killed(path, writer, acknowledged)
        finally:
            os._exit(1)
    threading.Timer(rng.uniform(0.002, 0.05), os.kill, (pid, signal.SIGKILL)).start()
    return pid


def test_four_writers_that_are_killed_lose_nothing_that_was_acknowledged(path: Path, tmp_path: Path) -> None:
    rng = random.Random(15)
    log = tmp_path / "acknowledged"
    acknowledged = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for first in range(0, KILLS, 4):
        pids = [_killed_soon(path, writer, acknowledged, rng) for writer in range(first, min(first + 4, KILLS))]
        assert all(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL for pid in pids)
    os.close(acknowledged)
    kept = {
        (record.failure.message, record.spec.batch_size) for record in read_if_there(path).records if record.failure
    }
    promised = {tuple(line.split()) for line in log.read_text().splitlines()}
    assert promised
    assert {(writer, int(number)) for writer, number in promised} <= kept
    print(f"{KILLS} kills, {len(promised)} records acknowledged, {len(kept)} kept, 0 lost")


def test_a_verbs_own_file_need_not_be_there(tmp_path: Path) -> None:
    """`effects` measures turns, and prints them beside records that nothing may have written."""
    from visionbench.command import inputs

    assert inputs.read_kept(tmp_path / "none.jsonl") == inputs.with_committed([])
