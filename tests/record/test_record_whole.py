"""A file is written whole or keeps what was in it, whatever its name leads to."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from visionbench.command import ci, output
from visionbench.command.requests import ForCI, Output
from visionbench.comparison.verdict import Judgement, Rule
from visionbench.record import files
from visionbench.record.errors import BenchError

SHIPPED = Path(__file__).parents[2]
NOWHERE = Output(file=Path("/dev/null"))


@contextmanager
def short_of_room(size: int = 1000) -> Iterator[None]:
    """No file may become longer: a disk that fills up while it is written to."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def refuse(*_: object, **__: object) -> None:
    raise OSError(errno.EACCES, os.strerror(errno.EACCES))


@pytest.fixture(params=["beside", "in place", "link"])
def old(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with something in it: one that can be replaced, one that cannot, and one that a link leads to."""
    path = tmp_path / "old.txt"
    path.write_text("kept")
    path.chmod(0o640)
    if request.param == "in place":
        monkeypatch.setattr(Path, "replace", refuse)
    if request.param == "link":
        path = tmp_path / "folder" / "link.txt"
        path.parent.mkdir()
        path.symlink_to(Path("..") / "old.txt")
    return path


def test_what_is_written_takes_the_place_of_the_old(old: Path) -> None:
    for text in ("longer than before", "x", "\ud800"):
        files.write_whole(old, text)
        assert old.read_text("utf-8") == text.encode(errors="backslashreplace").decode()
    assert old.stat().st_mode & 0o777 == 0o640
    assert old.is_symlink() == (old.name == "link.txt")
    assert sorted(file.name for file in old.resolve().parent.iterdir() if file.is_file()) == ["old.txt"]


@pytest.mark.parametrize(
    "write",
    [
        lambda path, text: output.write(path, text.encode()),
        lambda path, text: ci.show(Judgement(title=text, rule=Rule(), cut=text), NOWHERE, ForCI(junit=path)),
        lambda path, text: files.write_whole(path, text),
    ],
)
def test_a_disk_that_fills_up_keeps_the_old(old: Path, write) -> None:
    with short_of_room(), pytest.raises(BenchError, match=r"cannot write .*(too large|no space).*name another file"):
        write(old, "x" * 5000)
    assert old.read_text() == "kept"
    assert not list(old.resolve().parent.glob(".*.part"))


def test_a_ctrl_c_keeps_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "old.txt"
    path.write_text("kept")
    monkeypatch.setattr(files.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        files.write_whole(path, "new")
    assert path.read_text() == "kept"
    assert list(tmp_path.iterdir()) == [path]


def test_a_pipe_gets_what_is_written(tmp_path: Path) -> None:
    path, got = tmp_path / "pipe", []
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: got.append(path.read_bytes()), daemon=True)
    reader.start()
    files.write_whole(path, "x" * 100_000)
    reader.join(30)
    assert got == [b"x" * 100_000]
    assert path.is_fifo()


def test_links_in_a_circle_and_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    for path, why in ((tmp_path / "a", "symbolic links"), (tmp_path, "directory")):
        with pytest.raises(BenchError, match=why):
            files.write_whole(path, "x")
    assert (tmp_path / "a").is_symlink()


def test_a_link_to_nothing_leads_to_the_new_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("new")
    files.write_whole(tmp_path / "link", "x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "new").read_text() == "x"


@pytest.mark.parametrize("mode", ["a pipe", "w", "a"])
@pytest.mark.parametrize("name", ["/dev/stdout", "out.txt"])
def test_to_a_stream_is_added_what_is_written(tmp_path: Path, mode: str, name: str) -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(SHIPPED)!r}); from pathlib import Path; "
        "from visionbench.record.files import write_whole; "
        f"print('first'); write_whole(Path({name!r}), 'second\\n'); print('third')"
    )
    path = tmp_path / "out.txt"
    with path.open("w" if mode == "a pipe" else mode) as file:
        print("before", file=file, flush=True)
        where = subprocess.PIPE if mode == "a pipe" and name != path.name else file
        done = subprocess.run([sys.executable, "-c", program], stdout=where, cwd=tmp_path, check=True)
        print("after", file=file)
    between = "" if done.stdout else "first\nsecond\nthird\n"
    assert path.read_text() == f"before\n{between}after\n"
    assert done.stdout in (None, b"first\nsecond\nthird\n")


def test_what_cannot_be_written_later_is_said_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (tmp_path / "new.txt", Path("/dev/null"), tmp_path / "old.txt"):
        files.check_room(path)
    (tmp_path / "old.txt").write_text("kept")
    files.check_room(tmp_path / "old.txt")
    for path, why in (
        (tmp_path, "directory"),
        (tmp_path / "nowhere" / "x", "no such"),
        (tmp_path / ("n" * 300), "long"),
    ):
        with pytest.raises(BenchError, match=why):
            files.check_room(path)
    with short_of_room(100), pytest.raises(BenchError, match="too large"):
        files.check_room(tmp_path / "new.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["old.txt"]
    monkeypatch.setattr(Path, "open", refuse)  # a folder that cannot be written
    files.check_room(tmp_path / "old.txt")
    with pytest.raises(BenchError, match="denied"):
        files.check_room(tmp_path / "new.txt")
