"""What a cell of a printed table says: digits in the unit of a paper's file, or that it is no number."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from visionbench.reports.printed import DIGITS

MEGA, GIGA = 6, 9
EXPONENTS = {"": 0, "k": 3, "m": 6, "b": 9, "g": 9, "t": 12}
"""What a suffix, or a unit in the header, means as a power of ten."""

UNITS = {"params": MEGA, "flops": GIGA, "memory": GIGA}
"""The powers of ten that a paper's file has: params in M, FLOPs in G, memory in GB."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column that is read: the key of a paper's file, and the power of ten that its header gives, None for none.
    Of a cell with several numbers, `82.1 / 95.9`, it is the `part`-th of `parts`.
    """

    key: str
    word: str
    exponent: int | None
    part: int = 0
    parts: int = 1


RAISED = str.maketrans({digit: f"^{i}" for i, digit in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")})
"""Raised digits, as `^2` writes them."""


def part_of(text: str, column: Column) -> str:
    """The text of one column of a cell that may hold several."""
    if column.parts == 1 or text.lower() in _MISSING:
        return text
    parts = re.split(r"\s*[/|]\s*", text)
    return parts[column.part] if column.part < len(parts) else ""


_MISSING = frozenset(("", "-", "--", "---", "–", "—", "n/a", "na", "n.a", "nan", "none", "?", "/", "✗", "×"))

_DIGITS = re.compile(
    r"(\d+(?:\.\d+)?|\.\d+)(?:(?:[x×·]10\^?|e\+?)(\d{1,2}))?"
    r"(?:(k|m|b|g|t)(?:illions?|il|io|ln|flops?|macs?|madds?|params?|i?b)?)?"
    r"(?:flops|fps|(?:im|img|image|sample|frame)s?(?:/|per)s(?:ec(?:ond)?)?)?",
    re.ASCII,
)


_REFERENCE = re.compile(r"\s*\[(\d+(\s*[,–-]\s*\d+)*|paper|code|arxiv|link)\]")
"""What a label has in brackets and is no part of a name."""


def value_of(column: Column, text: str) -> str | None:
    """A cell's text as a paper's file has it, of an error the accuracy; "" for an empty cell, None for what cannot be
    read.
    """
    if column.key in ("label", "section", "variant", "images"):
        return _REFERENCE.sub("", text.replace("\u2009", " ")).strip()
    if column.key == "size":
        return _size(text)
    number = _number(column, text)
    if number and column.key == "error":
        number = f"{100 - Decimal(number):f}"
    return number if number == "" or (number and DIGITS.fullmatch(number)) else None


def _size(text: str) -> str | None:
    plain = re.sub(r"\^\{?2\}?|²|\*\*2|[†‡§¶*]|px|pixels", "", text.lower())
    plain = re.sub(r"\(.*?\)|\[.*?\]", "", plain).strip() or plain.strip(" ()[]")
    plain = re.sub(r"^([1-9]\d\d|10\d\d)2$", r"\1", plain)  # 224² that lost its height in a copy
    if plain in _MISSING:
        return ""
    sides = re.fullmatch(r"(?:3\s*[x×,]\s*)?(\d+)(?:\s*[x×,]\s*(\d+))?(?:\s*[x×,]\s*3)?", plain, re.ASCII)
    if not sides:
        return None
    height, width = int(sides.group(1)), int(sides.group(2) or sides.group(1))
    if not all(8 <= side <= 10_000 for side in (height, width)):
        return None
    return f"{height}" if height == width else f"{height}x{width}"


def _number(column: Column, text: str) -> str | None:
    """The digits of a printed number in the unit of its key.

    A comma parts thousands; `25,6` is no number.
    """
    plain = re.sub(r"\(.*?\)|\[.*?\]", "", text.translate(RAISED).replace("−", "-").replace("+-", "±").lower())
    plain = re.sub(r"(?<=[\w%])\s*[+↑↓▲▼±]\s*[\d.]+.*|[_^]?\s*±.*", "", plain)  # gains and errors
    plain = re.sub(r"\^?[%*†‡§¶↑↓▲▼~≈⚗]|(?<!10)[_^].*", "", plain)  # marks, and what is raised or lowered
    plain = re.sub(r"(?<=\d)[,'\u2009\u202f](?=\d{3}(?!\d))", "", plain.strip())
    if plain.strip(".") in _MISSING:
        return ""
    plain = re.sub(r"(?<=\d)\s+(?=[a-z×])|(?<=[x×])\s+(?=10)|(?<=[a-z])\s*(?=/|per)|(?<=/|r)\s+(?=s)", "", plain)
    plain = re.sub(r"^(\d[\d.]*[kmgbt])\s+(?=[a-z])", r"\1", plain)
    if not (match := _DIGITS.fullmatch(plain)):
        return None
    digits, power, suffix = match.groups()
    digits = re.sub(r"^0+(?=\d)", "", digits)  # `07.8` is padded, and TOML has no such number
    unit = UNITS.get(column.key)
    if column.key in ("top1", "error") and float(digits) > 100:
        return None  # no share is larger
    if unit is None:
        shift = {None: 0, "k": 3}.get(suffix if "img/s" in column.key else suffix and "no")
        if column.key in ("top1", "error") and float(digits) < 1 and "." in digits and "%" not in text:
            shift = 2  # a share of 1
        return None if shift is None or power else _moved(digits, shift)
    plainly_counted = column.exponent is None and column.key != "memory" and float(digits) >= A_COUNT
    exponent = column.exponent if column.exponent is not None else 0 if plainly_counted else unit
    if power or suffix:
        exponent = int(power or 0) + EXPONENTS[suffix or ""]
    if column.key == "flops" and suffix == "k":
        return None
    return _moved(digits, exponent - unit)


A_COUNT = 100_000
"""A number without a unit that is as large is no number of millions."""


def _moved(digits: str, places: int) -> str:
    """The decimal point moved and no digit lost: 305 M -> 0.305 G."""
    return f"{Decimal(digits).scaleb(places):f}" if places or digits.startswith(".") else digits
