"""The one door for files: what is read is checked by the type that it should hold, what is written is whole.

Types are those of our own frozen dataclasses. msgspec reads JSON by their annotations in one pass in C, with a path to
what is wrong (`$.environment.threads`: expected `int`, got `str`); pydantic does the same in five times the start-up
time. Dataclasses take unknown fields in silence there, so each is read through a twin of it, a `msgspec.Struct` that
forbids them: an unknown field may change what a number means.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import msgspec

from visionbench.record.errors import BenchError

T = TypeVar("T")

LARGEST = 1e300
"""Numbers of a file beyond this are no measurement, and an integer beyond it is no float."""


def decoder(kind: type[T]) -> Callable[[bytes | str], T]:
    """A function from a JSON text to a `kind`. It raises ValueError, with the path to what is wrong, for any other."""
    decode = msgspec.json.Decoder(_strict(kind)).decode
    return lambda text: _checked(kind, lambda: decode(text))


def typed(kind: type[T], data: object) -> T:
    """A `kind` from plain data (dicts, lists, numbers). Raises ValueError for anything else."""
    return _checked(kind, lambda: msgspec.convert(data, _strict(kind)))


def plain(text: bytes | str) -> Any:
    """The plain data of a JSON text. Raises ValueError for a text that is none, nesting without end included."""
    return sound(lambda: msgspec.json.decode(text))


def _checked(kind: type[T], read: Callable[[], Any]) -> T:
    return cast(T, sound(lambda: msgspec.convert(read(), kind, from_attributes=True)))


def sound(read: Callable[[], Any]) -> Any:
    """What `read` returns. Raises ValueError for whatever msgspec, or a dataclass that it builds, refuses."""
    try:
        return read()
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except BenchError as error:  # a word that is not on its list
        raise ValueError(str(error)) from error


@cache
def _twin(kind: Hashable) -> type[msgspec.Struct]:
    """The same fields as a struct that refuses unknown ones. A file always says its `schema`, whatever the default."""
    hints = get_type_hints(kind)
    members: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for field in fields(cast(Any, kind)):
        hint = _strict(hints[field.name])
        if field.default_factory is not MISSING:
            members.append((field.name, hint, msgspec.field(default_factory=field.default_factory)))
        else:
            required = field.default is MISSING or field.name == "schema"
            members.append((field.name, hint, *(() if required else (field.default,))))
    return msgspec.defstruct(cast(Any, kind).__name__, members, kw_only=True, frozen=True, forbid_unknown_fields=True)


def _strict(hint: Any) -> Any:
    """A type with every dataclass in it replaced by its twin."""
    if is_dataclass(hint):
        return _twin(cast(Hashable, hint))
    parts = tuple(_strict(part) for part in get_args(hint))
    if parts == get_args(hint):
        return hint
    return Union[parts] if get_origin(hint) not in (tuple, list, dict) else get_origin(hint)[parts]  # noqa: UP007


def finite(value: float) -> bool:
    """Whether a number of a file can be computed with: finite, and within what a float holds."""
    return -LARGEST <= value <= LARGEST


def read_text(path: Path, remedy: str) -> str:
    """A file's text. Raises `BenchError`, which ends with the remedy, where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise BenchError(f"cannot read {path} ({reason(error)}): {remedy}.") from error


def write_whole(path: Path, text: str, remedy: str = "name another file") -> None:
    """Write a file in one piece: a reader sees the old one or the new one, also after a power cut.

    Two writers do not share a temporary name. Raises `BenchError`, which ends with the remedy, where it cannot be
    written; the old file is then as it was.
    """
    partial = ""
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", suffix=".part", delete=False
        ) as file:
            partial = file.name
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), 0o666 & ~_umask())
            os.fsync(file.fileno())
        Path(partial).replace(path)
    except OSError as error:
        with suppress(OSError):
            if partial:
                Path(partial).unlink()
        raise BenchError(f"cannot write {path} ({reason(error)}): {remedy}.") from error


@cache
def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def reason(error: OSError) -> str:
    """Why the system refused, in lower case: `no space left on device`."""
    return (error.strerror or str(error)).lower()
