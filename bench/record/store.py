"""Records on disk: JSON Lines, one record a line, appended, never rewritten.

A sweep of hours must survive a power cut, a full disk, a second sweep beside it and a kill at any moment. So a line is
written in one locked append and flushed to the disk before `append` returns; a write that fails half-way is cut off
again; and a line that was torn all the same (the power went) is reported and skipped, the rest is read.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from visionbench.record import plausible
from visionbench.record.collector import collector_paused
from visionbench.record.errors import BenchError
from visionbench.record.files import ROOM, is_device, opened, other_than_text, reason, sync_folder
from visionbench.record.record import NewerSchemaError, Record, from_json, is_unfit, to_json

HEAD = b'{"spec":'
"""How every line that we write begins: a file with nothing but the start of one is our own torn file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """What a records file held: its records in order, and one sentence for each line that could not be read."""

    records: tuple[Record, ...]
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which file a path led to after a write, and how long that file was in bytes."""

    device: int
    inode: int
    size: int


def append(path: Path | str, record: Record) -> Place:
    """Append one record; when this returns, it is on the disk. Returns the place, for `changed`.

    The file is locked while it is written, so two sweeps may share it. Raises `BenchError` if the file cannot be
    written (nothing that was in it is lost, and no half line is left behind).
    """
    line = (to_json(record) + "\n").encode(errors="backslashreplace")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            before = os.fstat(descriptor)
            end = _write_whole(descriptor, line)
            if not before.st_size:
                sync_folder(Path(path))
            # Not the size that it has now: who cuts the file off while it goes to the disk heeds no lock.
            return Place(device=before.st_dev, inode=before.st_ino, size=end)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _cannot("write", path, error) from error


def changed(path: Path | str, before: Place) -> str:
    """What another process did to the file since `before`, as a clause; "" where it only grew."""
    try:
        now = Path(path).stat()
    except OSError:
        return "was removed or renamed"
    if (now.st_dev, now.st_ino) != (before.device, before.inode):
        return "was replaced by another file"
    return "was cut off" if now.st_size < before.size else ""


def _write_whole(descriptor: int, line: bytes) -> int:
    """Write `line` as one line, completely or not at all; the file's length then, in bytes."""
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        line = b"\n" + line  # somebody's torn line stands there: leave it to be reported, start afresh
    written = 0
    try:
        while written < len(line):
            written += os.write(descriptor, line[written:])
        os.fsync(descriptor)
    except OSError:
        with suppress(OSError):  # a device has no end to cut; the cause is the error above
            os.ftruncate(descriptor, size)
        raise
    return size + len(line)


def check_writable(path: Path | str, option: str = "--records") -> None:
    """Raise `BenchError` now if records could not be appended to `path` later, after an hour of measuring.

    `option` is the one that names the file. A file that is not there is tried with another beside it, so that a
    command which ends before its first launch leaves nothing behind.
    """
    _refuse_devices(path)
    trial = "" if os.path.lexists(path) else f"{os.fspath(path)}.{os.getpid()}"
    try:
        descriptor = os.open(trial or path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # some file systems have no locks, some disks no room
            if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "it is a pipe, which keeps nothing", str(path))
            _try_room(descriptor)
        finally:
            os.close(descriptor)
            if trial:
                Path(trial).unlink()
    except OSError as error:
        raise _cannot("write", path, error, option) from error


