"""A TOML file that people write: its data, and in which line of it something stands."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from textwrap import shorten
from typing import Any

from visionbench.record.errors import BenchError
from visionbench.record.files import reason, text_of, toml_of


class Digits(float):
    """A number of the file that remembers how it is written: `4.50` is not `4.5`."""

    text: str

    def __new__(cls, text: str) -> Digits:
        """Raises ValueError as `float` does."""
        number = super().__new__(cls, text)
        number.text = text
        return number


@dataclass(frozen=True, slots=True, kw_only=True)
class TomlFile:
    """A file that was read: `data` as tomllib gives it, floats as `Digits`."""

    path: Path
    text: str
    data: dict[str, Any]

    def where(self, header: str = "", index: int = 0, key: str = "") -> str:
        """`mine.toml, line 12`: where `key` stands below the `index`-th `[[header]]`, or the nearest that is known."""
        lines = _lines(self.text)
        start = 0
        if header:
            heads = _heads(self.text, header)
            if not heads:
                return str(self.path)
            start = heads[min(index, len(heads) - 1)]
        named = re.compile(rf"(?:^|[\s{{,])[\"']?{re.escape(key)}[\"']?\s*=")
        for i in range(start + bool(header), len(lines)) if key else ():
            if lines[i].lstrip().startswith("[["):
                break
            if named.search(lines[i]):
                return f"{self.path}, line {i + 1}"
        return f"{self.path}, line {start + 1}"


@lru_cache(maxsize=8)
def _lines(text: str) -> list[str]:
    return text.splitlines()


@lru_cache(maxsize=32)
def _heads(text: str, header: str) -> list[int]:
    """In which lines `[[header]]` stands: looked for once, for a file has many rows."""
    lines = _lines(text)
    heads = [i for i, line in enumerate(lines) if re.match(rf"\s*\[\[\s*{re.escape(header)}\s*\]\]", line)]
    # An array written inline has no headers of its own: its key is the nearest.
    name = re.escape(header.rpartition(".")[2])
    return heads or [i for i, line in enumerate(lines) if re.match(rf"\s*{name}\s*=", line)]


def read_toml(path: Path) -> TomlFile:
    """The file's text and data. Raises `BenchError` for one that cannot be read or is no TOML."""
    try:
        text = text_of(path)
        return TomlFile(path=path, text=text, data=toml_of(text, parse_float=Digits))
    except OSError as error:
        raise BenchError(f"cannot read {path} ({reason(error)}): name a paper's file.") from error
    except ValueError as error:
        raise BenchError(f"{path} is no TOML ({error}): correct it.") from error


_WORDS: dict[type, str] = {str: "a text", int: "a whole number", list: "a list", dict: "a table", bool: "true or false"}


def check(place: str, data: Any, required: Mapping[str, type], optional: Mapping[str, type] | None = None) -> None:
    """Raise `BenchError` for keys that are unknown, missing or of another type; `place` begins the sentence."""
    known = {**required, **(optional or {})}
    if not isinstance(data, dict):
        raise BenchError(f"{place}: a table of TOML is expected: write key = value.")
    for key, value in data.items():
        if key not in known:
            raise BenchError(f"{place}: key '{key}' is unknown: write one of {', '.join(known) or 'none'}.")
        if type(value) is not known[key]:
            shown = "{...}" if isinstance(value, dict) else shorten(repr(value), 80, placeholder=" ...")
            # A list of tables has two brackets, and one is easily forgotten.
            as_list = known[key] is list and isinstance(value, dict)
            remedy = f"[[{key}]]" if as_list else _WORDS[known[key]]
            raise BenchError(f"{place}: {key} = {shown} is wrong: write {remedy}.")
    if missing := [key for key in required if key not in data]:
        raise BenchError(f"{place}: key '{missing[0]}' is missing: add it, {_WORDS[required[missing[0]]]}.")


def texts(place: str, key: str, values: Sequence[Any]) -> tuple[str, ...]:
    """A list of texts. Raises `BenchError` where one is something else."""
    if wrong := [value for value in values if not isinstance(value, str)]:
        raise BenchError(f"{place}: {key} holds {wrong[0]!r}: write texts in quotation marks.")
    return tuple(values)
