"""Equal things said once: `blocks.{0..11}.norm1` stands for twelve layers.

What is folded here can be unfolded again exactly: a folded name stands for every combination of its numbers, and
nothing is folded that is not equal in all of them.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)

_NUMBER = re.compile(r"(?<!\d)(0|[1-9]\d*)(?!\d)")
_SET = re.compile(r"\{(\d[\d.,]*)\}")
_MOST = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold(Generic[T]):
    """Names that share one value: the pattern that stands for them, and how many they are."""

    pattern: str
    value: T
    count: int


def fold(items: Iterable[tuple[str, T]]) -> tuple[Fold[T], ...]:
    """Names of equal values that differ in their numbers alone, as one; in the order of the first of each."""
    entries: list[_Entry[T]] = []
    for name, value in items:
        parts = _NUMBER.split(name)
        entries.append((tuple(parts[::2]), tuple(frozenset({int(number)}) for number in parts[1::2]), value))
    for place in reversed(range(max((len(numbers) for _, numbers, _ in entries), default=0))):
        entries = _merged(entries, place)
    return tuple(
        Fold(pattern=_pattern(texts, numbers), value=value, count=math.prod(map(len, numbers)))
        for texts, numbers, value in entries
    )


_Entry = tuple[tuple[str, ...], tuple[frozenset[int], ...], T]
"""The texts between the numbers of a name, the numbers that stand at each place, the value."""


def _merged(entries: list[_Entry[T]], place: int) -> list[_Entry[T]]:
    """Entries that are equal but for their numbers at that place become one."""
    groups: dict[object, tuple[_Entry[T], set[int]]] = {}
    for index, entry in enumerate(entries):
        texts, numbers, value = entry
        folds = place < len(numbers)
        key = (texts, numbers[:place], numbers[place + 1 :], value) if folds else index
        groups.setdefault(key, (entry, set()))[1].update(numbers[place] if folds else ())
    return [
        (texts, (*numbers[:place], frozenset(found), *numbers[place + 1 :]) if found else numbers, value)
        for (texts, numbers, value), found in groups.values()
    ]


def _pattern(texts: tuple[str, ...], numbers: tuple[frozenset[int], ...]) -> str:
    written = [_set(sorted(found)) for found in numbers] + [""]
    return "".join(itertools.chain.from_iterable(zip(texts, written, strict=True)))


def _set(numbers: list[int]) -> str:
    """`3`, `{0,1}`, `{0..8}`, `{0..2,4}`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    words = [f"{run[0]}..{run[-1]}" if len(run) > 2 else ",".join(map(str, run)) for run in runs]
    return str(numbers[0]) if len(numbers) == 1 else f"{{{','.join(words)}}}"


def count_of(pattern: str) -> int:
    """How many names a pattern stands for. Raises ValueError for a malformed set."""
    return math.prod(sum(last - first + 1 for first, last in _runs(written)) for written in _SET.findall(pattern))


def unfold(pattern: str) -> tuple[str, ...]:
    """The names that a pattern of `fold` stands for. Raises ValueError for a malformed set."""
    parts = _SET.split(pattern)
    choices: list[list[str]] = [[part] for part in parts]
    for place in range(1, len(parts), 2):
        choices[place] = [str(number) for first, last in _runs(parts[place]) for number in range(first, last + 1)]
    return tuple("".join(chosen) for chosen in itertools.product(*choices))


def _runs(written: str) -> list[tuple[int, int]]:
    """The first and the last number of each run in a set."""
    runs = []
    for word in written.split(","):
        first, dots, last = word.partition("..")
        run = int(first), int(last if dots else first)
        if not 0 <= run[1] - run[0] <= _MOST:
            raise ValueError(f"too many layers in one line, or none: {word[:100]}")
        runs.append(run)
    return runs
