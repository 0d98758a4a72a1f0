"""One door for every file: text becomes typed data or one sentence, and a file is written whole or not at all.

`msgspec` turns JSON into the frozen dataclasses of this house and refuses a wrong type with its path
(`$.environment.threads`). Three things are added here: an unknown field is an error (it may change what a number
means), a whole number has at most 63 bits (a measured value is one that a float can hold), and no input ends in a
traceback.
"""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import re
import select
import stat
import sys
import types
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import is_dataclass
from functools import lru_cache
from io import FileIO
from pathlib import Path
from typing import Annotated, Any, BinaryIO, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from visionbench.record.errors import BenchError

T = TypeVar("T")

_Check = Callable[[Any], None]


class _UnknownFieldError(ValueError):
    """The names of fields that a type does not have."""


def decode_once(text: str) -> Any:
    """As `decode`, and a name that stands twice in an object is a ValueError: a careless merge leaves two of a row."""
    try:
        return json.loads(text, parse_constant=_finite, parse_float=_finite, object_pairs_hook=_once)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):
        twice = next(name for i, (name, _) in enumerate(pairs) if name in dict(pairs[:i]))
        raise ValueError(f"'{twice[:200]}' stands in it twice")
    return data


def decode(text: str | bytes) -> Any:
    """The value of a JSON text. Raises ValueError for text that is no JSON, or is nested too deeply to be ours."""
    import msgspec  # not needed for `--help`

    try:
        try:
            return msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeEncodeError):
            # `json` knows the line and the column, and reads the lone surrogates of a file name that is no UTF-8.
            return json.loads(text, parse_constant=_finite, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _finite(word: str) -> float:
    number = float(word)
    if not math.isfinite(number):
        raise ValueError(f"{word} is no finite number")
    return number


def typed(data: object, kind: type[T], what: str) -> T:
    """The dataclass `kind` from a decoded JSON value; `what` names it in a sentence ("record").

    Raises ValueError for a wrong type, a missing or unknown field, or a number that is too large.
    """
    import msgspec

    try:
        if check := _checker(cast(Hashable, kind)):
            check(data)
        return msgspec.convert(data, kind)
    except _UnknownFieldError as error:
        raise ValueError(f"unknown field in a {what}: {error}") from error
    except (msgspec.ValidationError, BenchError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"a {what} is wrong: {error}") from error


@lru_cache(maxsize=64)
def flat_reader(kind: type[T]) -> Callable[[bytes], tuple[T, ...]]:
    """What reads a JSON list of a dataclass that holds no other: as `decode` and `typed` do, in a third of the time.

    It raises ValueError, TypeError or `BenchError` where they raise ValueError, and they say better what is wrong.
    """
    import msgspec

    whole = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
    hints = get_type_hints(kind)
    fields = [
        (name, {int: whole, int | None: whole | None}.get(hint, msgspec.Raw), None) for name, hint in hints.items()
    ]
    # A dataclass is filled by msgspec whatever other fields there are; a struct of the same fields refuses them.
    allowed = msgspec.json.Decoder(list[msgspec.defstruct("Allowed", fields, forbid_unknown_fields=True)])  # type: ignore[misc]
    values = msgspec.json.Decoder(tuple[kind, ...])  # type: ignore[valid-type]
    numbers = [name for name, hint in hints.items() if _checker(hint) is _check_numbers]

    def read(text: bytes) -> tuple[T, ...]:
        allowed.decode(text)
        items = values.decode(text)
        for item in items:
            for name in numbers:
                _check_numbers(getattr(item, name))
        return items

    return read


@lru_cache(maxsize=256)
def _checker(kind: Any) -> _Check | None:
    """What finds unknown fields and too large numbers in the raw data of a type; None where neither can be."""
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return _fields_checker(frozenset(hints), [(name, c) for name, hint in hints.items() if (c := _checker(hint))])
    if kind is int:
        return _check_number
    inside = next((check for argument in get_args(kind) if (check := _checker(argument))), None)
    if inside is None:
        return None
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return inside
    if origin in (tuple, list):
        return _check_numbers if inside is _check_number else _each_checker(list, inside)
    return _each_checker(dict, inside)


def _fields_checker(names: frozenset[str], inside: list[tuple[str, _Check]]) -> _Check:
    def check(data: Any) -> None:
        if not isinstance(data, dict):
            return  # msgspec says what is wrong with it
        if not names.issuperset(data):
            raise _UnknownFieldError(", ".join(sorted(map(str, data.keys() - names))))
        for name, check_field in inside:
            if name in data:
                check_field(data[name])

    return check


def _each_checker(kind: type, inside: _Check) -> _Check:
    def check(data: Any) -> None:
        for value in _inside(data) if isinstance(data, kind) else ():
            inside(value)

    return check


def _check_number(value: Any) -> None:
    if value.__class__ is int and value.bit_length() > 63:
        raise ValueError("a whole number is too large")


def _check_numbers(values: Any) -> None:
    """Of thousands of iterations: the sum overflows if one of them does."""
    try:
        float(sum(values))
    except OverflowError as error:
        raise ValueError("a whole number is too large") from error
    except TypeError:
        return  # msgspec says what is wrong with it


DEEPEST = 100
"""How deeply a table of TOML may be nested: ours have four levels."""

_MANY_DOTS = re.compile(rf"(?<![\w\"'.-])(?:[\w\"'-]++\s*+\.\s*+){{{DEEPEST}}}")


def toml_of(text: str, parse_float: Callable[[str], Any] = float) -> dict[str, Any]:
    """The table of a TOML text.

    Raises ValueError for text that is no TOML, for numbers that no message could print, and for deep nesting: tomllib
    needs the square of a dotted key's length.
    """
    import tomllib  # not needed for `--help`

    if _MANY_DOTS.search(text):
        raise ValueError("it is nested too deeply")
    try:
        data = tomllib.loads(text, parse_float=parse_float)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    level: list[Any] = [data]
    for _ in range(DEEPEST):
        for value in level:
            _check_number(value)
        level = [inside for value in level for inside in _inside(value)]
        if not level:
            return data
    raise ValueError("it is nested too deeply")


def _inside(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


PIPE_SECONDS = 5.0
"""How long a named pipe may be empty before it counts as one without a writer."""


def opened(path: Path) -> BinaryIO:
    """A file to read from, as bytes; `<(zcat records.gz)` is one. Raises OSError where there is nothing to read.

    A device is none of our files: a link to `/dev/zero` could be read for ever. Nor is a pipe without a writer.
    """
    if is_device(path):
        raise OSError(errno.EINVAL, "it is a device", str(path))
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe without a writer is opened, too
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        named = stat.S_ISFIFO(mode) and Path(os.path.realpath(path)).exists()  # /dev/fd/63 has a writer, and no name
        if named and not select.select([descriptor], [], [], PIPE_SECONDS)[0]:
            raise OSError(errno.EAGAIN, "it is a pipe that no program writes to", str(path))
        os.set_blocking(descriptor, True)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def text_of(path: Path) -> str:
    """A file's text, without the mark of the byte order that some editors put before it.

    Raises OSError where it cannot be read, ValueError where it is no text or has an impossible name.
    """
    with opened(path) as file:
        data = file.read()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(other_than_text(data)) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def other_than_text(data: bytes) -> str:
    """What bytes are that are no text, as a clause."""
    if data.startswith((b"\x1f\x8b", b"PK\x03\x04", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ")):
        return "it is compressed; unpack it first"
    return "it is UTF-16 and not UTF-8" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "it is no text in UTF-8"


def is_device(path: Path) -> bool:
    """Whether that is a device. Of a path that cannot be looked at it is not said: opening it says what is wrong."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISCHR(mode) or stat.S_ISBLK(mode)


def reason(error: OSError | ValueError) -> str:
    """Why the operating system refused, as a clause: `no such file or directory`; a name with a NUL is a ValueError."""
    return (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)


@contextmanager
def reading(path: Path, what: str, remedy: str) -> Iterator[None]:
    """Turn what goes wrong while `path` is read into one sentence: it holds no `what`, and the remedy."""
    try:
        yield
    except OSError as error:
        raise BenchError(f"cannot read {path} ({reason(error)}): {remedy}.") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BenchError(f"{path} holds no {what} ({error}): {remedy}.") from error


def read_typed(path: Path, kind: type[T], what: str, remedy: str) -> T:
    """The dataclass that a JSON file holds. Raises `BenchError`, with the file's name and the remedy, for all else."""
    with reading(path, what, remedy):
        return typed(decode_once(text_of(path)), kind, f"file of {what}")


@contextmanager
def locked(path: Path, *, folders: bool = False) -> Iterator[None]:
    """Keep other processes from changing `path` while it is read, changed and written anew.

    The lock is on the folder: the file itself is replaced, and a lock on it would be one on the old file. The kernel
    takes it back from a process that dies. `folders`: make those that are missing. Raises `BenchError` where the folder
    cannot be locked.
    """
    descriptor = None
    try:
        folder = Path(os.path.realpath(path)).parent  # of the file that a link leads to: others may name it otherwise
        if folders:
            folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        if descriptor is not None:
            os.close(descriptor)
        raise BenchError(f"cannot write {path}: its folder cannot be locked ({reason(error)}).") from error
    try:
        yield
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Put a file's name on the disk, where the file system can: a new file's bytes alone are not enough."""
    with suppress(OSError):
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_whole(path: Path, content: str | bytes, remedy: str = "name another file", *, folders: bool = False) -> None:
    """Write a file in one piece: a reader, a full disk or a power cut meets the old file or the new one, not a half.

    A link stays one: what it leads to is written. A pipe or a device is written to as it is, and so is an old file that
    cannot be replaced (of another user, mounted by itself, or in a folder that cannot be written), once there is room.
    `folders`: make those that are missing. Raises `BenchError`, with the remedy, where it cannot be written.
    """
    # A lone surrogate, of a name that is no UTF-8, becomes the escape that JSON has for it.
    data = content if isinstance(content, bytes) else content.encode(errors="backslashreplace")
    with _writing(path, remedy):
        if folders:
            path.parent.mkdir(parents=True, exist_ok=True)
        old = _now_there(path)
        if old is not None and not _is_replaceable(old):
            _overwrite(path, data, _own_stream(old))
            return
        try:
            _replace(Path(os.path.realpath(path)), data, old)
        except OSError as error:
            if old is None or error.errno not in _IRREPLACEABLE:
                raise
            _overwrite(path, data)


@contextmanager
def _writing(path: Path, remedy: str) -> Iterator[None]:
    """Turn what goes wrong while `path` is written into one sentence with the remedy."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise BenchError(f"cannot write {path} ({reason(error)}): {remedy}.") from error


def check_room(path: Path, remedy: str = "name another file") -> None:
    """Raise `BenchError` now if `write_whole` could not write `path` later, after an hour of measuring."""
    with _writing(path, remedy):
        old = _now_there(path)
        if old is not None and (stat.S_ISDIR(old.st_mode) or not os.access(path, os.W_OK)):
            number = errno.EISDIR if stat.S_ISDIR(old.st_mode) else errno.EACCES
            raise OSError(number, os.strerror(number), str(path))
        if old is None or _is_replaceable(old):
            try:
                _write_beside(Path(os.path.realpath(path)), b"\n" * ROOM).unlink()
            except OSError as error:
                if old is None or error.errno not in _IRREPLACEABLE:
                    raise


ROOM = 4096
"""Bytes that must be free before anything is measured: about a record, or a small result."""

_IRREPLACEABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY, errno.EXDEV)
"""Why a folder lets no file take the place of another, whose content may be written all the same."""


def _now_there(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _is_replaceable(old: os.stat_result) -> bool:
    """Not a pipe or a device, nor what our own output goes to, nor another user's, which stays his."""
    ours = _own_stream(old) is not None
    return not ours and old.st_uid == os.geteuid() and (stat.S_ISREG(old.st_mode) or stat.S_ISDIR(old.st_mode))


def _own_stream(old: os.stat_result) -> int | None:
    """Our descriptor of it where our own output goes there: /dev/stdout, or the file that a shell put in its place."""
    for descriptor in (1, 2):
        with suppress(OSError):
            if os.path.samestat(old, os.fstat(descriptor)):
                return descriptor
    return None


def _replace(target: Path, data: bytes, old: os.stat_result | None) -> None:
    partial = _write_beside(target, data, None if old is None else stat.S_IMODE(old.st_mode))
    try:
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(target)


def _write_beside(target: Path, data: bytes, mode: int | None = None) -> Path:
    """A new file in the target's folder, with the data on the disk; none where that cannot be."""
    partial = target.with_name(f".{os.urandom(8).hex()}.part")  # of this write alone: process numbers repeat
    try:
        with partial.open("wb") as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:  # a Ctrl-C leaves nothing either
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    return partial


def _overwrite(path: Path, data: bytes, stream: int | None = None) -> None:
    """Write into what is there. The room of a longer file is taken before the old content goes.

    It is added to what our own `stream` has: what other programs wrote there stays, as with `>> file`.
    """
    if stream is not None:
        for text in filter(None, (sys.stdout, sys.stderr)):  # none where the shell has closed it
            text.flush()
        with open(stream, "wb", buffering=0, closefd=False) as file:
            _write(file, data)
        return
    regular = path.is_file()
    with path.open("r+b" if regular else "wb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if len(data) > size and regular and hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(file.fileno(), 0, len(data))
            except OSError as error:
                os.ftruncate(file.fileno(), size)
                if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                    raise
        _write(file, data)
        if regular:
            file.truncate(len(data))
            os.fsync(file.fileno())


def _write(file: FileIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
