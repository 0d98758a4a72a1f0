"""Seeded mutation of files: what a stranger, a bad disk or another program may make of one of ours.

Two ways: a value somewhere inside the data becomes another one (wrong type, huge, hostile text, missing, repeated),
and bytes of the file are cut, doubled, swapped or replaced without regard to what they mean.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

HOSTILE = (
    "", "\x1b[31mred\x07", "\x1b]0;title\x07", "a\nb\r\nc", "\n::error title=x::y", "::stop-commands::x", "##[error]x",
    "=1+cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\u202egnp.exe", "\u2066x\u2069", "\u200f", "\x00", "\x85\u2028",
    "<script>alert(1)</script>", "user:evil:factory", "user:os:system", "timm:" + "a" * 300, "{0..99999}{0..99999}",
    "{5..0}.{9..0}", "nan", "1e999", "é" * 50, "a|b`c`*d*_e_[f](g)", "\\input{x}$%&#_{}~^", "2026-13-45T99:99:99",
    "0001-01-01", "\ud800", "%s%n{}", "../../etc/passwd", "true", "  ", "\t",
)  # fmt: skip
NUMBERS = (
    0, 1, -1, 2, 7, 63, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 10**30, 10**300, 10**400, 0.0, -0.0, 0.5, 1e-300, 5e-324,
    1e300, 1.7e308, -1e308, 1e16, 0.1,
)  # fmt: skip
OTHERS: tuple[Callable[[], Any], ...] = (
    lambda: None,
    lambda: True,
    lambda: False,
    list,
    dict,
    lambda: [[]],
    lambda: [None],
    lambda: {"": {}},
    lambda: {"schema": 2},
    lambda: DEEP,
    lambda: [0] * 500,
    lambda: "x" * 20_000,
)


DEEP = "nested 3000 times"
"""Stands for brackets that no encoder of ours would write."""


def any_value(rng: random.Random) -> Any:
    kind = rng.random()
    return rng.choice(HOSTILE) if kind < 0.4 else rng.choice(NUMBERS) if kind < 0.75 else rng.choice(OTHERS)()


def places(data: Any, limit: int = 4000) -> list[tuple[Any, Any]]:
    """Every (container, key) of nested data, the shallow ones first."""
    reached: list[tuple[Any, Any]] = []
    queue = [data]
    while queue and len(reached) < limit:
        here = queue.pop(0)
        keys = list(here) if isinstance(here, dict) else range(len(here)) if isinstance(here, list) else ()
        reached += [(here, key) for key in keys]
        queue += [here[key] for key in keys if isinstance(here[key], (dict, list))]
    return reached


def changed(data: Any, rng: random.Random) -> Any:
    """The data with one to three values changed, dropped, doubled or renamed."""
    data = copy.deepcopy(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        known = places(data)
        if not known:
            return any_value(rng)
        here, key = rng.choice(known)
        how = rng.random()
        if how < 0.7:
            here[key] = _like(here[key], rng) if rng.random() < 0.5 else any_value(rng)
        elif how < 0.8:
            del here[key]
        elif how < 0.9 and isinstance(here, list):
            here[:] = (here * 40)[:400] if rng.random() < 0.5 else here[::-1]
        elif isinstance(here, dict):
            here[rng.choice(HOSTILE)] = here.pop(key) if rng.random() < 0.5 else any_value(rng)
    return data


def _like(value: Any, rng: random.Random) -> Any:
    """Another value of the same type, so that it passes the door and is met behind it."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return rng.choice([number for number in NUMBERS if isinstance(number, int)])
    if isinstance(value, float):
        return float(rng.choice([number for number in NUMBERS if isinstance(number, float)]))
    if isinstance(value, str):
        return rng.choice(HOSTILE)
    if isinstance(value, list):
        return [_like(entry, rng) for entry in value] if value and rng.random() < 0.7 else []
    return any_value(rng)


def torn(text: str, rng: random.Random) -> bytes:
    """The bytes of a text with some of them cut, doubled, swapped or replaced."""
    data = bytearray(text.encode(errors="surrogatepass"))
    for _ in range(rng.choice((1, 1, 2, 5))):
        first, last = sorted(rng.randrange(len(data) + 1) for _ in range(2))
        last = min(last, first + rng.choice((1, 4, 64, 100_000)))
        how = rng.randrange(6)
        if how == 0:
            del data[first:]
        elif how == 1:
            del data[first:last]
        elif how == 2:
            data[first:first] = data[first:last]
        elif how == 3:
            data[first:last] = rng.randbytes(min(last - first, 8))
        elif how == 4:
            data[first:first] = rng.choice((b"\x00", b"\xff\xfe", b"[" * 3000, b'{"a":' * 3000, b"9" * 5000, b"e999"))
        else:
            data[first:first] = rng.choice(
                (b"<<<<<<< HEAD\n", b"\n\n", b"\r", b",", b'"', b"}", b"]", b"NaN", b"1e400")
            )
        if not data:
            break
    return bytes(data)


def json_files(text: str, rng: random.Random, *, lines: bool) -> Iterator[bytes]:
    """Endless mutations of a file of JSON, or of JSON lines."""
    parts = [json.loads(line) for line in text.split("\n") if line.strip()] if lines else [json.loads(text)]
    while True:
        if rng.random() < 0.3:
            yield torn(text, rng)
            continue
        kept = list(parts)
        place = rng.randrange(len(kept))
        kept[place] = changed(kept[place], rng)
        written = "\n".join(json.dumps(part, ensure_ascii=rng.random() < 0.5) for part in kept) + "\n"
        written = written.replace(f'"{DEEP}"', "[" * 3000 + "]" * 3000)
        yield written.encode(errors="surrogatepass" if rng.random() < 0.2 else "backslashreplace")


def text_files(text: str, rng: random.Random, separators: str) -> Iterator[bytes]:
    """Endless mutations of a table or a TOML file: fields between the separators become hostile, or bytes are torn."""
    while True:
        if rng.random() < 0.4:
            yield torn(text, rng)
            continue
        rows = text.splitlines()
        place = rng.randrange(len(rows))
        sign = rng.choice(separators)
        fields = rows[place].split(sign)
        value = any_value(rng)
        fields[rng.randrange(len(fields))] = rng.choice((str(value)[:30_000], json.dumps(str(value)[:30_000])))
        rows[place] = sign.join(fields)
        yield ("\n".join(rows) + "\n").encode(errors="surrogatepass")
