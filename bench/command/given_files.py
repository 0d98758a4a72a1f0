"""Files that a command names: none may be read and written over at once, and no result takes a measurement's place."""

from __future__ import annotations

import os
import stat
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from visionbench.record import files, store
from visionbench.record.errors import BenchError

_WRITTEN = {"file": "--output"} | {name: f"--{name}" for name in ("output", "summary", "junit", "gab", "bmf")}
"""What a request calls a file that is written anew, and the option that names it."""


def check(words: Namespace) -> None:
    """Raise `BenchError` where a file would be written twice, or over what is read, measured into, or was measured."""
    given = vars(words)
    used = {_identity(path) for name, value in given.items() if name not in _WRITTEN for path in _paths(value)}
    written: dict[object, str] = {}
    for name, option in _WRITTEN.items():
        path = given.get(name)
        if not isinstance(path, Path) or (identity := _identity(path)) is None:
            continue
        if identity in used or written.get(identity) == option:  # `table import FILE`: a request calls it a file, too
            raise BenchError(f"{path} is read, and {option} would write over it: name another file with {option}.")
        if identity in written:
            raise BenchError(f"{path} would be written twice, by {written[identity]} and {option}: name two files.")
        written[identity] = option
        _refuse_to_lose(path)


def _refuse_to_lose(path: Path) -> None:
    """Raise `BenchError` for a file that holds measurements: they took hours, and a table is made again at once."""
    try:
        start = b""
        if path.is_file():
            with files.opened(path) as file:
                start = file.read(4096)
    except (OSError, ValueError):
        return  # who writes it says why it cannot
    if start.startswith(store.HEAD) or (start.startswith(b'{"name":') and b'"baseline":{"label":' in start):
        raise BenchError(f"{path} holds measurements, which would be lost: name another file, or remove it.")


def _paths(value: Any) -> Iterator[Path]:
    """The files among a request's values. A word names one where it has an ending, as `mine.toml` has."""
    for item in value if isinstance(value, (list, tuple)) else (value,):
        if isinstance(item, Path):
            yield item
        elif isinstance(item, str) and Path(item).suffix:
            yield Path(item)


def _identity(path: Path) -> object:
    """What is equal for two names of one file. None for a pipe, a terminal or a device, which nothing is lost in."""
    try:
        there = path.stat()
    except OSError:
        return os.path.realpath(path)
    except ValueError:
        return None
    return (there.st_dev, there.st_ino) if stat.S_ISREG(there.st_mode) else None