def _try_room(descriptor: int) -> None:
    """Write what is cut off again: a disk that is full from the start is found out before an hour of measuring."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return
    size = os.fstat(descriptor).st_size
    try:
        if os.write(descriptor, b"\n" * ROOM) < ROOM:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.ftruncate(descriptor, size)


def read(path: Path | str) -> Log:
    """All records of a file, in file order, or of every `*.jsonl` of a folder, in the order of their names.

    Of a cluster's folder these are the files in `records/`; in another folder a file without a record is a problem.
    Raises `BenchError` for a folder without records, an unreadable or missing file, a file that is not ours, or a
    newer schema.
    """
    is_folder = False
    with suppress(OSError):  # what may not be looked at is read as a file, and refused as that
        is_folder = Path(path).is_dir()
    with collector_paused():  # records hold no circles, and a collection looks at all that were read so far
        return _read_folder(Path(path)) if is_folder else _read_file(path)


def _read_folder(folder: Path) -> Log:
    inside = folder / "records"
    chosen = inside if (folder / "request.json").exists() and inside.is_dir() else folder
    try:
        files = sorted(path for path in chosen.glob("*.jsonl") if not path.is_dir())
    except OSError as error:
        raise _cannot("read", folder, error) from error
    if not files:
        raise BenchError(f"{chosen} is a directory without records (*.jsonl): name another one, or a file.")
    records: list[Record] = []
    problems: list[str] = []
    for file in files:
        try:
            log = _read_file(file)
        except NewerSchemaError:
            raise
        except BenchError as error:
            problems.append(str(error))
            continue
        records += log.records
        problems += log.problems
    return Log(records=tuple(records), problems=tuple(problems))


def read_unfit(folder: Path | str) -> tuple[Record, ...]:
    """What jobs of a cluster's folder wrote of nodes on which nothing may be measured: a failed record for each.

    They are no launches, so `read` leaves them out; a report names the nodes. () for a file or another folder.
    """
    records: list[Record] = []
    for file in sorted((Path(folder) / "unfit").glob("*.jsonl")):
        with suppress(OSError, BenchError):  # what is no record of ours says nothing of a node
            records += filter(is_unfit, _read_file(file).records)
    return tuple(records)


def _read_file(path: Path | str) -> Log:
    _refuse_devices(path)
    records: list[Record] = []
    problems: list[str] = []
    number, line, first = 0, b"", b""
    try:
        with opened(Path(path)) as lines:  # line by line: a file may be larger than memory, its records are smaller
            for number, line in enumerate(lines, start=1):
                first = first or line
                _read_line(f"{path}, line {number}", line, records, problems)
    except OSError as error:
        raise _cannot("read", path, error) from error
    torn = number == 1 and not line.endswith(b"\n") and (line.startswith(HEAD) or HEAD.startswith(line))
    if problems and not records and not torn:
        count = len(problems)
        none = "its only line is not" if count == 1 else f"none of its {count} lines is"
        why = problems[0].removeprefix(f"{path}, ").replace(" is torn or no record, skipped", "")
        try:
            first.decode()
        except UnicodeDecodeError:
            why = other_than_text(first)
        if other := _other_kind(first):
            raise BenchError(f"{path} is not a visionbench records file: {other}.")
        raise BenchError(f"{path} is not a visionbench records file: {none} a record; {why}: name another file.")
    return Log(records=tuple(records), problems=tuple(problems))


_OTHERS = {
    b'"candidate":': "it holds comparisons; `gate --rejudge` judges them, `report effects --comparisons` prints them",
    b'"benchmarks":': "it is pytest-benchmark's; `compare` reads two of them",
    b'"profiles":': "it is a noise profile; `selftest --show --profile` prints it",
}
"""What tells another file of this house, or near it, from one of records."""


def _other_kind(first: bytes) -> str:
    """What a file without a record is, from its first line, as a clause; "" where that does not tell."""
    if first.strip() == b"{" or first.lstrip().startswith(b"["):
        return "it is one JSON text over several lines or a list; a record is an object on one line"
    return next((what for mark, what in _OTHERS.items() if mark in first), "")


def _read_line(place: str, line: bytes, records: list[Record], problems: list[str]) -> None:
    """Add a line's record, or a sentence about what is wrong with it. Raises `BenchError` for a newer schema."""
    text = line.removeprefix(b"\xef\xbb\xbf")  # a mark of the byte order, which some editors write
    if not text.strip():
        return
    try:
        record = from_json(text)
        plausible.check(record)
        records.append(record)
    except NewerSchemaError as error:
        raise BenchError(f"{place}: {error}") from error
    except ValueError as error:
        reason = str(error).split("\n")[0][:160].rstrip(".") or type(error).__name__
        problems.append(f"{place} is torn or no record, skipped ({reason})")


def read_if_there(path: Path | str) -> Log:
    """As `read`, but a file that does not exist yet is empty."""
    return read(path) if os.path.lexists(path) else Log(records=())


def newest(records: Iterable[Record]) -> dict[object, Record]:
    """The last record of each key, in order of the keys' first appearance."""
    return {record.key: record for record in records}


def _refuse_devices(path: Path | str) -> None:
    """`/dev/zero` can be read for ever."""
    if is_device(Path(path)):
        raise BenchError(f"{path} is a device, not a file of records: name another file.")


def _cannot(verb: str, path: Path | str, error: OSError, option: str = "--records") -> BenchError:
    if verb == "read":
        return BenchError(f"cannot read records at {path} ({reason(error)}): name another file.")
    remedy = "free some space" if error.errno == errno.ENOSPC else f"name another file with {option}"
    return BenchError(f"cannot {verb} records at {path} ({reason(error)}): {remedy}. Nothing already recorded is lost.")
